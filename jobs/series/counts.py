"""An entity's mentions counted into windows without a gap between them.

All sums are integers, so that a sum over windows is the same whichever of them were read first, and a result
computed from a part of the past equals, to the last bit, the one computed from the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from jobs.series.calendar import shifted, window_starts
from jobs.series.mention import Mention
from jobs.series.window import WindowSize

Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]

SCORE_UNIT = 1e-9
"""Scores are rounded to it: a thousandth of what a probability's last printed digit says."""


@dataclass(frozen=True, slots=True)
class Columns:
    """One entity's mentions in order of (published_at, document_id), as arrays of length N."""

    mentions: Sequence[Mention]
    epoch_us: Int64s
    first: Bools
    """Counted as a document: a first report of enough relevance."""
    followup: Bools
    label: Int64s
    """0 negative, 1 neutral, 2 positive: the most likely."""
    weight: Int64s
    """Relevance, at least 1."""
    score: Int64s
    """In units of SCORE_UNIT."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums of one entity over n consecutive windows; the last may not have ended."""

    size: WindowSize
    starts: Sequence[datetime]
    ends_at: datetime
    """Of the last window."""
    known_from: int
    """Index of the window in which the entity was first mentioned: those before say nothing."""
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


def epoch_us_of(instant: datetime) -> int:
    """Microseconds since 1970, exactly: a float has the precision until the year 2255."""
    return round(instant.timestamp() * 1e6)


def columns_of(mentions: Sequence[Mention], epoch_us: Int64s, numbers: Int64s, min_relevance: int) -> Columns:
    """Arrays of ordered mentions and of their numbers in their chains."""
    rows = np.array(
        [(m.p_negative, m.p_neutral, m.p_positive, m.relevance) for m in mentions], np.float64
    ).reshape(-1, 4)
    relevant = rows[:, 3] >= min_relevance
    return Columns(
        mentions=mentions,
        epoch_us=epoch_us,
        first=relevant & (numbers == 1),
        followup=relevant & (numbers > 1),
        label=np.argmax(rows[:, :3], axis=1),
        weight=np.maximum(rows[:, 3], 1).astype(np.int64),
        score=np.rint((rows[:, 2] - rows[:, 0]) / SCORE_UNIT).astype(np.int64),
    )


def count(
    columns: Columns,
    size: WindowSize,
    zone: ZoneInfo,
    *,
    begin: datetime,
    until: datetime,
    first_at: datetime,
) -> Counts:
    """Windows from that of `begin` to the last one that begins before `until`."""
    starts = window_starts(size, zone, begin, until)
    ends_at = shifted(size, zone, starts[-1], 1)
    edges = np.array([epoch_us_of(start) for start in (*starts, ends_at)], np.int64)
    window = np.searchsorted(edges, columns.epoch_us, side="right") - 1
    inside = (window >= 0) & (window < len(starts))
    first, weight = columns.first & inside, columns.weight

    def total(chosen: Bools, amount: Int64s | None = None) -> Int64s:
        sums = np.zeros(len(starts), np.int64)
        np.add.at(sums, window[chosen], 1 if amount is None else amount[chosen])
        return sums

    return Counts(
        size=size,
        starts=starts,
        ends_at=ends_at,
        known_from=int(np.searchsorted(edges, epoch_us_of(first_at), side="right")) - 1,
        documents=total(first),
        followups=total(columns.followup & inside),
        negative=total(first & (columns.label == 0)),
        neutral=total(first & (columns.label == 1)),
        positive=total(first & (columns.label == 2)),
        weight=total(first, weight),
        weight_squared=total(first, weight * weight),
        score=total(first, weight * columns.score),
    )
