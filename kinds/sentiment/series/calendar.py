"""Starts of windows in a time zone; all instants passed in or returned are UTC.

Days begin at local midnight and have 23 or 25 hours when clocks change; weeks begin on Monday. Hours are
always 60 minutes long and begin on the minute on which the zone's own hours do (India: :30).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from kinds.sentiment.series.window import WindowSize

_HOUR = timedelta(hours=1)
_REFERENCE = datetime(2026, 1, 1, tzinfo=UTC)
"""The instant at which a zone's offset is read; with a fixed one, historic changes of the offset leave no
hour of 30 minutes."""


def window_of(size: WindowSize, zone: ZoneInfo, instant: datetime) -> datetime:
    """Return the start of the window that contains the instant."""
    if size is WindowSize.HOUR:
        offset = _REFERENCE.astimezone(zone).utcoffset() or timedelta()
        since_hour = (instant - _REFERENCE + offset) % _HOUR
        return instant.astimezone(UTC) - since_hour
    return _midnight(_first_day(size, instant.astimezone(zone).date()), zone)


def shifted(size: WindowSize, zone: ZoneInfo, start: datetime, num_windows: int) -> datetime:
    """Return the start of the window that is `num_windows` after (if negative, before) the one at `start`."""
    if size is WindowSize.HOUR:
        return start + num_windows * _HOUR
    days = num_windows * (7 if size is WindowSize.WEEK else 1)
    return _midnight(start.astimezone(zone).date() + timedelta(days=days), zone)


def window_starts(size: WindowSize, zone: ZoneInfo, first: datetime, until: datetime) -> list[datetime]:
    """Return the starts of the windows from that of `first` to the last one that begins before `until`."""
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
    """Return the first instant of the day: where clocks skip midnight, that of the change (PEP 495)."""
    return datetime.combine(day, time(), zone).astimezone(UTC)
