"""Which function judges by which rule."""

from __future__ import annotations

from collections.abc import Callable

from kinds.sentiment.series.counts import Counts
from kinds.sentiment.series.rules import reversal, silence, slide, surge
from kinds.sentiment.series.rules.scale import Scale
from kinds.sentiment.series.rules.verdict import Int64s, Verdicts
from kinds.sentiment.series.window import AlertRule

Judge = Callable[[Counts, Int64s, Int64s, Scale], Verdicts]
"""Counts, the cell of the week of each window, the indices to judge, lengths. Windows `Scale.past` before
each index must be there. A verdict depends on these and on nothing later."""

JUDGES: dict[AlertRule, Judge] = {
    AlertRule.SURGE: surge.judge,
    AlertRule.SLIDE: slide.judge,
    AlertRule.SILENCE: silence.judge,
    AlertRule.REVERSAL: reversal.judge,
}
