"""Measures how well lists predict held-out items, with one number per user so that comparisons are paired.

`hits` has shape (users, k) and is True where the item at a place of the user's list was held out;
`num_held_out` has shape (users,) and is at least 1 for each user.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Hits = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

CONFIDENCE = 0.95
NUM_RESAMPLES = 2000
"""Number of resamples of a bootstrap, so that 50 of them lie below the 2.5% quantile and 50 above the 97.5%
quantile (Efron and Tibshirani 1993)."""


def recall(hits: Hits, num_held_out: Counts) -> Numbers:
    """Return the share of held-out items that are on the list (Manning et al. 2008, section 8.3, cut at k).

    >>> recall(np.array([[True, False]]), np.array([4])).tolist()
    [0.25]
    """
    return np.asarray(hits.sum(axis=1) / num_held_out, np.float64)


def ndcg(hits: Hits, num_held_out: Counts) -> Numbers:
    """Return the discounted cumulative gain as a share of the best possible one, with gains of 1.

    A gain is divided by log2(place + 1), with places counted from 1, and the best list starts with
    min(k, held out) hits: Järvelin and Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques",
    section 3.3.

    >>> ndcg(np.array([[True, False], [False, True]]), np.array([1, 1])).round(4).tolist()
    [1.0, 0.6309]
    """
    discount = 1 / np.log2(np.arange(2, hits.shape[1] + 2))
    ideal = np.cumsum(discount)[np.minimum(num_held_out, hits.shape[1]) - 1]
    return np.asarray((hits @ discount) / ideal, np.float64)


def average_precision(hits: Hits, num_held_out: Counts) -> Numbers:
    """Return the sum of the precisions at each hit, divided by min(k, held out); its mean is MAP@k.

    See Manning et al. 2008, equation 8.8; cut at k as in McFee et al. 2012 (Million Song Dataset Challenge),
    section 4.2.

    >>> average_precision(np.array([[True, False, True]]), np.array([2])).round(4).tolist()
    [0.8333]
    """
    precision = np.cumsum(hits, axis=1) / np.arange(1.0, hits.shape[1] + 1)
    best: Numbers = np.minimum(num_held_out, hits.shape[1]).astype(np.float64)
    return np.asarray(np.einsum("uk,uk->u", precision, hits) / best, np.float64)


def hit_rate(hits: Hits) -> Numbers:
    """Return 1 for a list with a hit and 0 for others (Deshpande and Karypis 2004, section 5.2)."""
    return np.asarray(hits.any(axis=1), np.float64)


def coverage(lists: npt.NDArray[np.int64], num_items: int) -> float:
    """Return the share of items that are on any list (Ge et al. 2010, "Beyond accuracy", section 3.1).

    In `lists`, -1 marks an empty position.

    >>> coverage(np.array([[0, 1], [1, -1]]), 4)
    0.5
    """
    return len(np.unique(lists[lists >= 0])) / max(num_items, 1)


def novelty(lists: npt.NDArray[np.int64], num_users_of_item: Counts, num_users: int) -> Numbers:
    """Return the mean self-information of the items of each list.

    That of an item is -log2 of the share of users who have interacted with the item. This is the surprisal of
    Zhou et al. 2010, "Solving the apparent diversity-accuracy dilemma of recommender systems", with add-one
    smoothing so that it is defined for an item without users.

    >>> novelty(np.array([[0, 1]]), np.array([7, 1]), 15).tolist()
    [2.0]
    """
    information = -np.log2((num_users_of_item + 1) / (num_users + 1))
    return _mean_over(lists, information[np.maximum(lists, 0)])


def intra_list_diversity(lists: npt.NDArray[np.int64], features: npt.NDArray[np.float32]) -> Numbers:
    """Return the mean of 1 - similarity over all pairs of items on a list; 0 for fewer than two items.
    This is the measure of Ziegler et al. 2005, section 3.3, as a distance.
    `features` (items, width) has rows whose products are similarities from 0 to 1.

    >>> intra_list_diversity(np.array([[0, 1, 2]]), np.eye(2, dtype=np.float32)[[0, 0, 1]]).round(4).tolist()
    [0.6667]
    """
    is_there = (lists >= 0).astype(np.float32)
    rows = features[np.maximum(lists, 0)] * is_there[:, :, None]
    likeness = np.matmul(rows, rows.transpose(0, 2, 1)).clip(0, 1)
    own = np.einsum("uii->u", likeness)
    num = is_there.sum(axis=1)
    pairs = num * (num - 1)
    sums = likeness.sum(axis=(1, 2)) - own
    likest = np.divide(sums, pairs, out=np.ones_like(sums), where=pairs > 0)
    return np.asarray(1 - likest, np.float64)


def _mean_over(lists: npt.NDArray[np.int64], values: Numbers) -> Numbers:
    num = (lists >= 0).sum(axis=1)
    return np.asarray(np.where(lists >= 0, values, 0).sum(axis=1) / np.maximum(num, 1), np.float64)


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float


def interval(values: Numbers, seed: int = 0) -> Interval:
    """Return the mean over users and its interval (percentile bootstrap, Efron and Tibshirani 1993, 13.3).

    For differences of two methods on the same users, this is the paired bootstrap (Sakai 2006).
    """
    generator = np.random.default_rng(seed)
    means = np.empty(NUM_RESAMPLES)
    for place in range(NUM_RESAMPLES):
        means[place] = values[generator.integers(0, len(values), len(values))].mean()
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(values.mean()), float(low), float(high))
