"""Computes the parts of each item's score for each user, and finds the items with the highest scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Scores = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

_GROUPS = 16
"""Size of the groups whose highest scores are compared first; these give a bound that few others reach."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Rows of a sparse square matrix, which have about as many entries each, as dense arrays."""

    places: Places
    """(items, most entries of a row): columns, padded with the number of items."""
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
    """(items, rank)"""
    item_factors: Scores
    history_content: Scores
    """(items, rank): factors predicted from content for items that have none; 0 for others."""
    item_content: Scores
    """(items, rank): item factors predicted from content, times the weight of content for the item."""
    popularity: Scores
    """(items,)"""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The parts of the scores of some users, each (users, items)."""

    behaviour: Scores
    content: Scores
    total: Scores


def score(terms: Terms, histories: sp.csr_matrix) -> Scored:
    """Return the scores of users, shape (users, items). An item without any evidence scores exactly 0.

    Users are scored one by one, as rounding in a product for many users depends on the others in the block.
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
        # A sparse product takes ten times as long, because it counts and sorts its result.
        behaviour[user] = np.bincount(places[rows].ravel(), added.ravel(), num_items + 1)[:num_items]
        behaviour[user] += terms.item_factors @ directions[user]
        content[user, cold] = cold_content @ (directions[user] + promised[user])
        if promised[user].any():
            content[user] += terms.item_factors @ promised[user]
    total = behaviour + content
    total += terms.popularity
    return Scored(behaviour, content, total)


def top(scores: Scores, num: int) -> tuple[Places, Scores]:
    """Return the places of the highest scores of each row, highest first, and the scores.

    Of equal scores the first place comes first. Rows with fewer finite scores end in places with -inf.
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
    """Return a number for each row that at least `num` scores reach, and not many more."""
    width = scores.shape[1] // _GROUPS
    if width < num:
        return np.partition(scores, scores.shape[1] - num, axis=1)[:, scores.shape[1] - num]
    # The highest scores of different groups are different entries.
    highest = scores[:, : width * _GROUPS].reshape(len(scores), _GROUPS, width).max(axis=1)
    return np.asarray(np.partition(highest, width - num, axis=1)[:, width - num], np.float32)
