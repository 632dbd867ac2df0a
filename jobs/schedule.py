"""When a schedule is due, in its time zone, and what happens at each due time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice, takewhile
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from jobs.errors import InputError


class CronError(InputError):
    """A cron expression or its time zone cannot be used."""

    code = "cron_invalid"


class TimeZoneUnknownError(CronError):
    """The system does not know the time zone."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression of five fields (minute, hour, day, month, weekday), or six with the second first.

    When the clock changes, five fields behave as in Debian's cron. An expression that names an hour runs once
    a day: at the end of the jump if the hour is skipped, and the first time if it occurs twice. An expression
    that begins with a star (`*/30 * * * *`) continues by elapsed time.

    >>> ticks = Cron("30 2 * * *", "Europe/Berlin").due(after=datetime(2026, 3, 28, 12, tzinfo=UTC))
    >>> [f"{next(ticks):%d %H:%M}" for _ in range(2)]
    ['29 01:00', '30 00:30']
    """

    expression: str
    time_zone: str

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise TimeZoneUnknownError(
                f"{self.time_zone!r} is not a time zone: write an IANA name such as Europe/Berlin"
            ) from error
        try:
            CronSim(self.expression, datetime.now(UTC))
        except (CronSimError, ValueError) as error:
            raise CronError(
                f"{self.expression!r} is not a cron expression ({error}): write minute, hour, day of the "
                'month, month and weekday, for example "0 * * * *" for every hour'
            ) from error

    def due(self, *, after: datetime) -> Iterator[datetime]:
        """Yield due times later than the instant, in order, in UTC, until none follows within 50 years."""
        latest = after
        for local in CronSim(self.expression, after.astimezone(ZoneInfo(self.time_zone))):
            due_at = local.astimezone(UTC)
            if due_at > latest:  # the library takes a local time that occurs twice for its first occurrence
                latest = due_at
                yield due_at

    def due_between(self, after: datetime, until: datetime, *, at_most: int) -> list[datetime]:
        """Return at most `at_most` due times that are later than `after` and not later than `until`."""
        first = islice(self.due(after=after), at_most)
        return list(takewhile(lambda due_at: due_at <= until, first))


ON_TIME = timedelta(seconds=60)
"""Delay up to which a due time counts as on time, because the scheduler may have been restarted."""


class CatchUp(StrEnum):
    """Policy for due times that passed while no scheduler was running."""

    LATEST = "latest"
    """The latest one runs; the others are skipped."""
    ALL = "all"
    """All of them run, one after the other; a run waits for the end of the previous one."""
    NONE = "none"
    """None of them runs; the schedule continues with the next due time."""


class RunOutcome(StrEnum):
    """Outcome of a due time."""

    STARTED = "started"
    """Its batch was created."""
    OVERLAPPED = "overlapped"
    """It was skipped, because the previous run, or a manual one, was not finished."""
    SKIPPED = "skipped"
    """It passed while no scheduler was running, and was skipped by the catch-up policy."""
    FAILED = "failed"
    """Its batch could not be created."""


def settle(
    due: Sequence[datetime],
    *,
    now: datetime,
    catch_up: CatchUp,
    is_busy: bool,
    more_follow: bool = False,
) -> list[tuple[datetime, RunOutcome]]:
    """Decide the outcomes of due times that have passed, oldest first; those without an outcome wait.

    `is_busy` says that the previous run is not finished, `more_follow` that later due times have passed too.
    STARTED comes last and at most once, so that no two runs overlap.
    """
    if catch_up is CatchUp.ALL:
        return [(due[0], RunOutcome.STARTED)] if due and not is_busy else []
    settled = [(due_at, RunOutcome.SKIPPED) for due_at in due]
    if settled and not more_follow:
        latest = due[-1]
        is_missed = catch_up is CatchUp.NONE and now - latest > ON_TIME
        if not is_missed:
            settled[-1] = (latest, RunOutcome.OVERLAPPED if is_busy else RunOutcome.STARTED)
    return settled
