"""Schedules: what becomes of a due time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

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
