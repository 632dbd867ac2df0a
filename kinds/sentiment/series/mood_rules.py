"""The rules slide and reversal, which compare mean scores with those of the entity's own past.

Documents of a day, and days of a week, resemble each other, which makes a mean less certain. The mean of a
run is compared with the mean of the past; both are weighted by relevance. The variance of a document's score
is estimated from the past, with each window as a cluster, and multiplied by a design effect (Kish 1965). The
design effect is the variance of sums over whole blocks (weeks, if windows are days) divided by the variance
that independent windows would give; it is estimated by batch means (Law & Kelton). Because there are few
blocks, it is shrunk towards a prior with PRIOR_DEGREES degrees of freedom (Smyth 2004, Stat. Appl. Genet.
Mol. Biol. 3, 3). These degrees are also added to those of the t distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from kinds.sentiment.series.counts import Counts
from kinds.sentiment.series.time_windows import SCORE_UNIT
from kinds.sentiment.series.verdicts import (
    Bools,
    Floats,
    Int64s,
    Scale,
    Verdicts,
    masked,
    most_significant,
    trailing,
)

PRIOR_DEGREES = 8.0
PRIOR_EFFECT = 1.25
"""Design effect of a quiet feed with a little autocorrelation."""
WANDER = 0.1
"""Standard deviation, in units of the score, of the slow drift of a mood over weeks; blocks are too short to
measure it. Its square is added to the variance of each estimated change, because the mean of a busy entity is
otherwise so certain that every drift counts as a change. The value is the smallest of 0, 0.1 and 0.15 that
keeps the false alarms of entities with a slow drift near the budget."""
MIN_DOCUMENTS = 12
"""Minimum number of documents in the past."""
MIN_WINDOWS = 6
"""Minimum number of past windows that contain documents."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Sums per window, for the D consecutive windows that lead up to each of T windows.

    Every array has shape (T, D). The last of the D windows is the window itself, or lies a fixed number of
    windows before it; see `scores`. `known` marks the windows that are known.
    """

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
    """Variance of a document's score, with the design effect, and its degrees of freedom, shape (T,)."""

    variance: Floats
    degrees: Floats
    enough: Bools

    def lower_tail(self, t: Floats) -> Floats:
        """Return P(T <= t); NaN where there is too little past."""
        tail: Floats = special.stdtr(self.degrees, np.where(self.enough, t, 0.0))
        return np.where(self.enough, tail, np.nan)


def scores(counts: Counts, at: Int64s, length: int, gap: int = 0) -> Scores:
    """Return the sums of the `length` windows that end `gap` windows before each index of `at`.

    Windows before the first known one count as empty.
    """
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

    `residual`, shape (T, D), holds the sums of weight times deviation from the fit.
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


MIN_RAMP_DOCUMENTS = 8
_NUM_STEPS = 7
"""Number of sudden falls that the hinge is compared with: one after each eighth of the ramp."""
_MARGIN = 0.9
"""Minimum ratio of the sum of squares that the hinge explains to the one that the best step explains. In a
true slide, the best of seven steps also fits some of the noise, so the ratio can be below 1. For a true step,
it is about 0.75."""


def judge_slide(counts: Counts, _cells: Int64s, at: Int64s, scale: Scale) -> Verdicts:
    """Judge slides, in which the mood gets worse slowly.

    Test: weighted least squares of the windows' scores on a hinge that is level over the past and falls over
    the last `slide_ramp` windows (four weeks, for days); one-sided t-test of its slope. The rule fires only
    if the hinge explains the scores better than a sudden fall anywhere in the ramp, or about as well, because
    a sudden fall is left to the rules surge and reversal. The condition only removes alerts; the p-value is
    that of the slope. Observed and expected are the fitted scores at the end of the ramp and before it.
    """
    length, ramp = scale.mood_baseline, scale.slide_ramp
    whole = scores(counts, at, length)
    hinge = np.maximum(np.arange(1 - length, 1) + ramp, 0) / ramp
    with np.errstate(invalid="ignore", divide="ignore"):
        slope, centred = _fit(whole, hinge)
        level = whole.mean()
        residual = whole.score - whole.weight * (level[:, None] + slope[:, None] * centred)
        spread = noise(whole, np.nan_to_num(residual), scale, 2)
        moment = (whole.weight * centred**2).sum(1)
        variance = spread.variance * (whole.weight_squared * centred**2).sum(1) / moment**2
        t = slope / np.sqrt(variance + WANDER**2)
        before = level + slope * centred[:, 0]
        holds = _gradual(whole, ramp) & _enough(whole, ramp, scale)
    return Verdicts(
        p_value=masked(spread.lower_tail(t), holds),
        statistic=t,
        observed=before + slope,
        expected=before,
        run=np.full(len(at), ramp),
    )


def _fit(whole: Scores, shape: Floats) -> tuple[Floats, Floats]:
    """Fit a level and a multiple of a shape (D,) to the scores.

    Returns the slope (T,) and the shape centred on its weighted mean (T, D).
    """
    centred = shape - ((whole.weight * shape).sum(1) / whole.weight.sum(1))[:, None]
    return (whole.score * centred).sum(1) / (whole.weight * centred**2).sum(1), centred


def _explained(whole: Scores, shape: Floats) -> Floats:
    """Return by how much fitting `shape` reduces the weighted sum of squares, as an array (T,)."""
    slope, centred = _fit(whole, shape)
    return np.asarray(slope**2 * (whole.weight * centred**2).sum(1))


def _gradual(whole: Scores, ramp: int) -> Bools:
    """Return whether the hinge explains the scores about as well as the best step, or better."""
    days = np.arange(1 - whole.weight.shape[1], 1) + ramp
    hinge = _explained(whole, np.maximum(days, 0) / ramp)
    steps = [_explained(whole, (days * 8 > ramp * k).astype(float)) for k in range(1, _NUM_STEPS + 1)]
    return np.asarray(hinge > _MARGIN * np.nan_to_num(np.array(steps)).max(axis=0))


def _enough(whole: Scores, ramp: int, scale: Scale) -> Bools:
    """Return whether enough of the past before the ramp is known, and the ramp contains enough documents."""
    known = whole.known[:, :-ramp].sum(1) >= scale.min_baseline
    return np.asarray(known & (whole.documents[:, -ramp:].sum(1) >= MIN_RAMP_DOCUMENTS))


MIN_RUN_DOCUMENTS = 4
MIN_DISTANCE = 0.05
"""Minimum distance of either mean from 0, because a nearly neutral mood is on neither side."""


def judge_reversal(counts: Counts, _cells: Int64s, at: Int64s, scale: Scale) -> Verdicts:
    """Judge reversals, in which the mood changes sign and keeps the new sign.

    Test: two-sided, two-sample t-test, similar to Welch's, of the run's mean score against that of the mood
    baseline before it, with the past's variance for both. The rule fires only if the two means have opposite
    signs and all three thirds of the run have the new sign, so that a burst of a few days does not reverse a
    good month. For days, runs of one, two and four weeks are tested. Observed and expected are the mean
    scores of the run and of the past.
    """
    return most_significant([_judge_reversal_run(counts, at, scale, run) for run in scale.reversal_runs])


def _judge_reversal_run(counts: Counts, at: Int64s, scale: Scale, run: int) -> Verdicts:
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
