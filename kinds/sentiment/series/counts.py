"""Counts an entity's mentions into consecutive windows without gaps.

All sums are integers, so that a sum over windows does not depend on the order in which they were read, and a
result computed from a part of the past equals, to the last bit, the one computed from the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from kinds.sentiment.series.calendar import shifted, window_starts
from kinds.sentiment.series.readings import Columns, epoch_us_of
from kinds.sentiment.series.window import WindowSize, WindowSums

Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums of one entity over n consecutive windows, of which the last may not have ended."""

    size: WindowSize
    starts: Sequence[datetime]
    ends_at: datetime
    """End of the last window."""
    known_from: int
    """Index of the window in which the entity was first mentioned; earlier windows are unknown, not empty."""
    documents: Int64s
    followups: Int64s
    negative: Int64s
    neutral: Int64s
    positive: Int64s
    weight: Int64s
    weight_squared: Int64s
    score: Int64s
    """Sum of weight times score, in units of SCORE_UNIT."""

    def __len__(self) -> int:
        return len(self.starts)


def count(
    columns: Columns,
    size: WindowSize,
    zone: ZoneInfo,
    *,
    begin: datetime,
    until: datetime,
    first_at: datetime,
    counted_from: datetime,
    kept: Sequence[WindowSums],
) -> Counts:
    """Return the windows from that of `begin` to the last one that begins before `until`.

    Mentions are counted from `counted_from`, the start of a window, on; the windows before it come from
    `kept`.
    """
    starts = window_starts(size, zone, begin, until)
    ends_at = shifted(size, zone, starts[-1], 1)
    edges = np.array([epoch_us_of(start) for start in (*starts, ends_at)], np.int64)
    window = np.searchsorted(edges, columns.epoch_us, side="right") - 1
    inside = (window >= 0) & (window < len(starts)) & (columns.epoch_us >= epoch_us_of(counted_from))
    first, weight = columns.first & inside, columns.weight
    place_of = {start: place for place, start in enumerate(starts) if start < counted_from}
    standing = [(place_of[sums.starts_at], sums) for sums in kept if sums.starts_at in place_of]

    def total(name: str, chosen: Bools, amount: Int64s | None = None) -> Int64s:
        sums = np.zeros(len(starts), np.int64)
        np.add.at(sums, window[chosen], 1 if amount is None else amount[chosen])
        for place, each in standing:
            sums[place] = getattr(each, name)
        return sums

    return Counts(
        size=size,
        starts=starts,
        ends_at=ends_at,
        known_from=int(np.searchsorted(edges, epoch_us_of(first_at), side="right")) - 1,
        documents=total("num_documents", first),
        followups=total("num_followups", columns.followup & inside),
        negative=total("num_negative", first & (columns.label == 0)),
        neutral=total("num_neutral", first & (columns.label == 1)),
        positive=total("num_positive", first & (columns.label == 2)),
        weight=total("weight", first, weight),
        weight_squared=total("weight_squared", first, weight * weight),
        score=total("weighted_score", first, weight * columns.score),
    )
