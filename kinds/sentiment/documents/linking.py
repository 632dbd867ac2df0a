"""Determines which entities of a watch list a document is about, to what degree, and in which passages.

Entities are found by their names. Embeddings find topics that are not named, and decide on names that several
entities share or that are also common words. All vectors have length 1, so a dot product is a cosine. The
thresholds are those of MiniLM (all-minilm-l6-v2), measured by benchmarks/linking.py.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinds.sentiment.documents.names import Finder, Place
from kinds.sentiment.documents.prepare import Prepared, Span
from kinds.sentiment.documents.watchlist import Watchlist

Vector = NDArray[np.float32]

MIN_TOPIC_SIMILARITY = 0.45
"""Minimum cosine of a topic. Measured for eight topics in 5,000 headlines: 83% of the headlines above it
contain the topic's name, and half of those that do not are still about the topic. Between 0.40 and 0.45, only
a seventh of the headlines without the name are about it."""
MIN_ENTITY_SIMILARITY = 0.3
"""Minimum cosine of an entity whose name is also a common word. 78% of posts on Apple and 97% of those on
Ford lie above it, but only 5% of headlines on price targets do when compared with the description of the
retailer Target."""
MIN_MARGIN = 0.15
"""Minimum difference between the cosines of two entities that share a name. With it, 87% of decisions are
right and 94% of mentions are left undecided. At 0.05, only 60% are right, because descriptions say what a
company does, and most headlines do not."""


def similarities(document_vector: Vector, vectors: Mapping[str, Vector]) -> dict[str, float]:
    """Return the cosines of a document's vector, shape (width,), with other vectors of the same shape."""
    if not vectors:
        return {}
    products = np.stack(list(vectors.values())) @ document_vector
    return dict(zip(vectors, products.tolist(), strict=True))


def topic_links(
    document_vector: Vector,
    topic_vectors: Mapping[str, Vector],
    *,
    min_similarity: float = MIN_TOPIC_SIMILARITY,
) -> dict[str, float]:
    """Return the topics whose descriptions are near the document, with their cosines, nearest first."""
    cosines = similarities(document_vector, topic_vectors)
    ranked = sorted(cosines.items(), key=lambda item: item[1], reverse=True)
    return {topic: cosine for topic, cosine in ranked if cosine >= min_similarity}


def nearest(
    cosines: Mapping[str, float],
    *,
    min_similarity: float = MIN_ENTITY_SIMILARITY,
    min_margin: float = MIN_MARGIN,
) -> str | None:
    """Return the key of the largest cosine; None if there is no clear one.

    A clear one is at least `min_similarity` and exceeds the second by at least `min_margin`.

    >>> nearest({"apple": 0.4, "apple-bank": 0.1}), nearest({"apple": 0.4, "apple-bank": 0.39})
    ('apple', None)
    """
    ranked = sorted(cosines.items(), key=lambda item: item[1], reverse=True)
    if not ranked or ranked[0][1] < min_similarity:
        return None
    if len(ranked) > 1 and ranked[0][1] - ranked[1][1] < min_margin:
        return None
    return ranked[0][0]


_BOUNDARY = re.compile(
    r"(?:(?<!\s)\s++)?[;|]\s*+|(?<!\s)\s++[-–—]{1,2}\s++"
    r"|(?:,|(?<!\s))\s++(?:but|while|whereas|although|though|and|as|vs\.?|versus)\s++|[,:]\s++",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]+")
MAX_CHARACTERS = 600
"""Maximum characters of a sentence that is shown; a longer one is cut around the mention."""


def clause(text: str, sentence: Span, mention: Span, others: Sequence[Span]) -> str:
    """Return the sentence or, if it also contains one of the spans `others`, the clause around the mention.

    >>> headline = "Acme surges 5% on results, Bolt slides after profit warning"
    >>> clause(headline, (0, len(headline)), (27, 31), [(0, 4)])
    'Bolt slides after profit warning'
    """
    begin, end = sentence
    if end - begin > MAX_CHARACTERS:
        begin = max(begin, mention[0] - MAX_CHARACTERS // 2)
        end = min(end, begin + MAX_CHARACTERS)
    near = [span for span in others if begin <= span[0] < end]
    if near:
        begin, end = _clause_span(text, (begin, end), mention, near)
    return text[begin:end].strip()


def _clause_span(text: str, sentence: Span, mention: Span, others: Sequence[Span]) -> Span:
    """Return the clause around the mention.

    A clause without a name is joined to the preceding clause or, at the beginning of the sentence, to the
    next one. If a clause consists of names only, the sentence lists names and is returned whole.
    """
    names = [mention, *others]
    spans = _merged(_parts(text, sentence, names), names)
    for begin, end in spans:
        rest = "".join(text[a:b] for a, b in _gaps((begin, end), names))
        if not _WORD.search(rest):  # "Acme, Bolt and Core rise": one clause of three names
            return sentence
    return next(((begin, end) for begin, end in spans if begin <= mention[0] < end), sentence)


def _parts(text: str, sentence: Span, names: Sequence[Span]) -> list[Span]:
    parts = []
    begin = sentence[0]
    for boundary in _BOUNDARY.finditer(text, *sentence):
        if any(start < boundary.end() and boundary.start() < stop for start, stop in names):
            continue
        parts.append((begin, boundary.start()))
        begin = boundary.end()
    return [*parts, (begin, sentence[1])]


def _merged(parts: Sequence[Span], names: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    is_named = False
    for begin, end in parts:
        has_name = any(begin <= start < end for start, _ in names)
        if merged and not (has_name and is_named):
            merged[-1] = (merged[-1][0], end)
            is_named = is_named or has_name
        else:
            merged.append((begin, end))
            is_named = has_name
    return merged


def _gaps(span: Span, names: Sequence[Span]) -> list[Span]:
    gaps = []
    begin = span[0]
    for start, stop in sorted(names):
        if span[0] <= start < span[1]:
            gaps.append((begin, start))
            begin = stop
    return [*gaps, (begin, span[1])]


_LEAD_WEIGHT, _DENSITY_WEIGHT, _SHARE_WEIGHT = 50, 30, 20
_FIRST_SENTENCE, _LATER = 0.8, 0.6
_DENSE = 4
"""Sentences per mention at full density. Prose rarely repeats a name more often, because it uses pronouns."""


MAX_PASSAGES = 3
"""Maximum passages of one entity in a document. The news may be in any sentence, so the first passage alone
misses most of it. The more passages are classified, the more often a neutral one is mistaken for news
(benchmarks/long_texts.py measures both)."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A sentence about an entity, or the clause around its name if the sentence also names other entities."""

    sentence: str
    target: str
    """The name as written in the sentence; empty for a topic or entity that is not named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One entity that a document is about."""

    entity_id: str
    relevance: int
    """How much the document is about the entity, 0 to 100; see the function `relevance`."""
    passages: tuple[Passage, ...]
    """Distinct passages from the first sentences that name the entity, in order. The least neutral one
    determines the mood."""
    start: int
    """Position of the first mention in the prepared text."""
    is_ambiguous: bool
    """Whether several entities share the spelling, or it is a common word, so that the embedding must
    decide."""
    num_mentions: int


class Linker:
    """Links documents to the entities of one watch list. Any thread may call it."""

    def __init__(self, watchlist: Watchlist, *, max_passages: int = MAX_PASSAGES) -> None:
        self._max_passages = max_passages
        self._ids = [entity.id for entity in watchlist.entities]
        self._finder = Finder(watchlist)

    def link(self, prepared: Prepared) -> list[Link]:
        """Return one link per entity, in order of first mention.

        A spelling shared by several entities is assigned to the one that the document also names in another
        way, if there is one. Otherwise each entity gets an ambiguous link, and these links can have the same
        `start`.
        """
        places = self._finder.places(prepared.text, prepared.sentences)
        symbols = self._finder.with_symbols(prepared.document.symbols or ())
        if not places and not symbols:
            return []
        certain, unsure = _settle_by_context(places, symbols)
        num_all = sum(map(len, certain.values())) + len({p.start for each in unsure.values() for p in each})
        links = [
            self._link(prepared, places, index, own, num_all, is_ambiguous)
            for group, is_ambiguous in ((certain, False), (unsure, True))
            for index, own in group.items()
        ]
        links += [self._symbol_link(prepared, index) for index in symbols if index not in certain]
        return sorted(links, key=lambda link: (link.start, link.entity_id))

    def _symbol_link(self, prepared: Prepared, index: int) -> Link:
        """Return the link to an entity that the text does not name but whose ticker the source states."""
        begin, end = prepared.sentences[0] if prepared.sentences else (0, len(prepared.text))
        return Link(
            entity_id=self._ids[index],
            relevance=relevance(prepared, begin, 1, 1),
            passages=(Passage(prepared.text[begin:end], target=""),),
            start=begin,
            is_ambiguous=False,
            num_mentions=0,
        )

    def _link(
        self,
        prepared: Prepared,
        places: Sequence[Place],
        index: int,
        own: Sequence[Place],
        num_all: int,
        is_ambiguous: bool,
    ) -> Link:
        first = own[0]
        others = [(place.start, place.end) for place in places if index not in place.entities]
        return Link(
            entity_id=self._ids[index],
            relevance=relevance(prepared, first.start, len(own), num_all),
            passages=_passages(prepared, own, others)[: self._max_passages],
            start=first.start,
            is_ambiguous=is_ambiguous,
            num_mentions=len(own),
        )


def _passages(prepared: Prepared, own: Sequence[Place], others: Sequence[Span]) -> tuple[Passage, ...]:
    """Return the passages around the first mention in each sentence."""
    named = {_sentence_of(prepared, place.start): place for place in reversed(own)}
    passages: dict[str, Passage] = {}
    for begin, end in sorted(named):
        place = named[begin, end]
        beside = [span for span in others if begin <= span[0] < end]
        sentence = clause(prepared.text, (begin, end), (place.start, place.end), beside)
        passages.setdefault(sentence, Passage(sentence, prepared.text[place.start : place.end]))
    return tuple(passages.values())


def relevance(prepared: Prepared, first_start: int, num_own: int, num_all: int) -> int:
    """Return how much a document is about an entity, 0 to 100; the weights are chosen, not measured.

    The value is the sum of three parts:

    - 50 x lead: 1 if the entity is first named in the title (or the only sentence), 0.8 in the first
      sentence, then falling from 0.6 to 0 towards the end.
    - 30 x density: mentions per four sentences, at most 1.
    - 20 x the entity's share of all mentions of watched entities.
    """
    num_sentences = max(len(prepared.sentences), 1)
    position = _index_of_sentence(prepared, first_start)
    if position == 0:
        lead = 1.0 if prepared.title_end or num_sentences == 1 else _FIRST_SENTENCE
    elif position == 1 and prepared.title_end:
        lead = _FIRST_SENTENCE
    else:
        lead = _LATER * (1 - position / num_sentences)
    density = min(1.0, num_own / max(1.0, num_sentences / _DENSE))
    share = num_own / max(num_all, num_own)
    return round(_LEAD_WEIGHT * lead + _DENSITY_WEIGHT * density + _SHARE_WEIGHT * share)


def _settle_by_context(
    places: Sequence[Place], symbols: frozenset[int]
) -> tuple[dict[int, list[Place]], dict[int, list[Place]]]:
    """Return places by entity: first the certain ones, then those of entities without a certain place."""
    sure = {p.entities[0] for p in places if len(p.entities) == 1 and not p.is_weak} | symbols
    certain: dict[int, list[Place]] = {}
    unsure: dict[int, list[Place]] = {}
    for place in places:
        confirmed = [index for index in place.entities if index in sure]
        if len(confirmed) == 1:
            certain.setdefault(confirmed[0], []).append(place)
            continue
        for index in confirmed or place.entities:
            unsure.setdefault(index, []).append(place)
    return certain, {index: own for index, own in unsure.items() if index not in certain}


def settle(
    links: Sequence[Link],
    cosines: Mapping[str, float],
    *,
    min_score: float = MIN_ENTITY_SIMILARITY,
    min_margin: float = MIN_MARGIN,
) -> tuple[list[Link], bool]:
    """Decide ambiguous links by the cosines between the document and the descriptions of the entities.

    `cosines` are by entity id. Of links that begin at the same place, the nearest is kept if it is near
    enough and no other is about as near. A link that is alone at its place and whose entity has no cosine is
    kept if the name begins with a capital letter in the text. Returns the links kept, and whether there is a
    place of which none was kept.
    """
    kept = [link for link in links if not link.is_ambiguous]
    groups: dict[int, list[Link]] = {}
    for link in links:
        if link.is_ambiguous:
            groups.setdefault(link.start, []).append(link)
    is_dropped = False
    for rivals in groups.values():
        known = {link.entity_id: cosines[link.entity_id] for link in rivals if link.entity_id in cosines}
        chosen = nearest(known, min_similarity=min_score, min_margin=min_margin)
        if not known and len(rivals) == 1 and rivals[0].passages[0].target[0].isupper():
            chosen = rivals[0].entity_id
        kept += [link for link in rivals if link.entity_id == chosen]
        is_dropped = is_dropped or chosen is None
    return sorted(kept, key=lambda link: (link.start, link.entity_id)), is_dropped


def _index_of_sentence(prepared: Prepared, start: int) -> int:
    return max(bisect_right(prepared.sentences, start, key=lambda span: span[0]) - 1, 0)


def _sentence_of(prepared: Prepared, start: int) -> Span:
    if not prepared.sentences:
        return 0, len(prepared.text)
    return prepared.sentences[_index_of_sentence(prepared, start)]
