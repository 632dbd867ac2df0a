"""Estimates the uncertainty of a mean score when documents of a day, and days of a week, resemble each other.

The mean of a run is compared with the mean of the past; both are weighted by relevance. The variance of a
document's score is measured on the past's windows as clusters, and widened by a design effect: the ratio of
the variance of sums over whole blocks (weeks, for days) to what independent windows would give (batch means,
Law & Kelton; Kish 1965 for the term). Since there are few blocks, the ratio is moderated as in Smyth 2004
(Stat. Appl. Genet. Mol. Biol. 3, 3): it is shrunk towards a prior with PRIOR_DEGREES degrees of freedom,
which are added to those of the t distribution, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from kinds.sentiment.series.counts import Counts
from kinds.sentiment.series.rules.scale import Scale
from kinds.sentiment.series.rules.verdict import Bools, Floats, Int64s, trailing
from kinds.sentiment.series.window import SCORE_UNIT

PRIOR_DEGREES = 8.0
PRIOR_EFFECT = 1.25
"""Design effect of a quiet feed with a little autocorrelation."""
WANDER = 0.1
"""Standard deviation of a mood that wanders for weeks, in units of the score, which blocks are too short to
measure. It is added to each comparison of two means, because a busy entity's mean is otherwise so certain
that every drift counts as a turn. The smallest of 0, 0.1 and 0.15 that keeps such feeds near the budget."""
MIN_DOCUMENTS = 12
"""Minimum documents in the past."""
MIN_WINDOWS = 6
"""Minimum windows with documents in the past."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Sums over stretches of D windows that end with, or before, each of T windows, shape (T, D)."""

    weight: Int64s
    weight_squared: Int64s
    score: Floats
    documents: Int64s
    known: Bools

    def mean(self) -> Floats:
        """Return the weighted mean score, shape (T,); NaN where there is no document."""
        weight = self.weight.sum(1)
        with np.errstate(invalid="ignore"):
            return np.asarray(self.score.sum(1) / np.where(weight > 0, weight, np.nan))


@dataclass(frozen=True, slots=True)
class Noise:
    """Variance of a document's score per squared weight, and its degrees of freedom, shape (T,)."""

    variance: Floats
    degrees: Floats
    enough: Bools

    def lower_tail(self, t: Floats) -> Floats:
        """Return P(T <= t); NaN where there is too little past."""
        tail: Floats = special.stdtr(self.degrees, np.where(self.enough, t, 0.0))
        return np.where(self.enough, tail, np.nan)


def scores(counts: Counts, at: Int64s, length: int, gap: int = 0) -> Scores:
    """Return the `length` windows that end `gap` before each index of `at`; unknown windows are empty."""
    known = trailing(np.arange(len(counts)), at, length, gap) >= counts.known_from
    return Scores(
        weight=trailing(counts.weight, at, length, gap),
        weight_squared=trailing(counts.weight_squared, at, length, gap),
        score=trailing(counts.score, at, length, gap).astype(np.float64) * SCORE_UNIT,
        documents=trailing(counts.documents, at, length, gap),
        known=known,
    )


def noise(past: Scores, residual: Floats, scale: Scale, num_fitted: int) -> Noise:
    """Return the noise of a fit with `num_fitted` parameters.

    `residual`, shape (T, D), holds the sums of weight times deviation that the fit leaves.
    """
    windows = np.count_nonzero(past.weight > 0, axis=1)
    blocks = residual.reshape(len(residual), -1, scale.mood_block)
    num_blocks = np.count_nonzero(past.weight.reshape(len(residual), -1, scale.mood_block).sum(2) > 0, axis=1)
    single, block = (residual**2).sum(1), (blocks.sum(2) ** 2).sum(1)
    single_degrees = np.maximum(windows - num_fitted, 1.0)
    block_degrees = np.maximum(num_blocks - num_fitted, 1.0)
    ratio = (block * num_blocks / block_degrees) / np.maximum(single * windows / single_degrees, 1e-12)
    degrees = PRIOR_DEGREES + block_degrees
    effect = np.maximum((PRIOR_DEGREES * PRIOR_EFFECT + block_degrees * ratio) / degrees, 1.0)
    variance = single * windows / single_degrees / np.maximum(past.weight_squared.sum(1), 1) * effect
    enough = (
        (past.known.sum(1) >= scale.min_baseline)
        & (past.documents.sum(1) >= MIN_DOCUMENTS)
        & (windows >= MIN_WINDOWS)
        & (variance > 0)
    )
    return Noise(variance, np.minimum(degrees, single_degrees), enough)
