"""The function that judges by each rule."""

from __future__ import annotations

from collections.abc import Callable

from kinds.sentiment.series.counts import Counts
from kinds.sentiment.series.rules import reversal, silence, slide, surge
from kinds.sentiment.series.rules.scale import Scale
from kinds.sentiment.series.rules.verdict import Int64s, Verdicts
from kinds.sentiment.series.window import AlertRule

Judge = Callable[[Counts, Int64s, Int64s, Scale], Verdicts]
"""Takes the counts, each window's cell of the week, the indices to judge, and the lengths. `Scale.past`
windows must lie before each index. A verdict does not depend on anything later."""

JUDGES: dict[AlertRule, Judge] = {
    AlertRule.SURGE: surge.judge,
    AlertRule.SLIDE: slide.judge,
    AlertRule.SILENCE: silence.judge,
    AlertRule.REVERSAL: reversal.judge,
}
