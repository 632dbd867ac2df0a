"""The schedules of each kind: how they start batches, and how they are described and removed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, Engine

from db.schedules import Schedule, remove_schedule
from jobs.errors import ConfigurationError
from jobs.intake.dialect import FileOptions
from jobs.intake.files import check_input
from jobs.registry import load_kind, load_target
from workers.intake import BatchRequest, intake_of
from workers.producer import submit_in
from workers.settings import Settings

logger = logging.getLogger(__name__)


class UnknownStartError(ConfigurationError):
    """A schedule's kind is not installed here, or nothing creates batches for it."""

    code = "schedule_unknown"


class FileInputs(BaseModel):
    """The files that a schedule reads, as stored in `Schedule.input`.

    Used for kinds that do not set `Kind.recurring`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    """Path of the kind's first input. Paths are absolute, because the process that starts the batch may run
    in any folder."""
    inputs: dict[str, str] = {}
    """Paths of the kind's other inputs by name."""
    delimiter: str | None = None
    encoding: str | None = None
    decimal: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleDescription:
    """The part of a schedule's description that its kind adds."""

    is_hidden: bool = False
    """Whether lists omit the schedule, because a command created it for its own use."""
    remark: str = ""
    """Short text at the end of the schedule's line in a list, such as the number of sources that were not
    read."""
    lines: Sequence[tuple[str, str]] = ()
    """Lines that `show` prints in addition, each as a label and a text."""
    fields: Mapping[str, object] = field(default_factory=dict)
    """Fields of the JSON object, in addition to those that every schedule has."""


class KindSchedules:
    """The schedules of a kind. The defaults suit a kind whose batches are made from files.

    A kind whose schedules do more defines a subclass and names it in `Kind.recurring`. Instances have no
    state, so any thread may call them.
    """

    create_command: ClassVar[str] = "schedule create"
    """Command that creates and changes the schedules, without `pressroom`, for use in messages."""
    id_setting: ClassVar[str | None] = None
    """Setting by which a batch refers to a schedule that it uses without being one of its runs; None if the
    kind has no such setting. The schedule cannot be removed while such a batch is under way."""

    def start(self, connection: Connection, schedule: Schedule, due_at: datetime, settings: Settings) -> UUID:
        """Create the batch for a due time in the given transaction, and return its id.

        By default, this reads the schedule's files as they are now: the good records become the batch, and
        the refused ones are counted in it. Raises FileRejectedError if a file is missing or unusable, and
        raises as `submit` does. db.schedules.Start describes what follows from each error.
        """
        if schedule.input is None:
            raise UnknownStartError(
                f"the schedule {schedule.name!r} names no file: create it again with a file",
                code="schedule_unknown",
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

    def describe(self, database: Engine, schedule: Schedule) -> ScheduleDescription:  # noqa: ARG002
        """Return what the kind adds to the schedule's description; by default, the paths of its files."""
        if schedule.input is None:
            return ScheduleDescription()
        files = FileInputs.model_validate(schedule.input)
        return ScheduleDescription(lines=[("reads", path) for path in (files.file, *files.inputs.values())])

    def remove(self, connection: Connection, schedule: Schedule) -> None:
        """Delete the schedule and everything that the kind stores about it, in the given transaction.

        Rows of the kind that refer to the schedule with ON DELETE CASCADE are deleted with it; a kind that
        stores anything else deletes it here. Batches and their artifacts stay. Raises RunUnderWayError.
        """
        remove_schedule(connection, schedule, id_setting=self.id_setting)


def schedules_of(kind_name: str) -> KindSchedules:
    """Return the object that implements the schedules of this kind.

    Raises UnknownStartError if the kind is not installed, and ConfigurationError if it can have no schedules.
    """
    try:
        kind = load_kind(kind_name)
    except ConfigurationError as error:
        raise UnknownStartError(f"the kind of a schedule cannot be used here: {error}") from error
    if kind.recurring is None:
        intake_of(kind)
        return KindSchedules()
    own: type[KindSchedules] = load_target(kind.recurring)
    return own()
