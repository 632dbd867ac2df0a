"""Due times in time zones whose clocks jump, and what becomes of those that were missed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.schedule import ON_TIME, CatchUp, Cron, CronError, RunOutcome, settle

BERLIN = "Europe/Berlin"
"""Spring forward on 2026-03-29 at 02:00, back on 2026-10-25 at 03:00."""

ZONES = (
    "UTC",
    BERLIN,
    "America/New_York",
    "America/St_Johns",  # half an hour beside the hour
    "Australia/Lord_Howe",  # jumps by half an hour
    "Africa/Cairo",  # jumps at midnight
    "Asia/Kathmandu",
    "America/Sao_Paulo",
)
EXPRESSIONS = (
    "* * * * *",
    "*/7 * * * *",
    "0 * * * *",
    "30 2 * * *",
    "0,30 0-3 * * *",
    "15 */5 * * 1-5",
    "0 0 1 * *",
    "0 0 L * *",
    "59 23 * * SUN",
    "*/20 * * * * *",
)
INSTANTS = st.integers(0, 4 * 365 * 86_400).map(
    lambda s: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=s)
)


def dues(expression: str, zone: str, after: str, number: int) -> list[str]:
    """The next due times, in UTC."""
    found = Cron(expression, zone).due(after=datetime.fromisoformat(after))
    return [f"{due_at:%m-%dT%H:%M}" for due_at in islice(found, number)]


def test_hour_that_spring_leaves_out_runs_at_the_jump_once() -> None:
    assert dues("30 2 * * *", BERLIN, "2026-03-28T12:00Z", 2) == ["03-29T01:00", "03-30T00:30"]


def test_hour_that_comes_twice_in_autumn_runs_the_first_time_only() -> None:
    assert dues("30 2 * * *", BERLIN, "2026-10-24T12:00Z", 2) == ["10-25T00:30", "10-26T01:30"]


@pytest.mark.parametrize("after", ["2026-10-25T00:30:00Z", "2026-10-25T00:59:59Z", "2026-10-25T01:15:00Z"])
def test_hour_that_came_once_does_not_run_again_after_a_restart_in_its_repetition(after: str) -> None:
    assert dues("30 2 * * *", BERLIN, after, 1) == ["10-26T01:30"]


def test_every_hour_goes_on_by_elapsed_time_through_both_jumps() -> None:
    for after in ("2026-03-28T22:30Z", "2026-10-24T22:30Z"):
        found = list(islice(Cron("0 * * * *", BERLIN).due(after=datetime.fromisoformat(after)), 6))
        assert {later - sooner for sooner, later in pairwise(found)} == {timedelta(hours=1)}


def test_daily_time_stays_what_the_clock_on_the_wall_says() -> None:
    found = islice(Cron("0 7 * * *", BERLIN).due(after=datetime(2026, 1, 1, tzinfo=UTC)), 365)
    assert {due_at.astimezone(ZoneInfo(BERLIN)).hour for due_at in found} == {7}


@pytest.mark.parametrize(
    "expression",
    ["", "* * * *", "61 * * * *", "0 0 30 2 *", "@daily", "* * * * * * *", "a b c d e", "*/0 * * * *"],
)
def test_expression_that_is_none_is_refused_with_an_example(expression: str) -> None:
    with pytest.raises(CronError, match=r"0 \* \* \* \*"):
        Cron(expression, "UTC")


@pytest.mark.parametrize("zone", ["Mars/Utopia", "../etc/passwd", "", "CET+1"])
def test_unknown_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(CronError, match="time zone"):
        Cron("0 * * * *", zone)


@settings(deadline=None)
@given(st.sampled_from(EXPRESSIONS), st.sampled_from(ZONES), INSTANTS)
def test_due_times_rise_and_none_is_lost_or_doubled_by_a_restart_between_them(
    expression: str, zone: str, after: datetime
) -> None:
    cron = Cron(expression, zone)
    straight = list(islice(cron.due(after=after), 12))
    assert all(sooner < later for sooner, later in pairwise([after, *straight]))
    restarted = [after]
    for _ in straight:
        restarted.append(next(cron.due(after=restarted[-1])))
    assert restarted[1:] == straight


@settings(deadline=None)
@given(st.sampled_from(EXPRESSIONS), st.sampled_from(ZONES), INSTANTS, st.integers(0, 10))
def test_due_times_between_two_instants_are_those_of_its_parts(
    expression: str, zone: str, after: datetime, tenths: int
) -> None:
    cron = Cron(expression, zone)
    until = after + timedelta(hours=1)
    middle = after + (until - after) * tenths / 10
    whole = cron.due_between(after, until, at_most=10_000)
    parts = cron.due_between(after, middle, at_most=10_000) + cron.due_between(middle, until, at_most=10_000)
    assert parts == whole
    assert cron.due_between(after, until, at_most=3) == whole[:3]


NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
PAST = st.lists(st.integers(0, 10_000), unique=True, max_size=20).map(
    lambda seconds: sorted(NOW - timedelta(seconds=s) for s in seconds)
)


@given(PAST, st.sampled_from(CatchUp), st.booleans(), st.booleans())
def test_at_most_the_last_settled_due_time_starts_and_never_beside_another_run(
    due: list[datetime], catch_up: CatchUp, is_busy: bool, more_follow: bool
) -> None:
    settled = settle(due, now=NOW, catch_up=catch_up, is_busy=is_busy, more_follow=more_follow)
    assert [due_at for due_at, _ in settled] == due[: len(settled)]
    started = [due_at for due_at, outcome in settled if outcome is RunOutcome.STARTED]
    assert started in ([], [due_at for due_at, _ in settled[-1:]])
    assert not (is_busy and started)


@given(PAST, st.booleans())
def test_all_loses_no_due_time_however_long_a_run_takes(due: list[datetime], was_busy: bool) -> None:
    if was_busy:
        assert settle(due, now=NOW, catch_up=CatchUp.ALL, is_busy=True) == []
    started: list[tuple[datetime, RunOutcome]] = []
    while settled := settle(due[len(started) :], now=NOW, catch_up=CatchUp.ALL, is_busy=False):
        assert settled[-1][1] is RunOutcome.STARTED
        started += settled
    assert [due_at for due_at, _ in started] == due


def test_none_runs_what_is_on_time_and_skips_what_is_not() -> None:
    on_time, late = NOW - ON_TIME, NOW - ON_TIME - timedelta(seconds=1)
    assert settle([late, on_time], now=NOW, catch_up=CatchUp.NONE, is_busy=False) == [
        (late, RunOutcome.SKIPPED),
        (on_time, RunOutcome.STARTED),
    ]
    assert settle([late], now=NOW, catch_up=CatchUp.NONE, is_busy=True) == [(late, RunOutcome.SKIPPED)]
