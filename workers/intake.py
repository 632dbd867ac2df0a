"""Intake: the inputs of a batch and how its kind turns their records into jobs, by default row by row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from db.stages import NewJob
from jobs.errors import ConfigurationError, InputError, PressroomError, place_of
from jobs.guards import CONTROL_TOKENS
from jobs.intake.dialect import AS_FOUND, FileOptions
from jobs.intake.payloads import ITEMS, Items, read_lines
from jobs.intake.records import Record, file_records, item_records
from jobs.kind import ROWS, Intake, Kind
from jobs.registry import load_kind, load_target
from jobs.rejection import Rejected
from jobs.validation import describe_first
from storage import open_store
from storage.resources import put_resource
from storage.store import Store
from workers.prompt_check import prompt_check
from workers.settings import Settings

Inputs = Mapping[str, Path | Items]
"""The inputs of a batch by the names that its kind declares: files, or rows in memory."""


class InputUnknownError(InputError):
    """An input has a name that the kind does not declare."""

    code = "input_unknown"


class InputMissingError(InputError):
    """An input that the kind needs is absent, or is not a file although the kind reads a file."""

    code = "input_missing"


class IntakeBrokenError(ConfigurationError):
    """The reader of a kind's intake has a fault."""

    code = "intake_broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """A producer's options for a batch, in addition to the inputs; see jobs.batch.NewBatch."""

    kind: str
    model: str
    settings: Mapping[str, object]
    """Values for the kind's settings, or for the options of its intake; unknown names are refused."""
    seed: int = 0
    name: str | None = None
    tenant: str = "default"
    priority: int = 0
    idempotency_key: str | None = None
    deadline_seconds: float | None = None
    strict: bool = False
    """Whether a single refused record causes the whole submission to be refused."""
    file: FileOptions = AS_FOUND
    """Options for reading the files."""
    stages: tuple[str, ...] = ()
    """Stages of the batch; empty for those that the intake plans."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeSource:
    """The inputs of one submission, and the services that a reader may need."""

    inputs: Inputs
    request: BatchRequest
    options: BaseModel
    """`request.settings` as the kind's options or settings type."""
    connection: Connection
    """The transaction that accepts the batch."""
    settings: Settings
    on_rejected: Callable[[Rejected], None]
    """Called with each refused record by readers that read their inputs before they plan; other readers yield
    refused records among the jobs."""
    on_note: Callable[[str], None]
    """Prints a note about the inputs for the user."""
    s3_url: str | None = None
    """URL of the store if it is not the configured one."""
    is_trial: bool = False
    """Whether the jobs are only counted, so that nothing may be stored."""

    def path(self, name: str) -> Path | None:
        """Return the file of an input, or None if it was not given.

        Raises InputMissingError for rows in memory.
        """
        source = self.inputs.get(name)
        if source is None or isinstance(source, Path):
            return source
        raise InputMissingError(f"input {name!r} must be a file: write the rows to a file and pass its path")

    def records(self, name: str) -> Iterator[Record | Rejected]:
        """Yield the records of an input that is a table or rows in memory; yield nothing if it was not given.

        Raises FileRejectedError, at any point of the iteration, if the whole file is unusable.
        """
        source = self.inputs.get(name)
        if source is None:
            return
        if isinstance(source, Path):
            label, rows = str(source), file_records(source, lambda columns: columns, self.request.file)
        else:
            label, rows = str(ITEMS), item_records(str(ITEMS), source)
        for row in rows:
            yield row if isinstance(row, Rejected) else Record(label, row[0], dict(row[1]))

    def open_store(self) -> Store:
        """Open the store, for readers that store resources. Raises ConfigurationError."""
        return open_store(self.s3_url or self.settings.require_s3_url())

    def store_resource(self, body: bytes, *, media_type: str) -> str:
        """Store a resource for the jobs, and return its digest; in a trial, return only the digest.

        Raises ConfigurationError or StoreError.
        """
        if self.is_trial:
            return hashlib.sha256(body).hexdigest()
        return put_resource(self.open_store(), body, media_type=media_type)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakePlan:
    """The jobs, settings and stages of a batch, as its intake plans them."""

    jobs: Iterable[NewJob | Rejected]
    """Jobs of the first stage, and refused records. They are streamed into the transaction that accepts the
    batch; an error that the iterator raises means that nothing is accepted."""
    settings: Mapping[str, object]
    """Settings of the batch, which the kind's settings type accepts."""
    model: str
    name: str
    """Name of the batch unless the request gives one."""
    stages: tuple[str, ...] = ()
    """Stages of the batch; empty for all stages of the kind."""
    num_records: Callable[[], int] | None = field(default=None)
    """Returns the number of records that were used, once the jobs are written; None if each job is one
    record."""


class IntakeReader(Protocol):
    """Turns the inputs of a batch into its settings and jobs."""

    def __call__(self, source: IntakeSource, /) -> IntakePlan:
        """Plan the batch.

        Raises InputError for inputs that cannot be used, and ConfigurationError.
        """
        ...


def intake_of(kind: Kind[Any]) -> Intake:
    """Return the intake of a kind. Raises ConfigurationError if only the kind's own commands create
    batches."""
    if kind.intake is None:
        raise ConfigurationError(
            f"batches of kind {kind.name} are not made from a file: `pressroom kinds show {kind.name}` names "
            "the command that makes them",
            code="kind_without_rows",
        )
    return kind.intake


def plan_batch(source: IntakeSource) -> IntakePlan:
    """Plan the batch with the intake of its kind. Raises what `IntakeReader` raises."""
    intake = intake_of(load_kind(source.request.kind))
    check_inputs(source.request.kind, intake, source.inputs)
    reader: IntakeReader = load_target(intake.reader)
    if intake is ROWS:
        return reader(source)
    with _errors_of(intake, source.request.kind):
        plan = reader(source)
    return replace(plan, jobs=_checked(plan.jobs, intake, source.request.kind))


def _checked(jobs: Iterable[NewJob | Rejected], intake: Intake, kind: str) -> Iterator[NewJob | Rejected]:
    with _errors_of(intake, kind):
        yield from jobs


@contextmanager
def _errors_of(intake: Intake, kind: str) -> Iterator[None]:
    """Turn an exception that a reader should not have raised into IntakeBrokenError.

    The text of the exception is left out, because it may quote a record, as the text of a KeyError does.
    """
    try:
        yield
    except (PressroomError, SQLAlchemyError, OSError):
        raise
    except Exception as error:
        fault = f"{type(error).__name__}{place_of(error)}"
        raise IntakeBrokenError(
            f"the intake of kind {kind} ({intake.reader}) failed with {fault}: correct its reader; "
            "nothing was accepted"
        ) from error


def check_inputs(kind: str, intake: Intake, inputs: Inputs) -> None:
    """Raise InputUnknownError or InputMissingError if the inputs are not those that the kind declares."""
    names = [each.name for each in intake.inputs]
    for name in inputs:
        if name not in names:
            raise InputUnknownError(
                f"kind {kind} has no input named {name!r}: its inputs are {', '.join(names)}"
            )
    for each in intake.inputs:
        if each.is_required and each.name not in inputs:
            raise InputMissingError(f"kind {kind} needs the input {each.name!r}: {each.help.rstrip(';')}")


def options_of(kind: Kind[Any], values: Mapping[str, object]) -> BaseModel:
    """Validate a submission's values as the intake's options type, or else as the kind's settings type.

    Raises an InputError that names the setting.
    """
    intake = kind.intake
    options_type = None if intake is None else intake.options_type
    return validated_settings(kind.name, options_type or kind.settings_type, values)


def validated_settings(kind: str, type_: type[BaseModel], values: Mapping[str, object]) -> BaseModel:
    """Validate the values as this type. Raises an InputError that names the setting."""
    try:
        return type_.model_validate(values)
    except ValidationError as error:
        known = ", ".join(type_.model_fields)
        raise InputError(
            f"kind {kind}: {describe_first(error, noun='setting')} "
            + (f"(the settings are {known})" if known else "(the kind has no settings)"),
            code="setting_invalid",
        ) from error


def new_job(kind_name: str, custom_id: str, payload: BaseModel) -> NewJob:
    """Return a job of the first stage with this payload."""
    prefix = load_kind(kind_name).prompt_prefix(payload)
    return NewJob(custom_id, payload.model_dump(mode="json"), prefix)


def read_rows(source: IntakeSource) -> IntakePlan:
    """Turn each row of the only input into one job. This is the intake of a kind that declares none."""
    request = source.request
    kind = load_kind(request.kind)
    (rows,) = source.inputs.values()
    check = prompt_check(kind, source.options, request.model, source.settings)
    control_tokens = CONTROL_TOKENS if check is None else check.control_tokens

    def jobs() -> Iterator[NewJob | Rejected]:
        for line in read_lines(rows, kind, control_tokens=control_tokens, check=check, options=request.file):
            if isinstance(line, Rejected):
                yield line
            else:
                yield new_job(kind.name, line.custom_id, line.payload)

    name = rows.name if isinstance(rows, Path) else ITEMS.name
    return IntakePlan(jobs=jobs(), settings=request.settings, model=request.model, name=name)
