"""Computes each item's score for each user, and the reason for it. The reason is the largest term in the
largest part of the score (behaviour, content or popularity)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.ranking.content import CATEGORY
from kinds.recommendation.ranking.lists import Reason, ReasonKind

Scores = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

_GROUPS = 16
"""Number of scores per group. The highest scores of the groups give a bound that few other scores reach."""

_BEHAVIOUR, _CONTENT = 0, 1
KINDS = (ReasonKind.BEHAVIOUR, ReasonKind.CONTENT, ReasonKind.POPULAR)
"""Kinds of reasons; if the largest parts of a score are equal, the first kind in this order is the reason."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """A sparse square matrix as dense arrays, for rows with about the same number of entries each."""

    places: Places
    """(items, most entries of a row): columns of the entries, padded with the number of items."""
    values: Scores

    @classmethod
    def of(cls, matrix: sp.csr_matrix) -> Neighbours:
        """Return the neighbours of a matrix (items, items)."""
        num_items = matrix.shape[0]
        lengths = np.diff(matrix.indptr)
        shape = (num_items, int(lengths.max(initial=0)))
        places, values = np.full(shape, num_items, np.int64), np.zeros(shape, np.float32)
        is_entry = np.arange(shape[1]) < lengths[:, None]
        places[is_entry], values[is_entry] = matrix.indices, matrix.data
        return cls(places, values)


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """Terms of a score: the sum of behaviour and content over the history, plus popularity.

    Behaviour of h for i is neighbours[h, i] + history_factors[h] . item_factors[i]; content is
    (history_factors + history_content)[h] . item_content[i] + history_content[h] . item_factors[i].
    """

    neighbours: Neighbours
    history_factors: Scores
    """(items, rank): factors of an item as part of a history."""
    item_factors: Scores
    history_content: Scores
    """(items, rank): factors predicted from content for items that have none; 0 for others."""
    item_content: Scores
    """(items, rank): item factors predicted from content, times the weight of content for the item."""
    popularity: Scores
    """(items,): weighted popularity of each item, the same for all users."""


@dataclass(frozen=True, slots=True, eq=False)
class UserScores:
    """The scores of some users and the parts of these scores, each of shape (users, items)."""

    behaviour: Scores
    content: Scores
    total: Scores


def score(terms: Terms, histories: sp.csr_matrix) -> UserScores:
    """Return the scores of users, shape (users, items). An item without any evidence scores exactly 0.

    Users are scored one by one, because rounding in a product for many users depends on all of them.
    """
    num_users, num_items = histories.shape
    places, values = terms.neighbours.places, terms.neighbours.values
    directions, predicted = histories @ terms.history_factors, histories @ terms.history_content
    cold = np.flatnonzero(terms.item_content.any(axis=1))
    cold_content = terms.item_content[cold]
    behaviour, content = np.zeros((2, num_users, num_items), np.float32)
    is_weighted = bool((histories.data != 1).any())
    for user, (begin, end) in enumerate(zip(histories.indptr[:-1], histories.indptr[1:], strict=True)):
        rows = histories.indices[begin:end]
        added = values[rows] * histories.data[begin:end, None] if is_weighted else values[rows]
        # A sparse product takes ten times as long, because it counts and sorts its result.
        behaviour[user] = np.bincount(places[rows].ravel(), added.ravel(), num_items + 1)[:num_items]
        behaviour[user] += terms.item_factors @ directions[user]
        content[user, cold] = cold_content @ (directions[user] + predicted[user])
        if predicted[user].any():
            content[user] += terms.item_factors @ predicted[user]
    total = behaviour + content
    total += terms.popularity
    return UserScores(behaviour, content, total)


def top(scores: Scores, num: int) -> tuple[Places, Scores]:
    """Return the places of the highest scores of each row, highest first, and the scores.

    Equal scores are ordered by place. Rows with fewer finite scores end in places with the score -inf.
    `num` is at most the number of columns.
    """
    kept = np.flatnonzero(scores >= _bound(scores, num)[:, None])
    rows, width = kept // scores.shape[1], scores.shape[1]
    counts = np.bincount(rows, minlength=len(scores))
    within = np.arange(len(kept)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (len(scores), int(counts.max(initial=num)))
    places, values = np.zeros(shape, np.int64), np.full(shape, -np.inf, np.float32)
    places[rows, within] = kept % width
    values[rows, within] = scores.ravel()[kept]
    order = np.argsort(-values, axis=1, kind="stable")[:, :num]
    return np.take_along_axis(places, order, 1), np.take_along_axis(values, order, 1)


def _bound(scores: Scores, num: int) -> Scores:
    """Return a lower bound for each row, which at least `num` scores reach, but not many more."""
    width = scores.shape[1] // _GROUPS
    if width < num:
        return np.partition(scores, scores.shape[1] - num, axis=1)[:, scores.shape[1] - num]
    # The highest scores of different groups are different entries.
    highest = scores[:, : width * _GROUPS].reshape(len(scores), _GROUPS, width).max(axis=1)
    return np.asarray(np.partition(highest, width - num, axis=1)[:, width - num], np.float32)


def parts_of(
    scores: UserScores, popularity: Scores, chosen: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Return the parts of the chosen items' scores, shape (users, chosen, kinds)."""
    places = np.maximum(chosen, 0)
    return np.stack(
        [
            np.take_along_axis(scores.behaviour, places, 1),
            np.take_along_axis(scores.content, places, 1),
            popularity[places],
        ],
        axis=2,
    )


def largest_parts(parts: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return the kind with the largest part as a position in KINDS, shape (users, chosen)."""
    return np.asarray(np.maximum(parts, 0).argmax(axis=2), np.int64)


def sources(terms: Terms, histories: sp.csr_matrix, winners: Places, chosen: Places) -> npt.NDArray[np.int64]:
    """Return the history item with the largest term in the winning part, for each chosen item.

    The shape is (users, chosen). Of equal terms, the first is used; -1 marks popularity and unused places.
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
            of_history = behaviour_terms(terms, history, weights, places, slot_of)
            because[user, slots] = history[of_history.argmax(axis=0)]
        slots = np.flatnonzero((winners[user] == _CONTENT) & (chosen[user] >= 0))
        if len(slots):
            of_history = content_terms(terms, history, weights, chosen[user, slots])
            because[user, slots] = history[of_history.argmax(axis=0)]
    return because


def behaviour_terms(
    terms: Terms,
    history: npt.NDArray[np.int32],
    weights: Scores,
    places: Places,
    slot_of: npt.NDArray[np.int64],
) -> Scores:
    """Return what each item of a history adds to the behaviour part of the scores of the items at `places`,
    shape (history, places).

    `slot_of` (items + 1,) is scratch space that is -1 everywhere before and after the call.
    """
    added = terms.history_factors[history] @ terms.item_factors[places].T
    slot_of[places] = np.arange(len(places))
    slots = slot_of[terms.neighbours.places[history]]
    slot_of[places] = -1
    rows, columns = np.nonzero(slots >= 0)
    added[rows, slots[rows, columns]] += terms.neighbours.values[history[rows], columns]
    return np.asarray(added * weights[:, None], np.float32)


def content_terms(terms: Terms, history: npt.NDArray[np.int32], weights: Scores, places: Places) -> Scores:
    """Return what each item of a history adds to the content part of the scores of the items at `places`,
    shape (history, places)."""
    predicted = terms.history_content[history]
    added = (terms.history_factors[history] + predicted) @ terms.item_content[places].T
    added += predicted @ terms.item_factors[places].T
    return np.asarray(added * weights[:, None], np.float32)


def shared_attribute(item: Item, other: Item) -> str | None:
    """Return "category" if two items share it, else the first attribute by name that they share, if any.

    >>> tent, tarp = (Item(id=x, title=x, attributes={"brand": "Alp", "use": ("hike", x)}) for x in "ab")
    >>> shared_attribute(tent, tarp)
    'brand'
    """
    if item.category and item.category == other.category:
        return CATEGORY
    for name in sorted(item.attributes.keys() & other.attributes.keys()):
        left, right = item.attributes[name], other.attributes[name]
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
    """Return the reasons for each user's chosen items in order.

    `because` (users, chosen) has the place of the item that explains the choice, or -1.
    """
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
