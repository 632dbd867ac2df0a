"""Days on which an exchange trades; little is published on other days, so these raise no silence alerts.

The calendars are those of the package exchange-calendars, named by ISO 10383 (XNYS, XLON) or by an alias
(NYSE). The package is imported only where a calendar is named.
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
"""If at least this share of sessions ends early, such as every Friday, early closes are usual and are
ignored."""


class CalendarError(ConfigurationError):
    """A calendar of trading days cannot be used."""

    code = "calendar_invalid"


@dataclass(frozen=True, slots=True)
class TradingDays:
    """The trading days of one exchange."""

    name: str
    zone: ZoneInfo
    first: date
    last: date
    """The calendar is unknown before `first` and after `last`."""
    sessions: frozenset[date]
    early_closes: Mapping[date, datetime]
    """Closing times of the sessions that end early."""
    weekly_closed: frozenset[int]
    """Weekdays without a session; Monday is 0."""

    def is_quiet_day(self, day: date) -> bool:
        """Return whether a day has no session or a short one, though its weekday usually has one."""
        if not self.first <= day <= self.last or day.weekday() in self.weekly_closed:
            return False
        return day not in self.sessions or day in self.early_closes

    def is_quiet_at(self, instant: datetime) -> bool:
        """Return whether the instant is quiet: on a quiet day and, if there is a session, after its close."""
        day = instant.astimezone(self.zone).date()
        closes_at = self.early_closes.get(day)
        return self.is_quiet_day(day) and (closes_at is None or instant >= closes_at)


@lru_cache(maxsize=8)
def trading_days(name: str) -> TradingDays:
    """Return the calendar of this name. Raises CalendarError, which suggests similar names."""
    try:
        import exchange_calendars
    except ImportError as error:
        raise CalendarError(
            f"the calendar {name!r} requires the package exchange-calendars: install it with {INSTALL}",
            code="calendar_missing",
        ) from error
    names = exchange_calendars.get_calendar_names()
    if name not in names:
        near = difflib.get_close_matches(name.upper(), names, n=_SUGGESTIONS, cutoff=0.0)
        raise CalendarError(
            f"there is no calendar {name[:_MAX_SHOWN]!r} of trading days: did you mean {' or '.join(near)}? "
            "Use an ISO 10383 code such as XNYS, XLON or XETR"
        )
    try:
        calendar = exchange_calendars.get_calendar(name, start=_FIRST_DAY)
    except ValueError:
        try:
            calendar = exchange_calendars.get_calendar(name)  # a calendar that covers fewer years
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
    """Return the policy with the calendar, in the exchange's time zone unless a time zone was chosen."""
    changed: dict[str, object] = {"calendar": calendar}
    if calendar is not None and not has_zone and policy.calendar != calendar:
        changed["time_zone"] = str(trading_days(calendar).zone)
    return policy.model_copy(update=changed)
