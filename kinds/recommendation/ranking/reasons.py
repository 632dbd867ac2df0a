"""Explains why an item is on a list: by the largest part of its score and the largest term of that part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.ranking.content import CATEGORY
from kinds.recommendation.ranking.lists import Reason, ReasonKind
from kinds.recommendation.ranking.scores import Places, Scored, Scores, Terms

_BEHAVIOUR, _CONTENT = 0, 1
KINDS = (ReasonKind.BEHAVIOUR, ReasonKind.CONTENT, ReasonKind.POPULAR)
"""Kinds of reasons; of equal parts, the first in this order wins."""


def parts_of(scored: Scored, popularity: Scores, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the parts of the chosen items' scores, shape (users, chosen, kinds)."""
    places = np.maximum(chosen, 0)
    return np.stack(
        [
            np.take_along_axis(scored.behaviour, places, 1),
            np.take_along_axis(scored.content, places, 1),
            popularity[places],
        ],
        axis=2,
    )


def largest_parts(parts: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return the kind with the largest part as a position in KINDS, shape (users, chosen)."""
    return np.asarray(np.maximum(parts, 0).argmax(axis=2), np.int64)


def sources(terms: Terms, histories: sp.csr_matrix, winners: Places, chosen: Places) -> npt.NDArray[np.int64]:
    """Return the history item with the largest term in the winning part, for each chosen item.

    The shape is (users, chosen). Of equal terms the first wins; -1 stands for popularity and unused places.
    """
    because = np.full(chosen.shape, -1, np.int64)
    slot_of = np.full(histories.shape[1] + 1, -1, np.int64)
    for user, (begin, end) in enumerate(zip(histories.indptr[:-1], histories.indptr[1:], strict=True)):
        history, weights = histories.indices[begin:end], histories.data[begin:end]
        if not len(history):
            continue
        slots = np.flatnonzero((winners[user] == _BEHAVIOUR) & (chosen[user] >= 0))
        if len(slots):
            places = chosen[user, slots]
            found = behaviour_terms(terms, history, weights, places, slot_of)
            because[user, slots] = history[found.argmax(axis=0)]
        slots = np.flatnonzero((winners[user] == _CONTENT) & (chosen[user] >= 0))
        if len(slots):
            found = content_terms(terms, history, weights, chosen[user, slots])
            because[user, slots] = history[found.argmax(axis=0)]
    return because


def behaviour_terms(
    terms: Terms,
    history: npt.NDArray[np.int32],
    weights: Scores,
    places: Places,
    slot_of: npt.NDArray[np.int64],
) -> Scores:
    """Return what each item of a history adds to the behaviour part of some items, shape (history, places).

    `slot_of` (items + 1,) is scratch space that is -1 everywhere before and after the call.
    """
    found = terms.history_factors[history] @ terms.item_factors[places].T
    slot_of[places] = np.arange(len(places))
    slots = slot_of[terms.neighbours.places[history]]
    slot_of[places] = -1
    rows, columns = np.nonzero(slots >= 0)
    found[rows, slots[rows, columns]] += terms.neighbours.values[history[rows], columns]
    return np.asarray(found * weights[:, None], np.float32)


def content_terms(terms: Terms, history: npt.NDArray[np.int32], weights: Scores, places: Places) -> Scores:
    """Return what each item of a history adds to the content part of some items, shape (history, places)."""
    promised = terms.history_content[history]
    found = (terms.history_factors[history] + promised) @ terms.item_content[places].T
    found += promised @ terms.item_factors[places].T
    return np.asarray(found * weights[:, None], np.float32)


def shared_attribute(one: Item, other: Item) -> str | None:
    """Return "category" or else the first attribute, by name, that two items have in common.

    >>> tent, tarp = (Item(id=x, title=x, attributes={"brand": "Alp", "use": ("hike", x)}) for x in "ab")
    >>> shared_attribute(tent, tarp)
    'brand'
    """
    if one.category and one.category == other.category:
        return CATEGORY
    for name in sorted(one.attributes.keys() & other.attributes.keys()):
        left, right = one.attributes[name], other.attributes[name]
        if isinstance(left, tuple) and isinstance(right, tuple):
            if set(left) & set(right):
                return name
        elif left == right:
            return name
    return None


def reasons_of(
    parts: npt.NDArray[np.float32],
    because: npt.NDArray[np.int64],
    chosen: npt.NDArray[np.int64],
    items: Sequence[Item],
) -> list[list[Reason]]:
    """Return the reasons for each user's chosen items in order; `because` (users, chosen) is -1 for none."""
    positive = np.maximum(parts, 0)
    winners = largest_parts(parts)
    largest = positive.max(axis=2)
    totals = positive.sum(axis=2)
    shares = np.divide(largest, totals, out=np.zeros_like(totals), where=totals > 0)
    rows = zip(
        chosen.tolist(),
        winners.tolist(),
        because.tolist(),
        np.round(shares.astype(float), 4).tolist(),
        strict=True,
    )
    return [
        [
            _reason(KINDS[winner], items[place], items[source] if source >= 0 else None, share)
            for place, winner, source, share in zip(*row, strict=True)
            if place >= 0
        ]
        for row in rows
    ]


def _reason(kind: ReasonKind, item: Item, source: Item | None, share: float) -> Reason:
    if source is None or kind is ReasonKind.POPULAR:
        return Reason(kind=kind, share=share)
    attribute = shared_attribute(item, source) if kind is ReasonKind.CONTENT else None
    return Reason(kind=kind, because=source.id, attribute=attribute, share=share)
