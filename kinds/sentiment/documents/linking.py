"""Determines which entities of a watch list a document is about, and how much."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kinds.sentiment.documents.clauses import clause
from kinds.sentiment.documents.mentions import Finder, Place
from kinds.sentiment.documents.prepare import Prepared, Span
from kinds.sentiment.documents.vectors import MIN_ENTITY_SIMILARITY, MIN_MARGIN, nearest
from kinds.sentiment.documents.watchlist import Watchlist

_LEAD_WEIGHT, _DENSITY_WEIGHT, _SHARE_WEIGHT = 50, 30, 20
_FIRST_SENTENCE, _LATER = 0.8, 0.6
_DENSE = 4
"""Sentences per mention at full density: prose rarely repeats a name more often before it uses pronouns."""


MAX_PASSAGES = 3
"""Maximum passages of one entity in a document. The news may be in any sentence, so the first alone misses
most of it; the more are classified, the more often a neutral one is mistaken for news
(benchmarks/long_texts.py measures both)."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A sentence that names an entity, or the clause of it where entities share the sentence."""

    sentence: str
    target: str
    """The name as written in the sentence; empty for a topic or entity that is not named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One entity that a document is about."""

    entity_id: str
    relevance: int
    """0 to 100, see `relevance`."""
    passages: tuple[Passage, ...]
    """Distinct passages of the first sentences that name the entity, in order; one determines its mood."""
    start: int
    """Position of the first mention in the prepared text."""
    is_ambiguous: bool
    """The spelling is shared with another entity or is a common word, so the embedding must decide."""
    num_mentions: int


class Linker:
    """Links documents to the entities of one watch list. Any thread may call it."""

    def __init__(self, watchlist: Watchlist, *, max_passages: int = MAX_PASSAGES) -> None:
        self._max_passages = max_passages
        self._ids = [entity.id for entity in watchlist.entities]
        self._finder = Finder(watchlist)

    def link(self, prepared: Prepared) -> list[Link]:
        """Return one link per entity, in order of first mention; ambiguous links may share a `start` with
        rivals.

        A spelling shared by several entities is assigned to the one that the document also names in another
        way, if there is one.
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
        """Return the link for an entity that the source states but the text does not name."""
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
    found: dict[str, Passage] = {}
    for begin, end in sorted(named):
        place = named[begin, end]
        beside = [span for span in others if begin <= span[0] < end]
        sentence = clause(prepared.text, (begin, end), (place.start, place.end), beside)
        found.setdefault(sentence, Passage(sentence, prepared.text[place.start : place.end]))
    return tuple(found.values())


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
    """Return places by entity: those that are certain, and those of entities that nothing else confirms."""
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
    """Decide ambiguous links by the cosines, by entity id, between the document and the entities'
    descriptions.

    Of links that begin at the same place, the nearest is kept if it is near enough and no other is about as
    near. A link without rivals whose entity has no cosine is kept if the text writes it with a capital
    letter. Returns the remaining links, and whether one was dropped.
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
