"""What each item scores for each user, by part; and the items with the highest scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """A score over a catalogue is history @ behaviour + mean of the history @ likeness + popularity."""

    behaviour: sp.csr_matrix
    """(items, items): what an item of the history (row) adds."""
    history_factors: Scores
    """(items, rank): summed over the history and multiplied with item_factors, they add to behaviour too."""
    item_factors: Scores
    likeness: sp.csr_matrix
    """(items, items): the same by content, weighted for the item that is scored."""
    popularity: Scores
    """(items,)"""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The parts of the scores of some users, each (users, items)."""

    behaviour: Scores
    content: Scores
    total: Scores


def score(terms: Terms, histories: sp.csr_matrix) -> Scored:
    """Scores of users, shape (users, items). An item for which nothing speaks has 0 exactly."""
    behaviour = (histories @ terms.behaviour).toarray()
    behaviour += (histories @ terms.history_factors) @ terms.item_factors.T
    content = (mean_rows(histories) @ terms.likeness).toarray()
    total = behaviour + content
    total += terms.popularity
    return Scored(behaviour, content, total)


def mean_rows(histories: sp.csr_matrix) -> sp.csr_matrix:
    """Rows that sum up to 1, or are empty."""
    sums = np.asarray(histories.sum(axis=1)).ravel()
    scale = np.divide(1, sums, out=np.zeros_like(sums), where=sums > 0)
    data = histories.data * np.repeat(scale, np.diff(histories.indptr)).astype(np.float32)
    return sp.csr_matrix((data, histories.indices, histories.indptr), histories.shape)


def top(scores: Scores, num: int) -> tuple[npt.NDArray[np.int64], Scores]:
    """Of each row the places of the highest scores, highest first, of equal ones the first place; and these.

    Rows with fewer finite scores end in places with -inf.
    """
    width = scores.shape[1]
    if num < width:
        least = np.partition(scores, width - num, axis=1)[:, width - num, None]
        is_above = scores > least
        num_above = np.count_nonzero(is_above, axis=1)
        is_kept = scores >= least
        for row in np.flatnonzero(np.count_nonzero(is_kept, axis=1) > num):
            edge = np.flatnonzero(scores[row] == least[row])
            is_kept[row, edge[num - num_above[row] :]] = False
        places = (np.flatnonzero(is_kept) % width).reshape(len(scores), num)
    else:
        places = np.broadcast_to(np.arange(width), scores.shape)
    found = np.take_along_axis(scores, places, 1)
    order = np.argsort(-found, axis=1, kind="stable")
    return np.take_along_axis(places, order, 1), np.take_along_axis(found, order, 1)
