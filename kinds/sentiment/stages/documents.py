"""The stage `documents`: finds the entities that each document is about, and its mood towards them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime

from jobs.documents.document import Document, document_digest, version_number
from jobs.inference import LabelProbabilities, TextPair, classified
from jobs.kind import Artifact, Context, Parent, Result
from jobs.rejection import REFUSED, Refusal
from jobs.text.plain import normalise
from kinds.sentiment.documents.blocks import analysed_line, parse_block
from kinds.sentiment.documents.language import LANGUAGE_UNSUPPORTED
from kinds.sentiment.documents.linking import Link, Passage
from kinds.sentiment.entity_links import (
    AMBIGUOUS,
    Analysis,
    PreparedWatchlist,
    Refuse,
    link_documents,
    prepare_watchlist,
)
from kinds.sentiment.history import AnalysedDocuments, Classifications, DocumentFacts, History
from kinds.sentiment.payload import MOODS, DocumentsOutput, DocumentsPayload, SentimentSettings
from kinds.sentiment.series.mention import Mention


def analyse_documents(payload: DocumentsPayload, settings: SentimentSettings, context: Context) -> Result:
    """Clean, link and classify the documents of a block. Raises whatever the ports raise."""
    block = payload.documents or parse_block(context.resources.read(payload.block_sha256 or ""))
    documents = _latest(block)
    watched = context.resources.load(settings.watchlist_sha256, prepare_watchlist)
    refused: dict[str, Refusal] = {}

    def refuse(document: Document, refusal: Refusal) -> None:
        refused[document.id] = refusal

    analyses = link_documents(
        documents, watched, context.inference, embedder=settings.embedder, refuse=refuse
    )
    analyses, classifications = _classify(analyses, context, refuse)
    facts = [_facts(analysis) for analysis in analyses]
    mentions = [mention for analysis in analyses for mention in analysis.mentions]
    lines = [
        analysed_line(analysis.prepared, analysis.mentions, flags=analysis.flags) for analysis in analyses
    ]
    output = DocumentsOutput(
        since=_since(analyses, documents, watched, settings, context),
        until=max(document.published_at for document in documents),
        num_flagged=_num_flagged(analyses),
        refused=refused,
    )
    return Result(
        artifacts=(Artifact(name="documents.jsonl", media_type="application/jsonl", body=b"".join(lines)),),
        output=output,
        metrics=_metrics(analyses, output),
        records=(
            AnalysedDocuments(
                monitor_id=settings.monitor_id,
                analysis=settings.analysis,
                documents=facts,
                mentions=mentions,
            ),
            *([classifications] if classifications.probabilities else []),
        ),
        parents=(
            Parent("watchlist", watched.watchlist.name, settings.watchlist_sha256),
            Parent("classifier", "probabilities", classifications.model_sha256),
            *(Parent("document", document.id, document.sha256) for document in facts),
        ),
    )


def _classify(
    analyses: Sequence[Analysis], context: Context, refuse: Refuse
) -> tuple[list[Analysis], Classifications]:
    """Fill in the mentions of the analyses, taking known answers of the classifier from the history.

    A document with a passage that the classifier cannot process is refused and is not among the analyses
    returned.
    """
    pairs = {
        passage: question(passage)
        for analysis in analyses
        for link in analysis.links
        for passage in link.passages
    }
    digests = {passage: pair_digest(pair) for passage, pair in pairs.items()}
    model_sha256 = context.inference.model_sha256()
    history = context.port(History)
    known = history.classifications(model_sha256, list(set(digests.values()))) if digests else {}
    missing = {digests[passage]: pair for passage, pair in pairs.items() if digests[passage] not in known}
    answers = dict(zip(missing, classified(list(missing.values()), context.inference), strict=True))
    new = {digest: _moods(answer) for digest, answer in answers.items() if not isinstance(answer, Refusal)}
    refused = {digest: answer for digest, answer in answers.items() if isinstance(answer, Refusal)}
    answered = {
        passage: probabilities
        for passage, digest in digests.items()
        if (probabilities := known.get(digest) or new.get(digest)) is not None
    }
    classified_analyses = []
    for analysis in analyses:
        passages = [passage for link in analysis.links for passage in link.passages]
        failed = next((each for each in passages if each not in answered), None)
        if failed is not None:
            refuse(analysis.prepared.document, refused[digests[failed]])
            continue
        analysis.mentions = [
            _mention(analysis, link, *decisive_passage(link.passages, answered)) for link in analysis.links
        ]
        classified_analyses.append(analysis)
    return classified_analyses, Classifications(
        model_sha256=model_sha256,
        probabilities=[(digest, *probabilities) for digest, probabilities in new.items()],
    )


def _moods(answer: LabelProbabilities) -> tuple[float, float, float]:
    negative, neutral, positive = answer.of(MOODS)
    return negative, neutral, positive


def question(passage: Passage) -> TextPair:
    """Return the text and target that the classifier receives for a passage."""
    return TextPair(normalise(passage.sentence), normalise(passage.target))


def decisive_passage(
    passages: Sequence[Passage], answered: Mapping[Passage, tuple[float, float, float]]
) -> tuple[Passage, tuple[float, float, float]]:
    """Return the least neutral passage, which determines the mood, and its probabilities."""
    passage = min(passages, key=lambda each: answered[each][MOODS.index("neutral")])
    return passage, answered[passage]


def _latest(documents: Iterable[Document]) -> list[Document]:
    """Return one document per id; of several versions in a block, the one published last."""
    latest: dict[str, Document] = {}
    for document in documents:
        other = latest.get(document.id)
        if other is None or version_number(document) > version_number(other):
            latest[document.id] = document
    return list(latest.values())


def pair_digest(pair: TextPair) -> bytes:
    """Return the key of a classifier input: the SHA-256 of text and target, joined by NUL."""
    return hashlib.sha256(f"{pair.text}\0{pair.target}".encode()).digest()


def _mention(
    analysis: Analysis, link: Link, passage: Passage, probabilities: tuple[float, float, float]
) -> Mention:
    document = analysis.prepared.document
    negative, neutral, positive = probabilities
    return Mention(
        document_id=document.id,
        entity_id=link.entity_id,
        published_at=document.published_at,
        relevance=link.relevance,
        topic=analysis.topic,
        p_negative=negative,
        p_neutral=neutral,
        p_positive=positive,
        sentence=passage.sentence,
        title=analysis.prepared.title,
        source=document.source,
        signature=analysis.prepared.signature,
    )


def _facts(analysis: Analysis) -> DocumentFacts:
    document = analysis.prepared.document
    return DocumentFacts(
        id=document.id,
        sha256=document_digest(document),
        published_at=document.published_at,
        language=analysis.prepared.language,
        num_mentions=len(analysis.mentions),
        flags=analysis.flags,
        record=bytes.fromhex(document.record) if document.record is not None else None,
    )


def _names_nobody(analysis: Analysis) -> bool:
    """Return whether a document names no entity.

    Returns False if this could not be decided, because the language is not supported or a name is ambiguous.
    """
    return not analysis.links and not {LANGUAGE_UNSUPPORTED, AMBIGUOUS} & set(analysis.flags)


def _since(
    analyses: Sequence[Analysis],
    documents: Sequence[Document],
    watched: PreparedWatchlist,
    settings: SentimentSettings,
    context: Context,
) -> dict[int, datetime]:
    """Return the time of each entity's earliest change, by the entity's position in the watch list.

    Entities that an earlier version of a document mentions are included, because their series change if the
    new version no longer mentions them.
    """
    since: dict[int, datetime] = {}

    def note(entity_ids: Iterable[str], instant: datetime) -> None:
        for entity_id in entity_ids:
            position = watched.positions.get(entity_id)
            if position is not None:  # None if only an earlier watch list had the entity
                since[position] = min(instant, since.get(position, instant))

    known = context.port(History).documents(settings.monitor_id, [document.id for document in documents])
    for document in known.values():
        note(document.entity_ids, document.published_at)
    for analysis in analyses:
        note((link.entity_id for link in analysis.links), analysis.prepared.document.published_at)
    return dict(sorted(since.items()))


def _num_flagged(analyses: Sequence[Analysis]) -> dict[str, int]:
    flags = Counter(flag for analysis in analyses for flag in set(analysis.flags))
    return dict(sorted(flags.items()))


def _metrics(analyses: Sequence[Analysis], output: DocumentsOutput) -> dict[str, object]:
    refused = {id_: asdict(refusal) for id_, refusal in output.refused.items()}
    return {
        "num_documents": len(analyses),
        "num_mentions": sum(len(analysis.mentions) for analysis in analyses),
        "num_unlinked": sum(_names_nobody(analysis) for analysis in analyses),
        "num_flagged": dict(output.num_flagged),
        **({REFUSED: refused} if refused else {}),
    }
