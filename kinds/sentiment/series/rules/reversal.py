"""Reversal: the mood has turned to the other side of its past, and stays there.

Test: Welch-like two-sample t of the run's mean score against that of the mood baseline before it, two-sided,
with the past's variance for both (see mood.py). It fires only when the two means have opposite signs, and all
three thirds of the run lie on the new side: a burst of a few days does not turn a good month. Runs of one,
two and four weeks are tested.
"""

from __future__ import annotations

import numpy as np

from kinds.sentiment.series.counts import Counts
from kinds.sentiment.series.rules.mood import WANDER, noise, scores
from kinds.sentiment.series.rules.scale import Scale
from kinds.sentiment.series.rules.verdict import Int64s, Verdicts, masked, most_significant

MIN_RUN_DOCUMENTS = 4
MIN_DISTANCE = 0.05
"""Minimum distance of either mean from 0, because a mood close to neutral has no side to turn from."""


def judge(counts: Counts, _cells: Int64s, at: Int64s, scale: Scale) -> Verdicts:
    """Judge the windows; observed and expected are the mean scores of the run and of the past."""
    return most_significant([_judge_run(counts, at, scale, run) for run in scale.reversal_runs])


def _judge_run(counts: Counts, at: Int64s, scale: Scale, run: int) -> Verdicts:
    past, now = scores(counts, at, scale.mood_baseline, run), scores(counts, at, run)
    third = run // 3
    thirds = [
        scores(counts, at, run - 2 * third, 2 * third),
        scores(counts, at, third, third),
        scores(counts, at, third),
    ]
    past_mean, mean = past.mean(), now.mean()
    spread = noise(past, past.score - past_mean[:, None] * past.weight, scale, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = spread.variance * (
            past.weight_squared.sum(1) / past.weight.sum(1) ** 2.0
            + now.weight_squared.sum(1) / now.weight.sum(1) ** 2.0
        )
        t = (mean - past_mean) / np.sqrt(variance + WANDER**2)
        side = np.sign(mean)
        turned = (mean * past_mean < 0) & (np.minimum(abs(mean), abs(past_mean)) >= MIN_DISTANCE)
        stays = np.all([part.mean() * side > 0 for part in thirds], axis=0)
    holds = turned & stays & (now.documents.sum(1) >= MIN_RUN_DOCUMENTS)
    return Verdicts(
        p_value=masked(2 * spread.lower_tail(-abs(t)), holds),
        statistic=t,
        observed=mean,
        expected=past_mean,
        run=np.full(len(at), run),
    )
