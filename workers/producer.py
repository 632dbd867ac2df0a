"""Producers: a file is validated line by line and accepted as a batch, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ValidationError
from sqlalchemy import Connection, Engine

from db import batches
from db.stages import NewJob
from jobs.batch import NewBatch, NewStage
from jobs.errors import ConfigurationError, InputError
from jobs.guards import CONTROL_TOKENS
from jobs.intake.dialect import AS_FOUND, FileOptions
from jobs.intake.payloads import ITEMS, Accepted, Items, read_lines
from jobs.kind import Kind
from jobs.ranges import (
    MAX_PRIORITY,
    MAX_SECONDS,
    MAX_SEED,
    MIN_DEADLINE_SECONDS,
    check_label,
    check_number,
    printable_name,
)
from jobs.registry import load_kind
from jobs.rejection import Dropped, DroppedTally, Rejected
from workers.prompt_check import prompt_check
from workers.settings import Settings


class StrictIntakeError(InputError):
    """A line was refused and the caller required all lines or none."""

    code = "line_rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The options of a producer's request, in addition to the file; see jobs.batch.NewBatch."""

    kind: str
    model: str
    settings: Mapping[str, object]
    """Values for the kind's settings type; unknown names are refused."""
    seed: int = 0
    name: str | None = None
    tenant: str = "default"
    priority: int = 0
    idempotency_key: str | None = None
    deadline_seconds: float | None = None
    strict: bool = False
    """Whether a single bad line causes the whole file to be refused."""
    file: FileOptions = AS_FOUND
    """Options for reading the file."""


@dataclass(frozen=True, slots=True)
class Submission:
    """An accepted batch."""

    batch_id: UUID
    created: bool
    """False if the idempotency key already had a batch, so that nothing was added."""
    dropped: Dropped | None = None
    """Counts of the records that were refused from the file."""


def submit_rows(
    database: Engine,
    rows: Path | Items,
    order: Order,
    settings: Settings,
    on_rejected: Callable[[Rejected], None],
) -> Submission:
    """Accept the good rows of a file, or items in memory, as one batch; pass each bad one to `on_rejected`.

    Raises FileRejectedError for a file that cannot be used, StrictIntakeError, InputError for settings that
    do not fit the kind, and ConfigurationError for an unknown kind or a model that no profile has. Nothing
    has been accepted in these cases.
    """
    with database.begin() as connection:
        return submit_rows_in(connection, rows, order, settings, on_rejected)


def submit_rows_in(
    connection: Connection,
    rows: Path | Items,
    order: Order,
    settings: Settings,
    on_rejected: Callable[[Rejected], None],
    *,
    schedule_id: UUID | None = None,
) -> Submission:
    """Do the same as `submit_rows` in the caller's transaction; the batch may be a run of a schedule.

    Also raises RunUnderWayError while another run of the schedule has not ended.
    """
    kind = load_kind(order.kind)
    check_rows(kind)
    kind_settings = kind_settings_of(kind, order.settings)
    path = rows if isinstance(rows, Path) else ITEMS
    tally = DroppedTally(path, on_rejected)
    intake = _Intake(rows, kind, kind_settings, order, settings, tally)
    batch = new_batch(order, settings, name=path.name, schedule_id=schedule_id)
    batch_id, created = batches.accept_in(connection, batch, intake.jobs(), lambda: intake.num_rejected)
    return Submission(batch_id, created, tally.dropped(intake.num_accepted))


def new_batch(
    order: Order,
    settings: Settings,
    *,
    name: str,
    stages: tuple[str, ...] = (),
    schedule_id: UUID | None = None,
) -> NewBatch:
    """Return the batch for an order: `stages`, or all of its kind, each in the queue that has its models.

    Raises InputError and ConfigurationError as `submit_rows` does.
    """
    _check_order(order)
    kind = load_kind(order.kind)
    kind_settings = kind_settings_of(kind, order.settings)
    return NewBatch(
        kind=kind.name,
        kind_version=kind.version,
        name=order.name or printable_name(name),
        model=order.model,
        settings=kind_settings.model_dump(mode="json"),
        seed=order.seed,
        stages=tuple(
            NewStage(stage, settings.profile_of(kind.models(order.model, kind_settings, stage)))
            for stage in stages or [stage.name for stage in kind.stages]
        ),
        tenant=order.tenant,
        priority=order.priority,
        schedule_id=schedule_id,
        idempotency_key=order.idempotency_key,
        deadline_seconds=order.deadline_seconds,
        max_attempts=settings.max_attempts,
    )


def _check_order(order: Order) -> None:
    """Raise InputError for values that no queue or table could hold."""
    check_number(order.seed, 0, MAX_SEED, "seed")
    check_number(order.priority, -MAX_PRIORITY, MAX_PRIORITY, "priority")
    if order.deadline_seconds is not None:
        check_number(order.deadline_seconds, MIN_DEADLINE_SECONDS, MAX_SECONDS, "deadline")
    labels = (("tenant", order.tenant), ("name", order.name), ("idempotency key", order.idempotency_key))
    for name, label in labels:
        if label is not None:
            check_label(label, name)


def check_rows(kind: Kind[Any]) -> None:
    """Raise ConfigurationError if the kind's jobs are not the rows of one table."""
    if not kind.rows_are_jobs:
        raise ConfigurationError(
            f"jobs of kind {kind.name} are no rows of a table: `pressroom kinds show {kind.name}` names "
            "the command that makes its batches",
            code="kind_without_rows",
        )


def model_of(kind: str, model: str | None) -> str:
    """Return the given model, or the kind's default; empty for a kind that uses no language model."""
    return model or load_kind(kind).default_model or ""


def kind_settings_of(kind: Kind[Any], given: Mapping[str, object]) -> BaseModel:
    """Return the kind's settings with these values. Raises InputError that names the setting."""
    try:
        return kind.settings_type.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        known = ", ".join(kind.settings_type.model_fields)
        raise InputError(
            f"setting {name!r} of kind {kind.name}: "
            + ("is no setting" if first["type"] == "extra_forbidden" else str(first["msg"]))
            + (f" (there are {known})" if known else " (the kind has none)"),
            code="setting_invalid",
        ) from error


class _Intake:
    """Turns the rows of one batch into jobs; counts the refused rows and passes them to a callback."""

    def __init__(
        self,
        rows: Path | Items,
        kind: Kind[Any],
        kind_settings: BaseModel,
        order: Order,
        settings: Settings,
        on_rejected: Callable[[Rejected], None],
    ) -> None:
        check = prompt_check(kind, kind_settings, order.model, settings)
        control_tokens = CONTROL_TOKENS if check is None else check.control_tokens
        self._lines: Iterator[Accepted[Any] | Rejected] = read_lines(
            rows, kind, control_tokens=control_tokens, check=check, options=order.file
        )
        self._kind = kind
        self._strict = order.strict
        self._on_rejected = on_rejected
        self.num_rejected = 0
        self.num_accepted = 0

    def jobs(self) -> Iterator[NewJob]:
        for line in self._lines:
            if isinstance(line, Rejected):
                self.num_rejected += 1
                self._on_rejected(line)
                continue
            self.num_accepted += 1
            yield NewJob(
                line.custom_id, line.payload.model_dump(mode="json"), self._kind.prompt_prefix(line.payload)
            )
        if self._strict and self.num_rejected:
            raise StrictIntakeError(
                f"{self.num_rejected} lines were refused and nothing was accepted: correct them, or leave "
                "--strict away to run the others"
            )
