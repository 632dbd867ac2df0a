"""Verdicts of rules on windows, and the numbers of windows that each rule considers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinds.sentiment.series.time_windows import WindowSize


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Lengths, in windows, that the rules use. A rule tests a run of windows and judges the last one."""

    windows_per_week: int
    baseline: int
    """Length of the past that the volume of a run is compared with; a multiple of each of `blocks`."""
    min_baseline: int
    """Minimum length of the known past; with less, no rule fires."""
    blocks: tuple[int, ...]
    """Block lengths for measuring the dispersion of volumes, in ascending order. For a run, the rules use the
    shortest block that is not shorter than the run, or the last block if all are shorter."""
    surge_runs: tuple[int, ...]
    silence_runs: tuple[int, ...]
    mood_baseline: int
    """Length of the past that scores are compared with; long, because scores are noisy and have no season."""
    mood_block: int
    """Length over which the autocorrelation of scores is measured; divides mood_baseline."""
    reversal_runs: tuple[int, ...]
    slide_ramp: int
    """Length of a slide. The slide is compared with the part of `mood_baseline` before it."""

    @property
    def past(self) -> int:
        """Number of windows that a verdict depends on, before the judged one."""
        volume = self.baseline + max(*self.surge_runs, *self.silence_runs)
        return max(volume, self.mood_baseline + max(self.reversal_runs))


SCALES = {
    WindowSize.HOUR: Scale(
        windows_per_week=168,
        baseline=28 * 24,
        min_baseline=14 * 24,
        blocks=(1, 8, 24, 168),
        surge_runs=(4, 24),
        silence_runs=(12, 24, 72, 168),
        mood_baseline=28 * 24,
        mood_block=24,
        reversal_runs=(48, 168),
        slide_ramp=168,
    ),
    WindowSize.DAY: Scale(
        windows_per_week=7,
        baseline=56,
        min_baseline=28,
        blocks=(1, 4, 7),
        surge_runs=(1, 3),
        silence_runs=(1, 2, 4, 7, 14, 28),
        mood_baseline=84,
        mood_block=7,
        reversal_runs=(7, 14, 28),
        slide_ramp=28,
    ),
    WindowSize.WEEK: Scale(
        windows_per_week=1,
        baseline=26,
        min_baseline=8,
        blocks=(1, 2),
        surge_runs=(1,),
        silence_runs=(1, 2, 4),
        mood_baseline=26,
        mood_block=2,
        reversal_runs=(3, 6),
        slide_ramp=6,
    ),
}

Floats = NDArray[np.float64]
Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Arrays with one element per judged window."""

    p_value: Floats
    """p-value under the hypothesis that nothing has changed; 1 where there is too little past or where the
    rule's conditions do not hold."""
    statistic: Floats
    observed: Floats
    expected: Floats
    run: Int64s
    """Number of windows, up to the one judged, that the verdict is based on."""


def masked(p_value: Floats, holds: Bools) -> Floats:
    """Return the p-values, with 1 where the rule's conditions do not hold or the p-value is not finite."""
    return np.where(holds & np.isfinite(p_value), p_value, 1.0)


def most_significant(verdicts: list[Verdicts]) -> Verdicts:
    """Return, for each window, the verdict of the run with the smallest p-value; the first run wins a tie.

    The p-value is multiplied by the number of runs (Bonferroni).
    """
    p_values = np.stack([verdict.p_value for verdict in verdicts])
    best = np.argmin(p_values, axis=0)
    each = np.arange(p_values.shape[1])

    def chosen(name: str) -> NDArray[np.float64]:
        values: NDArray[np.float64] = np.stack([getattr(verdict, name) for verdict in verdicts])[best, each]
        return values

    return Verdicts(
        p_value=np.minimum(p_values[best, each] * len(verdicts), 1.0),
        statistic=chosen("statistic"),
        observed=chosen("observed"),
        expected=chosen("expected"),
        run=np.stack([verdict.run for verdict in verdicts])[best, each],
    )


def trailing(values: NDArray[np.int64], at: Int64s, length: int, gap: int = 0) -> Int64s:
    """Return the `length` values that end `gap` windows before each index of `at` (T), shape (T, length)."""
    stretches: Int64s = values[(at - gap)[:, None] + np.arange(1 - length, 1)]
    return stretches
