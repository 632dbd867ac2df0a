"""Numbers of windows that each rule considers, by size of the windows that are judged."""

from __future__ import annotations

from dataclasses import dataclass

from kinds.sentiment.series.window import WindowSize


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Lengths used by the rules, in windows. A run is the tested windows, which end with the one judged."""

    windows_per_week: int
    baseline: int
    """Length of the past that the volume of a run is compared with; a multiple of each of `blocks`."""
    min_baseline: int
    """Minimum known past; with less, no rule judges."""
    blocks: tuple[int, ...]
    """Lengths for measuring the dispersion of volumes; the shortest not below the run's length is used."""
    surge_runs: tuple[int, ...]
    silence_runs: tuple[int, ...]
    mood_baseline: int
    """Length of the past that scores are compared with; long, because scores are noisy and have no season."""
    mood_block: int
    """Length over which the autocorrelation of scores is measured; divides mood_baseline."""
    reversal_runs: tuple[int, ...]
    slide_ramp: int
    """Length of a slide; its past lies before it, within the same mood_baseline."""

    @property
    def past(self) -> int:
        """Number of windows before the judged one that a verdict depends on."""
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
