"""Slide: the mood has been getting worse, slowly.

Test: weighted least squares of the windows' scores on a hinge that is level over the past and falls over the
last `slide_ramp` windows (four weeks, for days); one-sided t of its slope, with the variance of mood.py. It
fires only if the middle of the ramp already lies below the past, and the last quarter below the middle: a
sudden fall is a surge or a reversal. The p-value is that of the whole slope; the conditions only take alerts
away.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from jobs.series.counts import Counts
from jobs.series.rules.mood import Scores, noise, scores
from jobs.series.rules.scale import Scale
from jobs.series.rules.verdict import Bools, Floats, Int64s, Verdicts, masked

MIN_RAMP_DOCUMENTS = 8
_MAX_MIDDLE_P = 0.15
"""How surely the middle of the ramp lies below the past: three of twenty quiet ones pass."""


def judge(counts: Counts, _cells: Int64s, at: Int64s, scale: Scale) -> Verdicts:
    """Observed is the fitted score at the end of the ramp, expected that before it."""
    length, ramp = scale.mood_baseline, scale.slide_ramp
    hinge = np.maximum(np.arange(1 - length, 1) + ramp, 0) / ramp
    whole = scores(counts, at, length)
    weight = whole.weight.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = hinge - ((whole.weight * hinge).sum(1) / weight)[:, None]
        moment = (whole.weight * centred**2).sum(1)
        slope = (whole.score * centred).sum(1) / moment
        level = whole.mean()
        residual = whole.score - whole.weight * (level[:, None] + slope[:, None] * centred)
        spread = noise(whole, np.nan_to_num(residual), scale, 2)
        t = slope / np.sqrt(spread.variance * (whole.weight_squared * centred**2).sum(1)) * moment
        before = level + slope * centred[:, 0]
        holds = _goes_on(counts, at, scale, spread.variance) & _known(whole, ramp, scale)
    return Verdicts(
        p_value=masked(spread.lower_tail(t), holds),
        statistic=t,
        observed=before + slope,
        expected=before,
        run=np.full(len(at), ramp),
    )


def _goes_on(counts: Counts, at: Int64s, scale: Scale, variance: Floats) -> Bools:
    """The ramp's second and third quarter lie below the past, and its last below them."""
    quarter = scale.slide_ramp // 4
    past = scores(counts, at, scale.mood_baseline - scale.slide_ramp, scale.slide_ramp)
    middle, last = scores(counts, at, 2 * quarter, quarter), scores(counts, at, quarter)
    spread = np.sqrt(
        variance
        * (
            past.weight_squared.sum(1) / past.weight.sum(1) ** 2.0
            + middle.weight_squared.sum(1) / middle.weight.sum(1) ** 2.0
        )
    )
    enough = scores(counts, at, scale.slide_ramp).documents.sum(1) >= MIN_RAMP_DOCUMENTS
    below: Bools = special.ndtr((middle.mean() - past.mean()) / spread) < _MAX_MIDDLE_P
    return np.asarray(enough & below & (last.mean() < middle.mean()))


def _known(whole: Scores, ramp: int, scale: Scale) -> Bools:
    """Enough past before the ramp."""
    return np.asarray(whole.known[:, :-ramp].sum(1) >= scale.min_baseline)
