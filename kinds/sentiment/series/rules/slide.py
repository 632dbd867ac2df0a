"""Slide: the mood has been getting worse, slowly.

Test: weighted least squares of the windows' scores on a hinge that is level over the past and falls over the
last `slide_ramp` windows (four weeks, for days); one-sided t of its slope, with the variance of mood.py. It
fires only if the hinge explains the scores about as well as a sudden fall anywhere in the ramp does, or
better: such a fall is a surge or a reversal. The condition only removes alerts; the p-value is that of the
slope.
"""

from __future__ import annotations

import numpy as np

from kinds.sentiment.series.counts import Counts
from kinds.sentiment.series.rules.mood import WANDER, Scores, noise, scores
from kinds.sentiment.series.rules.scale import Scale
from kinds.sentiment.series.rules.verdict import Bools, Floats, Int64s, Verdicts, masked

MIN_RAMP_DOCUMENTS = 8
_NUM_STEPS = 7
"""Number of sudden falls that the hinge is compared with: one after each eighth of the ramp."""
_MARGIN = 0.9
"""Minimum ratio of what the hinge explains to what the best step does. Of seven steps one will fit the noise
of a true slide, so a tenth less is accepted; of a true step the hinge explains a quarter less."""


def judge(counts: Counts, _cells: Int64s, at: Int64s, scale: Scale) -> Verdicts:
    """Judge the windows; observed and expected are the fitted scores at the end of the ramp and before it."""
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
    """Return by how much a fit of the shape lowers the weighted sum of squares, shape (T,)."""
    slope, centred = _fit(whole, shape)
    return np.asarray(slope**2 * (whole.weight * centred**2).sum(1))


def _gradual(whole: Scores, ramp: int) -> Bools:
    """Return whether the hinge explains the scores about as well as the best step, or better."""
    days = np.arange(1 - whole.weight.shape[1], 1) + ramp
    hinge = _explained(whole, np.maximum(days, 0) / ramp)
    steps = [_explained(whole, (days * 8 > ramp * k).astype(float)) for k in range(1, _NUM_STEPS + 1)]
    return np.asarray(hinge > _MARGIN * np.nan_to_num(np.array(steps)).max(axis=0))


def _enough(whole: Scores, ramp: int, scale: Scale) -> Bools:
    """Return whether there is enough known past before the ramp, and enough documents in it."""
    known = whole.known[:, :-ramp].sum(1) >= scale.min_baseline
    return np.asarray(known & (whole.documents[:, -ramp:].sum(1) >= MIN_RAMP_DOCUMENTS))
