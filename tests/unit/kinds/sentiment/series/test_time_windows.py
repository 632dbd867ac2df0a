from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinds.sentiment.series.time_windows import WindowSize, shifted, window_of, window_starts

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
def test_days_are_as_long_as_their_clocks_say(day: str, hours: int) -> None:
    noon = datetime.fromisoformat(f"{day}T12:00:00+00:00")
    start = window_of(WindowSize.DAY, BERLIN, noon)
    assert shifted(WindowSize.DAY, BERLIN, start, 1) - start == timedelta(hours=hours)
    assert start.astimezone(BERLIN).hour == 0


def test_weeks_begin_on_monday_at_local_midnight() -> None:
    sunday = datetime(2026, 1, 11, 23, 30, tzinfo=UTC)
    assert window_of(WindowSize.WEEK, ZoneInfo("UTC"), sunday) == datetime(2026, 1, 5, tzinfo=UTC)
    assert window_of(WindowSize.WEEK, BERLIN, sunday) == datetime(2026, 1, 11, 23, tzinfo=UTC)


def test_hours_begin_on_the_minute_of_the_zone() -> None:
    instant = datetime(2026, 1, 5, 10, 45, tzinfo=UTC)
    start = window_of(WindowSize.HOUR, ZoneInfo("Asia/Kolkata"), instant)
    assert start == datetime(2026, 1, 5, 10, 30, tzinfo=UTC)


def test_a_day_whose_midnight_is_skipped_begins_when_clocks_jump() -> None:
    beirut = ZoneInfo("Asia/Beirut")
    start = window_of(WindowSize.DAY, beirut, datetime(2024, 3, 31, 12, tzinfo=UTC))
    assert start.astimezone(beirut).isoformat() == "2024-03-31T01:00:00+03:00"


@given(
    st.sampled_from(list(WindowSize)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]),
    st.datetimes(min_value=datetime(2015, 1, 1), max_value=datetime(2030, 1, 1)),  # noqa: DTZ001
    st.integers(1, 200),
)
@settings(deadline=None, max_examples=100)
def test_windows_follow_each_other_without_gap_and_hold_their_instants(
    size: WindowSize, name: str, naive: datetime, num_windows: int
) -> None:
    zone, first = ZoneInfo(name), naive.replace(tzinfo=UTC)
    start = window_of(size, zone, first)
    starts = window_starts(size, zone, first, shifted(size, zone, start, num_windows))
    assert starts == [shifted(size, zone, start, index) for index in range(num_windows)]
    assert start <= first < shifted(size, zone, start, 1)
    last = starts[-1]
    assert window_of(size, zone, last) == last
    assert window_of(size, zone, shifted(size, zone, last, 1) - timedelta(microseconds=1)) == last
    assert shifted(size, zone, last, 1 - num_windows) == start
