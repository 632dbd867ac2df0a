"""Determines which entities and topics documents are about, by name and, where it helps, by meaning."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from jobs.documents.document import Document
from jobs.inference import Inference, embedded
from jobs.rejection import Refusal, attempt
from kinds.sentiment.documents.linking import (
    MIN_ENTITY_SIMILARITY,
    MIN_MARGIN,
    Link,
    Linker,
    Passage,
    Vector,
    settle,
    similarities,
    topic_links,
)
from kinds.sentiment.documents.prepare import Prepared, prepare
from kinds.sentiment.documents.watchlist import Entity, EntityKind, Watchlist
from kinds.sentiment.series.mention import Mention


@dataclass(frozen=True, slots=True)
class PreparedWatchlist:
    """A watch list with its linker, and its entities and their positions by id."""

    watchlist: Watchlist
    linker: Linker
    entities: Mapping[str, Entity]
    positions: Mapping[str, int]
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Lock held while a block is prepared or windows are computed. Because of the interpreter lock, several
    of these computations at once are no faster, and slower where they often release that lock, as numpy
    does."""


def prepare_watchlist(body: bytes) -> PreparedWatchlist:
    """Load the watch list from the body of its resource."""
    watchlist = Watchlist.model_validate_json(body)
    return PreparedWatchlist(
        watchlist,
        Linker(watchlist),
        {entity.id: entity for entity in watchlist.entities},
        {entity.id: position for position, entity in enumerate(watchlist.entities)},
    )


AMBIGUOUS = "ambiguous_name"
"""Flag of a document with a name that was left unlinked: several entities share it or it is a common word,
and there is no evidence to decide."""

TOPIC_RELEVANCE = 100
"""Relevance of a topic at a cosine of 1. The relevance of a topic that no alias names is its cosine in per
cent."""

MAX_EMBEDDED_CHARACTERS = 600
"""Maximum characters of a document to embed: its beginning shows what it is about, and the embedder reads no
more than 128 to 256 tokens."""


Refuse = Callable[[Document, Refusal], None]
"""A function that receives a document that cannot be analysed, and the reason."""


@dataclass(slots=True)
class Analysis:
    """The analysis of one document; it has no mentions until it is classified."""

    prepared: Prepared
    links: list[Link]
    topic: str | None
    flags: tuple[str, ...]
    mentions: list[Mention] = field(default_factory=list)


def link_documents(
    documents: Sequence[Document],
    watchlist: PreparedWatchlist,
    inference: Inference,
    *,
    embedder: str | None,
    refuse: Refuse,
) -> list[Analysis]:
    """Prepare and link each document, in order; without an embedder, documents are linked by names alone.

    A document that cannot be prepared, linked or embedded is refused without affecting the others.
    """

    def link(document: Document) -> tuple[Prepared, list[Link]]:
        prepared = prepare(document)
        return prepared, watchlist.linker.link(prepared) if prepared.is_supported else []

    rows: list[tuple[Prepared, list[Link]]] = []
    with watchlist.turn:
        for document in documents:
            row = attempt(link, document)
            if isinstance(row, Refusal):
                refuse(document, row)
            else:
                rows.append(row)
    vectors = _vectors([row[0] for row in rows], [row[1] for row in rows], watchlist, inference, embedder)
    analyses = []
    for place, (prepared, links) in enumerate(rows):
        if (refusal := vectors.refused.get(place)) is not None:
            refuse(prepared.document, refusal)
        else:
            analyses.append(_analysis(prepared, links, vectors.documents.get(place), vectors, watchlist))
    return analyses


def _analysis(
    prepared: Prepared,
    links: list[Link],
    vector: Vector | None,
    vectors: _Vectors,
    watchlist: PreparedWatchlist,
) -> Analysis:
    """Settle ambiguous links by the document's vector, and add the topics that it is about."""
    near = {} if vector is None else similarities(vector, vectors.entities)
    settled, is_dropped = settle(links, near, min_score=MIN_ENTITY_SIMILARITY, min_margin=MIN_MARGIN)
    topics = {} if vector is None else topic_links(vector, vectors.topics)
    named = {link.entity_id for link in settled}
    settled += [
        _topic_link(prepared, topic, cosine) for topic, cosine in topics.items() if topic not in named
    ]
    return Analysis(
        prepared=prepared,
        links=settled,
        topic=next(iter(topics), None) or _named_topic(settled, watchlist),
        flags=(*prepared.flags, *([AMBIGUOUS] if is_dropped else [])),
    )


@dataclass(frozen=True, slots=True)
class _Vectors:
    documents: Mapping[int, Vector]
    entities: Mapping[str, Vector]
    topics: Mapping[str, Vector]
    refused: Mapping[int, Refusal]
    """Refusals of documents whose text the embedder cannot process, by position."""


def _vectors(
    prepared: Sequence[Prepared],
    links: Sequence[Sequence[Link]],
    watchlist: PreparedWatchlist,
    inference: Inference,
    embedder: str | None,
) -> _Vectors:
    """Embed the documents with an ambiguous name, or all documents if there are topics with a description."""
    if embedder is None:
        return _Vectors({}, {}, {}, {})
    described = [entity for entity in watchlist.watchlist.entities if entity.description]
    has_topics = any(entity.kind is EntityKind.TOPIC for entity in described)
    places = [
        place
        for place, own in enumerate(links)
        if prepared[place].is_supported and (has_topics or any(link.is_ambiguous for link in own))
    ]
    if not places or not described:
        return _Vectors({}, {}, {}, {})
    texts = [prepared[place].text[:MAX_EMBEDDED_CHARACTERS] for place in places]
    texts += [f"{entity.name}. {entity.description}" for entity in described]
    vectors = [
        row if isinstance(row, Refusal) else np.asarray(row, np.float32)
        for row in embedded(texts, inference, model=embedder)
    ]
    of_entities = zip((entity.id for entity in described), vectors[len(places) :], strict=True)
    entities = {entity_id: vector for entity_id, vector in of_entities if not isinstance(vector, Refusal)}
    topics = {
        entity.id: entities[entity.id]
        for entity in described
        if entity.kind is EntityKind.TOPIC and entity.id in entities
    }
    own = dict(zip(places, vectors, strict=False))
    return _Vectors(
        {place: vector for place, vector in own.items() if not isinstance(vector, Refusal)},
        entities,
        topics,
        {place: vector for place, vector in own.items() if isinstance(vector, Refusal)},
    )


def _topic_link(prepared: Prepared, topic: str, cosine: float) -> Link:
    """Return a link to a topic that a document does not name; the passage is the first sentence."""
    begin, end = prepared.sentences[0] if prepared.sentences else (0, len(prepared.text))
    return Link(
        entity_id=topic,
        relevance=round(TOPIC_RELEVANCE * max(0.0, min(1.0, cosine))),
        passages=(Passage(prepared.text[begin:end], target=""),),
        start=begin,
        is_ambiguous=False,
        num_mentions=0,
    )


def _named_topic(links: Sequence[Link], watchlist: PreparedWatchlist) -> str | None:
    named = [link for link in links if watchlist.entities[link.entity_id].kind is EntityKind.TOPIC]
    return max(named, key=lambda link: link.relevance).entity_id if named else None
