"""Why an item is on a list: the largest of the parts of its score, and the largest term in that part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from jobs.catalogue.item import Item
from jobs.ranking.content import CATEGORY
from jobs.ranking.lists import Reason, ReasonKind
from jobs.ranking.scores import Scored, Scores

KINDS = (ReasonKind.BEHAVIOUR, ReasonKind.CONTENT, ReasonKind.POPULAR)
"""In this order of equal parts."""


def parts_of(scored: Scored, popularity: Scores, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """The parts of the chosen items' scores, shape (users, chosen, kinds)."""
    places = np.maximum(chosen, 0)
    return np.stack(
        [
            np.take_along_axis(scored.behaviour, places, 1),
            np.take_along_axis(scored.content, places, 1),
            popularity[places],
        ],
        axis=2,
    )


def largest_terms(
    histories: npt.NDArray[np.float32],
    by_item: sp.csc_matrix,
    users: npt.NDArray[np.int64],
    places: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Of pairs of user and item, the place in the history with the largest term; of equal ones the first.

    `histories` (users, items) is dense; `by_item` has in column i what each item of a history adds to i.
    """
    starts = by_item.indptr[places].astype(np.int64)
    lengths = by_item.indptr[places + 1].astype(np.int64) - starts
    found = np.full(len(places), -1, np.int64)
    is_filled = lengths > 0
    starts, lengths, pairs = starts[is_filled], lengths[is_filled], np.flatnonzero(is_filled)
    if not len(pairs):
        return found
    begins = np.cumsum(lengths) - lengths
    flat = np.arange(int(lengths.sum())) + np.repeat(starts - begins, lengths)
    terms = by_item.data[flat] * histories[np.repeat(users[pairs], lengths), by_item.indices[flat]]
    highest = np.maximum.reduceat(terms, begins)
    at = np.flatnonzero(terms == np.repeat(highest, lengths))
    first = at[np.searchsorted(at, begins)]
    found[pairs] = np.where(highest > 0, by_item.indices[flat[first]], -1)
    return found


def shared_attribute(one: Item, other: Item) -> str | None:
    """The category or the first attribute by name that two items have in common.

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
    """Of each user's chosen items, in order; `because` (users, chosen) is -1 where there is none."""
    positive = np.maximum(parts, 0)
    winners = positive.argmax(axis=2)
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
