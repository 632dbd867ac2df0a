"""When a schedule is due, in its time zone, and what happens at each due time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from jobs.errors import InputError


class CronError(InputError):
    """A cron expression or its time zone cannot be used."""

    code = "cron_invalid"


class TimeZoneUnknownError(CronError):
    """The time zone is none that the system knows."""


@dataclass(frozen=True, slots=True)
class Cron:
    """Five fields (minute, hour, day, month, weekday), or six with the second first.

    Where the clock jumps, five fields do as Debian's cron does: what names an hour runs once a day, an hour
    that the jump leaves out at the jump's end, an hour that comes twice the first time; what begins with a
    star (`*/30 * * * *`) goes on by elapsed time.

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
                f"{self.time_zone!r} is no time zone: write an IANA name such as Europe/Berlin"
            ) from error
        try:
            CronSim(self.expression, datetime.now(UTC))
        except (CronSimError, ValueError) as error:
            raise CronError(
                f"{self.expression!r} is no cron expression ({error}): write minute, hour, day of the month, "
                'month and weekday, for example "0 * * * *" for every hour'
            ) from error

    def due(self, *, after: datetime) -> Iterator[datetime]:
        """Due times later than the instant, in order, in UTC; ends where none follows within 50 years."""
        latest = after
        for local in CronSim(self.expression, after.astimezone(ZoneInfo(self.time_zone))):
            due_at = local.astimezone(UTC)
            if due_at > latest:  # the library takes a local time that comes twice for its first one
                latest = due_at
                yield due_at

    def due_between(self, after: datetime, until: datetime, *, at_most: int) -> list[datetime]:
        """The first due times later than `after` and not later than `until`."""
        found = []
        for due_at in islice(self.due(after=after), at_most):
            if due_at > until:
                break
            found.append(due_at)
        return found


ON_TIME = timedelta(seconds=60)
"""A due time that is found this late or sooner has not been missed: whoever looks may have been restarted."""


class CatchUp(StrEnum):
    """What happens to due times that passed while nothing ran."""

    LATEST = "latest"
    """The newest one runs, the others are skipped."""
    ALL = "all"
    """Each runs, one after the other: one that comes while another runs waits for its end."""
    NONE = "none"
    """None runs; the next due time does."""


class RunOutcome(StrEnum):
    """What came of a due time."""

    STARTED = "started"
    """Its batch was made."""
    OVERLAPPED = "overlapped"
    """The run before, or one by hand, was not finished: skipped."""
    SKIPPED = "skipped"
    """It passed while nothing ran, and the catch-up policy left it out."""
    FAILED = "failed"
    """Its batch could not be made."""


def settle(
    due: Sequence[datetime],
    *,
    now: datetime,
    catch_up: CatchUp,
    is_busy: bool,
    more_follow: bool = False,
) -> list[tuple[datetime, RunOutcome]]:
    """What becomes of due times that have passed, oldest first; those without an outcome wait.

    `is_busy` says that the run before is not finished, `more_follow` that later due times have passed too.
    STARTED comes last, at most once: no two runs overlap.
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
