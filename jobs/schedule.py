"""Computes the due times of a schedule in its time zone, and decides what happens at each of them."""

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
    """A cron expression with five fields (minute, hour, day, month, weekday), or six with seconds first.

    When the clocks change, expressions with five fields behave as in Debian's cron. An expression that names
    an hour is due once a day: right after the change if the hour is skipped, and at the first occurrence if
    the hour occurs twice. An expression that begins with a star (`*/30 * * * *`) continues by elapsed time.

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
        """Yield the due times after the instant, in order, in UTC, until none follows within 50 years."""
        latest = after
        for local in CronSim(self.expression, after.astimezone(ZoneInfo(self.time_zone))):
            due_at = local.astimezone(UTC)
            if due_at > latest:  # for a local time that occurs twice, the library repeats the first instant
                latest = due_at
                yield due_at

    def due_between(self, after: datetime, until: datetime, *, at_most: int) -> list[datetime]:
        """Return the due times after `after` and up to `until`, at most `at_most` of them."""
        first = islice(self.due(after=after), at_most)
        return list(takewhile(lambda due_at: due_at <= until, first))


ON_TIME = timedelta(seconds=60)
"""Delay up to which a due time counts as on time, so that a restart of the scheduler skips no run."""


class CatchUp(StrEnum):
    """Policy for due times that passed while no scheduler was running."""

    LATEST = "latest"
    """Run the latest due time, and skip the others."""
    ALL = "all"
    """Run all due times, each when the previous run has finished."""
    NONE = "none"
    """Skip all due times, and continue with the next one."""


class RunOutcome(StrEnum):
    """Outcome of a due time."""

    STARTED = "started"
    """The batch for this due time was created."""
    OVERLAPPED = "overlapped"
    """The due time was skipped, because the previous run, or one started by hand, was not finished."""
    SKIPPED = "skipped"
    """The due time passed while no scheduler was running, and the catch-up policy skipped it."""
    FAILED = "failed"
    """The batch for this due time could not be created."""


def settle(
    due: Sequence[datetime],
    *,
    now: datetime,
    catch_up: CatchUp,
    is_busy: bool,
    more_follow: bool = False,
) -> list[tuple[datetime, RunOutcome]]:
    """Decide the outcomes of due times that have passed. `due` contains them, oldest first.

    Due times without an outcome in the result stay unsettled. `is_busy` means that the previous run has not
    finished, `more_follow` that later due times have passed too. Only the last outcome can be STARTED, so
    runs do not overlap.
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
