"""Time windows: when they begin in a time zone, and their aggregates of an entity's documents.

All instants are UTC. Days begin at local midnight and have 23 or 25 hours when clocks change; weeks begin
on Monday. Hours are always 60 minutes long and begin with the hours of the zone (in India, at half past the
hour in UTC).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

SCORE_UNIT = 1e-9
"""Unit to which scores are rounded: a thousandth of the last printed digit of a probability."""


class WindowSize(StrEnum):
    """Length of a window. Days, and weeks from Monday, are those of the monitor's time zone."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"


_HOUR = timedelta(hours=1)
_REFERENCE = datetime(2026, 1, 1, tzinfo=UTC)
"""The instant at which a zone's offset is read. It is fixed, so that historic changes of the offset cause no
hour of 30 minutes."""


def window_of(size: WindowSize, zone: ZoneInfo, instant: datetime) -> datetime:
    """Return the start of the window that contains the instant."""
    if size is WindowSize.HOUR:
        offset = _REFERENCE.astimezone(zone).utcoffset() or timedelta()
        since_hour = (instant - _REFERENCE + offset) % _HOUR
        return instant.astimezone(UTC) - since_hour
    return _midnight(_first_day(size, instant.astimezone(zone).date()), zone)


def shifted(size: WindowSize, zone: ZoneInfo, start: datetime, num_windows: int) -> datetime:
    """Return the start of the window `num_windows` after the one at `start`; before it if negative."""
    if size is WindowSize.HOUR:
        return start + num_windows * _HOUR
    days = num_windows * (7 if size is WindowSize.WEEK else 1)
    return _midnight(start.astimezone(zone).date() + timedelta(days=days), zone)


def window_starts(size: WindowSize, zone: ZoneInfo, first: datetime, until: datetime) -> list[datetime]:
    """Return the starts of windows, from the one containing `first` to the last beginning before `until`."""
    starts, start = [], window_of(size, zone, first)
    if size is WindowSize.HOUR:
        while start < until:
            starts.append(start)
            start += _HOUR
        return starts
    day, step = start.astimezone(zone).date(), timedelta(days=7 if size is WindowSize.WEEK else 1)
    while start < until:
        starts.append(start)
        day += step
        start = _midnight(day, zone)
    return starts


def _first_day(size: WindowSize, day: date) -> date:
    return day - timedelta(days=day.weekday()) if size is WindowSize.WEEK else day


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return the first instant of the day; where clocks skip midnight, the time of the change (PEP 495)."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSums:
    """Sums over the first reports in a window, as exact integers; later windows and alerts depend on them."""

    starts_at: datetime
    """Start of the window in UTC."""
    num_documents: int
    num_followups: int
    """Number of documents that repeat an earlier one; they are counted in no other field."""
    num_positive: int
    num_neutral: int
    num_negative: int
    """`num_positive`, `num_neutral` and `num_negative` count documents by their most likely class."""
    weight: int
    """Sum of the documents' weights. The weight of a document is its relevance, but at least 1."""
    weight_squared: int
    weighted_score: int
    """Sum of weight times score, in units of SCORE_UNIT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityWindow(WindowSums):
    """The figures of one entity in one window."""

    entity_id: str
    size: WindowSize
    mean_score: float | None
    """Mean score weighted by relevance; None in a window without documents."""
    negative_share: float | None
    negative_low: float | None
    negative_high: float | None
    """Bounds of the 95% Wilson interval of negative_share."""
    trend: float | None
    """Slope of the score per window over the last windows, including this one; see aggregate.py."""
    baseline_score: float | None
    """Weighted mean score of the entity's own past, which is its earlier windows."""
    baseline_volume: float | None
    """Documents per window in the entity's own past."""
    change: float | None
    """mean_score - baseline_score."""
