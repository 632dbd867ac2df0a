"""Schedules: what becomes of a due time."""

from __future__ import annotations

from enum import StrEnum


class CatchUp(StrEnum):
    """What happens to due times that passed while nothing ran."""

    LATEST = "latest"
    """The newest one runs, the others are skipped."""
    ALL = "all"
    """Each runs, one after the other."""
    NONE = "none"
    """None runs; the next due time does."""


class RunOutcome(StrEnum):
    """What came of a due time."""

    STARTED = "started"
    """Its batch was made."""
    OVERLAPPED = "overlapped"
    """The run before was not finished: skipped."""
    SKIPPED = "skipped"
    """It passed while nothing ran, and the catch-up policy left it out."""
    FAILED = "failed"
    """Its batch could not be made."""
