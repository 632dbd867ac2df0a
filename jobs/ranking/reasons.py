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


def largest_parts(parts: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Which kind weighs most, as places in KINDS, shape (users, chosen)."""
    return np.asarray(np.maximum(parts, 0).argmax(axis=2), np.int64)


def largest_terms(
    histories: sp.csr_matrix,
    by_item: sp.csc_matrix,
    factors: tuple[Scores, Scores] | None,
    chosen: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Of each chosen item (users, chosen) the place in the history with the largest term, first of equals.

    The term of h for i is history[h] * (by_item[h, i] + factors[0][h] . factors[1][i]), the second where
    there are factors; -1 where no term is positive.
    """
    num_chosen = chosen.shape[1]
    lengths = np.diff(histories.indptr)
    terms = np.zeros((len(histories.indices), num_chosen), np.float32)
    if factors is not None:
        for user in np.flatnonzero(lengths).tolist():
            begin, end = histories.indptr[user], histories.indptr[user + 1]
            rows = factors[0][histories.indices[begin:end]]
            terms[begin:end] = rows @ factors[1][np.maximum(chosen[user], 0)].T
    entries, slots, values = _found(histories, by_item, chosen)
    terms[entries, slots] += values
    terms *= histories.data[:, None]
    because = np.full(chosen.shape, -1, np.int64)
    for user in np.flatnonzero(lengths).tolist():
        begin, end = histories.indptr[user], histories.indptr[user + 1]
        best = terms[begin:end].argmax(axis=0)
        is_positive = terms[begin + best, np.arange(num_chosen)] > 0
        because[user] = np.where(is_positive, histories.indices[begin + best], -1)
    return because


def _found(
    histories: sp.csr_matrix, by_item: sp.csc_matrix, chosen: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Entries of histories that a column of a chosen item has a value for: entry, which chosen one, value."""
    num_users, num_items = histories.shape
    places = np.maximum(chosen.ravel(), 0)
    starts = by_item.indptr[places].astype(np.int64)
    lengths = by_item.indptr[places + 1].astype(np.int64) - starts
    flat = np.arange(int(lengths.sum())) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    pairs = np.repeat(np.arange(len(places)), lengths)
    # Where in the histories an entry is: their places, by user and item, are ordered.
    where = np.full((num_users, num_items), -1, np.int32)
    where[np.repeat(np.arange(num_users), np.diff(histories.indptr)), histories.indices] = np.arange(
        len(histories.indices)
    )
    entries = where[pairs // chosen.shape[1], by_item.indices[flat]]
    kept = entries >= 0
    return entries[kept].astype(np.int64), pairs[kept] % chosen.shape[1], by_item.data[flat[kept]]


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
