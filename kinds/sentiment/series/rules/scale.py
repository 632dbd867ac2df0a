"""How many windows each rule looks at, by size of the windows that are judged."""

from __future__ import annotations

from dataclasses import dataclass

from kinds.sentiment.series.window import WindowSize


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """All lengths are numbers of windows. A run is the windows tested, which end with the one judged."""

    windows_per_week: int
    baseline: int
    """How much past the volume of a run is compared with; blocks divide it."""
    min_baseline: int
    """With less past known, no rule judges."""
    blocks: tuple[int, ...]
    """Lengths over which the dispersion of volumes is measured: that of the shortest not below the run's."""
    surge_runs: tuple[int, ...]
    silence_runs: tuple[int, ...]
    mood_baseline: int
    """Scores are noisier than volumes and have no season: they are compared with more past."""
    mood_block: int
    """Over which the autocorrelation of scores is measured; divides mood_baseline."""
    reversal_runs: tuple[int, ...]
    slide_ramp: int
    """How long a slide is; its past lies before, in the same mood_baseline."""

    @property
    def past(self) -> int:
        """How many windows before the judged one a verdict depends on."""
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
