"""Days on which an exchange trades: on the others little is published, and nothing is a silence.

The calendars are those of the package exchange-calendars, named by ISO 10383 (XNYS, XLON) or by an alias
(NYSE); it is loaded where one is named.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from jobs.errors import ConfigurationError
from kinds.sentiment.series.policy import Policy

INSTALL = "pip install 'pressroom[calendars]'"

_FIRST_DAY = "1990-01-01"
_SUGGESTIONS = 3
_MAX_SHOWN = 40
_MAX_EARLY_SHARE = 0.1
"""Where more sessions end early, that is usual there, such as every Friday."""


class CalendarError(ConfigurationError):
    """A calendar of trading days that cannot be used."""

    code = "calendar_invalid"


@dataclass(frozen=True, slots=True)
class TradingDays:
    """The calendar of one exchange."""

    name: str
    zone: ZoneInfo
    first: date
    last: date
    """Beyond these two days nothing is known."""
    sessions: frozenset[date]
    early_closes: Mapping[date, datetime]
    """Of sessions that end early, when."""
    weekly_closed: frozenset[int]
    """Weekdays without a session, Monday is 0."""

    def is_quiet_day(self, day: date) -> bool:
        """Whether a day of the week that has a session usually has none, or a short one."""
        if not self.first <= day <= self.last or day.weekday() in self.weekly_closed:
            return False
        return day not in self.sessions or day in self.early_closes

    def is_quiet_at(self, instant: datetime) -> bool:
        """Return whether an hour is quiet: those after an early close are, and those of a quiet day."""
        day = instant.astimezone(self.zone).date()
        closes_at = self.early_closes.get(day)
        return self.is_quiet_day(day) and (closes_at is None or instant >= closes_at)


@lru_cache(maxsize=8)
def trading_days(name: str) -> TradingDays:
    """The calendar of this name. Raises CalendarError, with the names that are near."""
    try:
        import exchange_calendars
    except ImportError as error:
        raise CalendarError(
            f"the calendar {name!r} needs the package exchange-calendars: {INSTALL}", code="calendar_missing"
        ) from error
    names = exchange_calendars.get_calendar_names()
    if name not in names:
        near = difflib.get_close_matches(name.upper(), names, n=_SUGGESTIONS, cutoff=0.0)
        raise CalendarError(
            f"there is no calendar {name[:_MAX_SHOWN]!r} of trading days: did you mean {' or '.join(near)}? "
            "It is named by its ISO 10383 code, such as XNYS, XLON or XETR"
        )
    try:
        calendar = exchange_calendars.get_calendar(name, start=_FIRST_DAY)
    except ValueError:
        try:
            calendar = exchange_calendars.get_calendar(name)  # one that is known for fewer years
        except ValueError as error:
            raise CalendarError(f"the calendar {name!r} cannot be read: {str(error)[:200]}") from error
    sessions = frozenset(stamp.date() for stamp in calendar.sessions)
    early = {stamp.date(): calendar.closes[stamp].to_pydatetime() for stamp in calendar.early_closes}
    return TradingDays(
        name=calendar.name,
        zone=ZoneInfo(str(calendar.tz)),
        first=calendar.first_session.date(),
        last=calendar.last_session.date(),
        sessions=sessions,
        early_closes=early if len(early) < _MAX_EARLY_SHARE * len(sessions) else {},
        weekly_closed=frozenset(day for day, mark in enumerate(calendar.weekmask) if mark == "0"),
    )


def with_calendar(policy: Policy, calendar: str | None, *, has_zone: bool) -> Policy:
    """The policy with the calendar of a watch list; days begin in the exchange's zone unless one is given."""
    changed: dict[str, object] = {"calendar": calendar}
    if calendar is not None and not has_zone and policy.calendar != calendar:
        changed["time_zone"] = str(trading_days(calendar).zone)
    return policy.model_copy(update=changed)
