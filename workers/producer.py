"""Producers: the inputs of a batch are read record by record and accepted in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from sqlalchemy import Connection, Engine

from db import batches
from db.stages import NewJob
from jobs.batch import NewBatch, NewStage
from jobs.errors import InputError
from jobs.intake.payloads import ITEMS
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
from workers.intake import (
    BatchRequest,
    Inputs,
    IntakePlan,
    IntakeSource,
    intake_of,
    options_of,
    plan_batch,
    validated_settings,
)
from workers.settings import Settings

OnNote = Callable[[str], None]

OnProgress = Callable[[int], None]
"""Called now and then while inputs are read, with the number of records so far, used and refused."""

_PROGRESS_ROWS = 1_000
"""Number of jobs and refused records after which progress is reported: several times a second."""


class StrictIntakeError(InputError):
    """A record was refused, and the caller required all records or none."""

    code = "line_rejected"


class InputEmptyError(InputError):
    """The inputs contain nothing that a batch could be made from."""

    code = "input_empty"


@dataclass(frozen=True, slots=True)
class Submission:
    """An accepted batch."""

    batch_id: UUID
    created: bool
    """False if the idempotency key already had a batch, so nothing was added."""
    dropped: Dropped | None = None
    """Counts of the records that were refused."""


def _ignore(_: object) -> None:
    """Ignore a refused record (the batch counts it anyway), a note, or a report of progress."""


def submit(
    database: Engine,
    inputs: Inputs,
    request: BatchRequest,
    settings: Settings,
    on_rejected: Callable[[Rejected], None] = _ignore,
    *,
    on_note: OnNote = _ignore,
    on_progress: OnProgress = _ignore,
    s3_url: str | None = None,
) -> Submission:
    """Accept the good records of the inputs as one batch; pass each refused one to `on_rejected`.

    `s3_url` is the store's URL if it is not the configured one. Raises FileRejectedError for a file that
    cannot be used, StrictIntakeError, InputError for settings or inputs that do not fit the kind, and
    ConfigurationError for an unknown kind or a model that no profile has. Nothing has been accepted in these
    cases.
    """
    with database.begin() as connection:
        return submit_in(
            connection,
            inputs,
            request,
            settings,
            on_rejected,
            on_note=on_note,
            on_progress=on_progress,
            s3_url=s3_url,
        )


def submit_in(
    connection: Connection,
    inputs: Inputs,
    request: BatchRequest,
    settings: Settings,
    on_rejected: Callable[[Rejected], None] = _ignore,
    *,
    on_note: OnNote = _ignore,
    on_progress: OnProgress = _ignore,
    s3_url: str | None = None,
    schedule_id: UUID | None = None,
) -> Submission:
    """Do the same as `submit` in the caller's transaction; the batch may be a run of a schedule.

    Also raises RunUnderWayError while another run of the schedule has not ended.
    """
    tally = DroppedTally(_name_of(inputs), on_rejected)
    plan = plan_in(connection, inputs, request, settings, tally, on_note=on_note, s3_url=s3_url)
    return accept_plan(
        connection, plan, request, settings, tally, on_progress=on_progress, schedule_id=schedule_id
    )


def plan_in(
    connection: Connection,
    inputs: Inputs,
    request: BatchRequest,
    settings: Settings,
    on_rejected: Callable[[Rejected], None],
    *,
    on_note: OnNote = _ignore,
    s3_url: str | None = None,
    is_trial: bool = False,
) -> IntakePlan:
    """Return the settings and the jobs of the batch that `submit_in` would accept. Raises as it does.

    The records are read while the caller iterates over the jobs, among which are refused records. In a trial,
    nothing is stored.
    """
    _check_request(request)
    kind = load_kind(request.kind)
    intake_of(kind)
    source = IntakeSource(
        inputs=inputs,
        request=request,
        options=options_of(kind, request.settings),
        connection=connection,
        settings=settings,
        on_rejected=on_rejected,
        on_note=on_note,
        s3_url=s3_url,
        is_trial=is_trial,
    )
    return plan_batch(source)


def accept_plan(
    connection: Connection,
    plan: IntakePlan,
    request: BatchRequest,
    settings: Settings,
    tally: DroppedTally,
    *,
    on_progress: OnProgress = _ignore,
    schedule_id: UUID | None = None,
) -> Submission:
    """Accept the batch that an intake planned, in the caller's transaction. Raises as `submit_in` does."""
    batch = new_batch(
        replace(request, model=plan.model, settings=plan.settings, stages=request.stages or plan.stages),
        settings,
        name=plan.name,
        schedule_id=schedule_id,
    )
    jobs = _PlannedJobs(plan, tally, on_progress, strict=request.strict)
    batch_id, created = batches.accept_in(connection, batch, jobs.accepted(), lambda: tally.num_rejected)
    return Submission(batch_id, created, tally.dropped(jobs.num_records))


def new_batch(
    request: BatchRequest,
    settings: Settings,
    *,
    name: str,
    schedule_id: UUID | None = None,
) -> NewBatch:
    """Return the batch for a request, with the requested stages (by default all), each in a queue with its
    models.

    Raises InputError and ConfigurationError as `submit` does.
    """
    _check_request(request)
    kind = load_kind(request.kind)
    kind_settings = validated_settings(kind.name, kind.settings_type, request.settings)
    return NewBatch(
        kind=kind.name,
        kind_version=kind.version,
        name=request.name or printable_name(name),
        model=request.model,
        settings=kind_settings.model_dump(mode="json"),
        seed=request.seed,
        stages=tuple(
            NewStage(stage, settings.profile_of(kind.models(request.model, kind_settings, stage)))
            for stage in request.stages or [stage.name for stage in kind.stages]
        ),
        tenant=request.tenant,
        priority=request.priority,
        schedule_id=schedule_id,
        idempotency_key=request.idempotency_key,
        deadline_seconds=request.deadline_seconds,
        max_attempts=settings.max_attempts,
    )


def _check_request(request: BatchRequest) -> None:
    """Raise InputError for values that no queue or table could hold."""
    check_number(request.seed, 0, MAX_SEED, "seed")
    check_number(request.priority, -MAX_PRIORITY, MAX_PRIORITY, "priority")
    if request.deadline_seconds is not None:
        check_number(request.deadline_seconds, MIN_DEADLINE_SECONDS, MAX_SECONDS, "deadline")
    labels = (
        ("tenant", request.tenant),
        ("name", request.name),
        ("idempotency key", request.idempotency_key),
    )
    for name, label in labels:
        if label is not None:
            check_label(label, name)


def model_of(kind: str, model: str | None) -> str:
    """Return the given model, or the kind's default; empty for a kind that uses no language model."""
    return model or load_kind(kind).default_model or ""


def _name_of(inputs: Inputs) -> Path:
    """Return the path of the first input, for messages about refused records."""
    first = next(iter(inputs.values()), None)
    return first if isinstance(first, Path) else ITEMS


class _PlannedJobs:
    """Streams the jobs of a plan; passes refused records to a tally and counts the used ones."""

    def __init__(
        self, plan: IntakePlan, tally: DroppedTally, on_progress: OnProgress, *, strict: bool
    ) -> None:
        self._plan = plan
        self._tally = tally
        self._on_progress = on_progress
        self._strict = strict
        self._num_jobs = 0

    def accepted(self) -> Iterator[NewJob]:
        for number, job in enumerate(self._plan.jobs):
            if number and number % _PROGRESS_ROWS == 0:
                self._on_progress(self.num_records + self._tally.num_rejected)
            if isinstance(job, Rejected):
                self._tally(job)
            else:
                self._num_jobs += 1
                yield job
        if self._strict and self._tally.num_rejected:
            number = self._tally.num_rejected
            lines = "1 line was" if number == 1 else f"{number} lines were"
            raise StrictIntakeError(
                f"{lines} refused and nothing was accepted: correct them, or omit --strict to run the others"
            )
        if not self.num_records and not self._tally.num_rejected:
            raise InputEmptyError("the inputs contain no record: nothing was accepted")

    @property
    def num_records(self) -> int:
        """Number of records that were used."""
        return self._num_jobs if self._plan.num_records is None else self._plan.num_records()
