"""Aggregates of an entity's documents in a window, and their comparison with the entity's own past."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kinds.sentiment.series.counts import Counts
from kinds.sentiment.series.time_windows import SCORE_UNIT, EntityWindow, WindowSize

Floats = NDArray[np.float64]
Int64s = NDArray[np.int64]

_Z = 1.959963984540054
"""Normal quantile of a two-sided 95% interval."""
_MIN_TREND_WINDOWS = 3
"""Minimum windows with documents for a trend, because a line fits any two points exactly."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The numbers of past windows that a window of a given size is compared with."""

    trend: int
    """Windows that the trend covers, including the window itself."""
    baseline: int
    gap: int
    """Windows between the baseline and the window, so that a recent change is not part of the baseline."""

    @property
    def past(self) -> int:
        """Number of earlier windows that the figures of a window depend on."""
        return max(self.trend - 1, self.baseline + self.gap)


COMPARISONS = {
    WindowSize.HOUR: Comparison(trend=24, baseline=28 * 24, gap=24),
    WindowSize.DAY: Comparison(trend=14, baseline=56, gap=7),
    WindowSize.WEEK: Comparison(trend=8, baseline=8, gap=1),
}


def wilson(successes: Floats, trials: Floats) -> tuple[Floats, Floats]:
    """Return the 95% score interval of a proportion (Wilson 1927, JASA 22, 209); trials must be at least 1.

    >>> low, high = wilson(np.array([5.0]), np.array([20.0]))
    >>> round(float(low[0]), 4), round(float(high[0]), 4)
    (0.1119, 0.4687)
    """
    share = successes / trials
    scale = 1 + _Z**2 / trials
    centre = (share + _Z**2 / (2 * trials)) / scale
    half = _Z * np.sqrt(share * (1 - share) / trials + (_Z / (2 * trials)) ** 2) / scale
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def entity_windows(
    entity_id: str, counts: Counts, *, begin: int, named: Container[datetime] = ()
) -> list[EntityWindow]:
    """Return the windows from index `begin` on; at least `Comparison.past` windows must lie before it.

    Hour windows without a mention are left out, because there are many of them, all empty. Windows that begin
    at an instant in `named` are kept, because an alert refers to them.
    """
    comparison = COMPARISONS[counts.size]
    scores = _mean(counts.score, counts.weight)
    low, high = wilson(counts.negative.astype(float), np.maximum(counts.documents, 1).astype(float))
    trends = _trend(counts, comparison.trend)
    past_scores, past_volumes = _baseline(counts, comparison)
    windows = []
    for index in range(max(begin, counts.known_from), len(counts)):
        documents = int(counts.documents[index])
        is_empty = not documents and not counts.followups[index]
        if counts.size is WindowSize.HOUR and is_empty and counts.starts[index] not in named:
            continue
        score, past_score = _number(scores[index]), _number(past_scores[index])
        windows.append(
            EntityWindow(
                entity_id=entity_id,
                size=counts.size,
                starts_at=counts.starts[index],
                num_documents=documents,
                num_followups=int(counts.followups[index]),
                num_positive=int(counts.positive[index]),
                num_neutral=int(counts.neutral[index]),
                num_negative=int(counts.negative[index]),
                weight=int(counts.weight[index]),
                weight_squared=int(counts.weight_squared[index]),
                weighted_score=int(counts.score[index]),
                mean_score=score,
                negative_share=int(counts.negative[index]) / documents if documents else None,
                negative_low=float(low[index]) if documents else None,
                negative_high=float(high[index]) if documents else None,
                trend=_number(trends[index]),
                baseline_score=past_score,
                baseline_volume=_number(past_volumes[index]),
                change=None if score is None or past_score is None else score - past_score,
            )
        )
    return windows


def _mean(score: Int64s, weight: Int64s) -> Floats:
    """Return the weighted mean score; NaN where the weight is 0."""
    with np.errstate(invalid="ignore"):
        return score * SCORE_UNIT / np.where(weight > 0, weight, np.nan)


def _trend(counts: Counts, length: int) -> Floats:
    """Return the weighted least-squares slope of the score per window over the last `length` windows.

    The slope is NaN where too few of these windows have documents.
    """
    slopes = np.full(len(counts), np.nan)
    if len(counts) < length:
        return slopes
    steps = np.arange(length)
    weight, score = sliding_window_view(counts.weight, length), sliding_window_view(counts.score, length)
    total, first, second = (weight.sum(1).astype(float), (weight @ steps).astype(float), (weight @ steps**2))
    level, moment = score.sum(1) * SCORE_UNIT, (score @ steps) * SCORE_UNIT
    spread = total * second - first**2
    enough = (np.count_nonzero(weight, axis=1) >= _MIN_TREND_WINDOWS) & (spread > 0)
    slopes[length - 1 :][enough] = (total * moment - first * level)[enough] / spread[enough]
    return slopes


def _baseline(counts: Counts, comparison: Comparison) -> tuple[Floats, Floats]:
    """Return the weighted mean score and the documents per window of each window's baseline.

    Both are NaN where there is no baseline.
    """
    indices = np.arange(len(counts))
    high = np.maximum(indices - comparison.gap, 0)
    low = np.clip(high - comparison.baseline, counts.known_from if counts.known_from > 0 else 0, None)
    low = np.minimum(low, high)

    def total(values: Int64s) -> Int64s:
        cumulated: Int64s = np.concatenate([[0], np.cumsum(values)])
        return np.asarray(cumulated[high] - cumulated[low])

    with np.errstate(invalid="ignore"):
        volume = total(counts.documents) / np.where(high > low, high - low, np.nan)
    return _mean(total(counts.score), total(counts.weight)), volume


def _number(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)
