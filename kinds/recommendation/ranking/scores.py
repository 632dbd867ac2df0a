"""What each item scores for each user, by part; and the items with the highest scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Scores = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

_GROUPS = 16
"""The highest of each group are looked at first: 1/16 of the numbers gives a bound that few others reach."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The rows of a sparse square matrix with about as many entries each, laid side by side."""

    places: Places
    """(items, most entries of a row): columns; the number of items where a row has fewer."""
    values: Scores

    @classmethod
    def of(cls, matrix: sp.csr_matrix) -> Neighbours:
        """Of a matrix (items, items)."""
        num_items = matrix.shape[0]
        lengths = np.diff(matrix.indptr)
        shape = (num_items, int(lengths.max(initial=0)))
        places, values = np.full(shape, num_items, np.int64), np.zeros(shape, np.float32)
        is_entry = np.arange(shape[1]) < lengths[:, None]
        places[is_entry], values[is_entry] = matrix.indices, matrix.data
        return cls(places, values)


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """The score of an item is the sum over the history of behaviour and content, and popularity.

    Behaviour of h for i is neighbours[h, i] + history_factors[h] . item_factors[i]; content is
    (history_factors + history_content)[h] . item_content[i] + history_content[h] . item_factors[i].
    """

    neighbours: Neighbours
    history_factors: Scores
    """(items, rank)"""
    item_factors: Scores
    history_content: Scores
    """(items, rank): what content says of the factors of items that have none; 0 for others."""
    item_content: Scores
    """The same of item_factors, times the weight of content for this item."""
    popularity: Scores
    """(items,)"""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The parts of the scores of some users, each (users, items)."""

    behaviour: Scores
    content: Scores
    total: Scores


def score(terms: Terms, histories: sp.csr_matrix) -> Scored:
    """Scores of users, shape (users, items). An item for which nothing speaks has 0 exactly.

    User by user: a product for many at once rounds in ways that depend on who else is in the block.
    """
    num_users, num_items = histories.shape
    places, values = terms.neighbours.places, terms.neighbours.values
    directions, promised = histories @ terms.history_factors, histories @ terms.history_content
    cold = np.flatnonzero(terms.item_content.any(axis=1))
    cold_content = terms.item_content[cold]
    behaviour, content = np.zeros((2, num_users, num_items), np.float32)
    is_weighted = bool((histories.data != 1).any())
    for user, (begin, end) in enumerate(zip(histories.indptr[:-1], histories.indptr[1:], strict=True)):
        rows = histories.indices[begin:end]
        added = values[rows] * histories.data[begin:end, None] if is_weighted else values[rows]
        # A sparse product takes ten times as long: it first counts, then orders what comes out.
        behaviour[user] = np.bincount(places[rows].ravel(), added.ravel(), num_items + 1)[:num_items]
        behaviour[user] += terms.item_factors @ directions[user]
        content[user, cold] = cold_content @ (directions[user] + promised[user])
        if promised[user].any():
            content[user] += terms.item_factors @ promised[user]
    total = behaviour + content
    total += terms.popularity
    return Scored(behaviour, content, total)


def top(scores: Scores, num: int) -> tuple[Places, Scores]:
    """Of each row the places of the highest scores, highest first, of equal ones the first place; and these.

    Rows with fewer finite scores end in places with -inf. `num` is at most the number of columns.
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
    """Of each row a number that at least `num` scores reach, and not many more."""
    width = scores.shape[1] // _GROUPS
    if width < num:
        return np.partition(scores, scores.shape[1] - num, axis=1)[:, scores.shape[1] - num]
    # The highest of groups belong to as many different scores.
    highest = scores[:, : width * _GROUPS].reshape(len(scores), _GROUPS, width).max(axis=1)
    return np.asarray(np.partition(highest, width - num, axis=1)[:, width - num], np.float32)
