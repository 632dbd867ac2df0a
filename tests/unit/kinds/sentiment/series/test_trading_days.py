"""Exchange holidays raise no silence alert; a silence on other days still does."""

from __future__ import annotations

import builtins
import random
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from kinds.sentiment.documents.watchlist_file import WatchlistError, read_watchlist
from kinds.sentiment.series.counts import memory_reader
from kinds.sentiment.series.entity_series import SeriesUpdate, compute_series
from kinds.sentiment.series.mention import Mention
from kinds.sentiment.series.policy import AlertRule, Policy
from kinds.sentiment.series.time_windows import WindowSize
from kinds.sentiment.series.trading_days import CalendarError, trading_days, with_calendar
from tests.unit.kinds.sentiment.series.feed import MONDAY, mention

NEW_YORK = ZoneInfo("America/New_York")
FIRST = date(2025, 9, 1)
LAST = date(2026, 5, 1)
NYSE = Policy(time_zone="America/New_York", calendar="XNYS")
GOOD_FRIDAY, CHRISTMAS = date(2026, 4, 3), date(2025, 12, 25)


def news(is_quiet: Callable[[date], bool], *, num_documents: int = 9) -> list[Mention]:
    """Return news about a company that is written about only on days when the exchange is open."""
    chance = random.Random(1)
    made: list[Mention] = []
    days = [FIRST + timedelta(days=number) for number in range((LAST - FIRST).days)]
    for day in days:
        for _ in range(0 if is_quiet(day) else num_documents):
            at = datetime.combine(day, datetime.min.time(), NEW_YORK) + timedelta(
                hours=8 + 10 * chance.random()
            )
            made.append(mention(len(made), (at - MONDAY) / timedelta(days=1)))
    return made


def silences(mentions: list[Mention], policy: Policy, until: date = LAST) -> list[date]:
    first_at = min(each.published_at for each in mentions)
    found = compute_series(
        "acme-steel",
        memory_reader(mentions),
        SeriesUpdate(
            since=first_at,
            as_of=datetime.combine(until, datetime.min.time(), NEW_YORK),
            first_at=first_at,
            policy=policy,
            num_entities=5,
        ),
    ).alerts
    return [each.starts_at.astimezone(NEW_YORK).date() for each in found if each.rule is AlertRule.SILENCE]


def is_closed(day: date) -> bool:
    return day not in trading_days("XNYS").sessions


def test_good_friday_and_christmas_are_no_silence_of_an_exchange() -> None:
    mentions = news(is_closed)
    without = silences(mentions, NYSE.model_copy(update={"calendar": None}))
    assert {GOOD_FRIDAY, CHRISTMAS} <= set(without)
    assert silences(mentions, NYSE) == []


@pytest.mark.parametrize("size", [WindowSize.HOUR, WindowSize.WEEK])
def test_holidays_are_no_silence_of_hours_and_weeks(size: WindowSize) -> None:
    policy = NYSE.model_copy(update={"windows": (size,), "alert_window": size})
    assert silences(news(is_closed), policy) == []


def test_day_on_which_the_exchange_closes_early_is_no_silence() -> None:
    def is_quiet(day: date) -> bool:
        return is_closed(day) or day in trading_days("XNYS").early_closes

    assert silences(news(is_quiet), NYSE) == []


def test_silence_of_a_trading_day_is_still_told() -> None:
    day = date(2026, 3, 10)
    mentions = news(lambda each: is_closed(each) or each == day)
    assert silences(mentions, NYSE) == [day]


def test_holiday_does_not_hide_that_nothing_comes_after_it() -> None:
    mentions = news(lambda each: is_closed(each) or each >= GOOD_FRIDAY)
    assert silences(mentions, NYSE, until=date(2026, 4, 9)) == [date(2026, 4, 6)]


@pytest.mark.parametrize(
    ("name", "days"),
    [
        ("XNYS", [date(2026, 4, 3), date(2025, 12, 25), date(2026, 11, 27), date(2026, 7, 3)]),
        ("XLON", [date(2026, 4, 3), date(2026, 4, 6), date(2025, 12, 26)]),
        ("XETR", [date(2026, 5, 1), date(2025, 12, 24)]),
        ("XTKS", [date(2026, 1, 2)]),
        ("XBOM", [date(2026, 1, 26)]),
        ("24/7", []),
    ],
)
def test_calendar_knows_the_days_of_its_exchange(name: str, days: Iterable[date]) -> None:
    calendar = trading_days(name)
    assert all(calendar.is_quiet_day(day) for day in days)
    assert not calendar.is_quiet_day(date(2026, 3, 10))
    # A weekend is as usual, and of a day beyond the calendar nothing is known.
    assert not calendar.is_quiet_day(date(2026, 3, 14))
    assert not calendar.is_quiet_day(calendar.last + timedelta(days=30))
    assert not calendar.is_quiet_day(date(1985, 12, 25))


def test_hours_after_an_early_close_are_quiet() -> None:
    day = datetime(2026, 11, 27, tzinfo=NEW_YORK)
    assert [trading_days("XNYS").is_quiet_at(day + timedelta(hours=hour)) for hour in (11, 14)] == [
        False,
        True,
    ]


def watchlist(folder: Path, calendar: str) -> Path:
    path = folder / "steel.toml"
    path.write_text(f'{calendar}\n[[company]]\nname = "Acme Steel"\n')
    return path


def test_watch_list_names_the_calendar_and_days_begin_in_the_exchange_zone(tmp_path: Path) -> None:
    file = read_watchlist(watchlist(tmp_path, 'calendar = "NYSE"'))
    assert file.calendar == "XNYS"
    policy = with_calendar(Policy(), file.calendar, has_zone=False)
    assert (policy.calendar, policy.time_zone) == ("XNYS", "America/New_York")
    assert with_calendar(Policy(), file.calendar, has_zone=True).time_zone == "UTC"


def test_calendar_changes_no_document_that_was_analysed(tmp_path: Path) -> None:
    digests = {read_watchlist(watchlist(tmp_path, line)).sha256 for line in ("", 'calendar = "XNYS"')}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('calendar = "XNYZ"', "'XNYZ'.*did you mean .*XNYS"),
        ('calendar = "xnys"', "did you mean .*XNYS"),
        ('calendar = ""', "there is no calendar"),
        ("calendar = 7", "code of an exchange"),
        ('calendar = ["XNYS"]', "code of an exchange"),
        ('calender = "XNYS"', "calender is not a known key .*calendar"),
    ],
)
def test_unknown_calendar_is_refused_by_name_with_those_that_are_near(
    tmp_path: Path, line: str, message: str
) -> None:
    with pytest.raises(WatchlistError, match=message):
        read_watchlist(watchlist(tmp_path, line))


def test_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    own = builtins.__import__

    def without(name: str, *arguments: object, **named: object) -> object:
        if name.startswith("exchange_calendars"):
            raise ImportError(name)
        return own(name, *arguments, **named)  # type: ignore[arg-type]

    trading_days.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CalendarError, match=r"pip install 'pressroom\[calendars\]'") as error:
        trading_days("XNYS")
    assert error.value.code == "calendar_missing"
