"""Turns a schedule's due time into a batch: by its kind's own starter, or by reading its table again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection

from db.schedules import Schedule
from jobs.errors import ConfigurationError
from jobs.intake.dialect import FileOptions
from jobs.intake.files import check_input
from jobs.registry import load_kind, load_target
from jobs.rejection import Rejected
from workers.producer import Order, check_rows, submit_rows_in
from workers.settings import Settings

logger = logging.getLogger(__name__)

Starter = Callable[[Connection, Schedule, datetime, Settings], UUID]
"""Creates the batch of a due time in the given transaction; see db.schedules.Start for its errors."""


class UnknownStartError(ConfigurationError):
    """A schedule's kind is not installed here, or nothing creates batches for it."""

    code = "schedule_unknown"


class TableInput(BaseModel):
    """The table that a schedule reads if its kind has no starter of its own: `Schedule.input`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    """The absolute path, because the process that starts the batch may run in any folder."""
    delimiter: str | None = None
    encoding: str | None = None
    decimal: str | None = None


def starter_of(kind_name: str) -> Starter:
    """Return the function that creates the batches of this kind's schedules. Raises UnknownStartError."""
    try:
        kind = load_kind(kind_name)
    except ConfigurationError as error:
        raise UnknownStartError(f"a schedule starts what is unknown here: {error}") from error
    if kind.starter is not None:
        starter: Starter = load_target(kind.starter)
        return starter
    check_rows(kind)
    return start_from_table


def start_from_table(
    connection: Connection, schedule: Schedule, due_at: datetime, settings: Settings
) -> UUID:
    """Read the schedule's table as it is now: good lines become the batch, the others are counted in it.

    Raises FileRejectedError if the file is missing or unusable, and raises as `submit_rows` does.
    """
    if schedule.input is None:
        raise UnknownStartError(
            f"the schedule {schedule.name!r} names no file: create it again with one", code="schedule_unknown"
        )
    table = TableInput.model_validate(schedule.input)
    path = Path(table.file)
    check_input(path)
    order = Order(
        kind=schedule.kind,
        model=schedule.model,
        settings=schedule.settings,
        name=f"{schedule.name} {due_at.astimezone(UTC):%Y-%m-%d %H:%M}Z",
        tenant=schedule.tenant,
        file=FileOptions(delimiter=table.delimiter, encoding=table.encoding, decimal=table.decimal),
    )
    submission = submit_rows_in(connection, path, order, settings, _ignore, schedule_id=schedule.id)
    if submission.dropped is not None and submission.dropped.num_dropped:
        logger.warning(
            "Lines of a scheduled table were refused.",
            extra={"schedule_id": str(schedule.id), "num_rejected": submission.dropped.num_dropped},
        )
    return submission.batch_id


def _ignore(_: Rejected) -> None:
    """Ignore a refused line, since the batch counts it."""
