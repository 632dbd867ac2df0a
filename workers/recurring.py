"""Turns a schedule's due time into a batch: by its kind's own starter, or by reading its inputs again."""

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
from workers.intake import BatchRequest, intake_of
from workers.producer import submit_in
from workers.settings import Settings

logger = logging.getLogger(__name__)

Starter = Callable[[Connection, Schedule, datetime, Settings], UUID]
"""Creates the batch of a due time in the given transaction; see db.schedules.Start for its errors."""


class UnknownStartError(ConfigurationError):
    """A schedule's kind is not installed here, or nothing creates batches for it."""

    code = "schedule_unknown"


class FileInputs(BaseModel):
    """The files that a schedule reads if its kind has no starter of its own: `Schedule.input`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    """Path of the kind's first input. Paths are absolute, because the process that starts the batch may run
    in any folder."""
    inputs: dict[str, str] = {}
    """Paths of the kind's other inputs by name."""
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
    intake_of(kind)
    return start_from_files


def start_from_files(
    connection: Connection, schedule: Schedule, due_at: datetime, settings: Settings
) -> UUID:
    """Read the schedule's inputs as they are now: good records become the batch, which counts the others.

    Raises FileRejectedError if the file is missing or unusable, and raises as `submit` does.
    """
    if schedule.input is None:
        raise UnknownStartError(
            f"the schedule {schedule.name!r} names no file: create it again with one", code="schedule_unknown"
        )
    files = FileInputs.model_validate(schedule.input)
    first = intake_of(load_kind(schedule.kind)).inputs[0].name
    inputs = {name: Path(path) for name, path in {first: files.file, **files.inputs}.items()}
    for path in inputs.values():
        check_input(path)
    request = BatchRequest(
        kind=schedule.kind,
        model=schedule.model,
        settings=schedule.settings,
        name=f"{schedule.name} {due_at.astimezone(UTC):%Y-%m-%d %H:%M}Z",
        tenant=schedule.tenant,
        file=FileOptions(delimiter=files.delimiter, encoding=files.encoding, decimal=files.decimal),
    )
    submission = submit_in(connection, inputs, request, settings, schedule_id=schedule.id)
    if submission.dropped is not None and submission.dropped.num_dropped:
        logger.warning(
            "Records of a scheduled file were refused.",
            extra={"schedule_id": str(schedule.id), "num_rejected": submission.dropped.num_dropped},
        )
    return submission.batch_id
