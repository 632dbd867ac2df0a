"""Plans the stages of a batch one after the other, queues the jobs of each stage, and closes it once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID

import psycopg
from pydantic_core import to_json
from sqlalchemy import Connection, Engine, Text, case, cast, func, select, text, update
from sqlalchemy.exc import OperationalError

from db.tables import BatchRow, JobRow, StageRow, job_is
from jobs.batch import BatchStatus
from jobs.errors import InputError
from jobs.job import JobStatus, job_ids
from jobs.outputs import OutputT, parse_output

PLAN_RETRY_SECONDS = 2.0
"""Delay in seconds before the planning of a stage is retried. It doubles with every failure."""

MAX_PLAN_FAILURES = 5
"""Maximum number of attempts to plan a stage, all within a minute. This gives a kind's package time to be
installed; an error that lasts longer is a fault."""

JOBS_QUEUED = "pressroom_jobs_queued"
"""Postgres channel that notifies the dispatcher of new jobs. If a notification is lost, the dispatcher finds
the jobs a little later by polling."""

_COPY_JOBS = "COPY jobs (id, position, custom_id, prefix_group, payload, batch_id, stage, status) FROM STDIN"

_BLOCK_CHARACTERS = 2**18
"""Number of characters of payload that are sent to Postgres at a time. At this size, the thread that makes
rows and the one that sends them alternate only a few times a second."""

_COPY_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
"""Escapes of the characters that have a meaning in COPY's text format."""

STREAM_ROWS = 500
"""Number of rows that a streamed query keeps in memory at a time."""


_DUPLICATE = re.compile(r"=\([^,]*, \d+, (?P<custom_id>.*)\) already exists", re.DOTALL)
"""Matches the detail of Postgres' error about two jobs with the same custom_id."""


class JobsRefusedError(InputError):
    """Postgres refuses a job of the batch, so the whole batch is refused."""

    code = "jobs_refused"


class _JobUnmadeError(Exception):
    """An error of the iterator that creates the jobs. Postgres receives and logs only its type."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(type(cause).__name__)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be queued."""

    custom_id: str
    payload: Mapping[str, object]
    prefix_group: str = ""


@dataclass(frozen=True, slots=True)
class ClosedStage:
    """A stage whose jobs are all final, with the name of the stage to be planned next."""

    database: Engine
    batch_id: UUID
    kind: str
    settings: Mapping[str, object]
    num_failed: int
    """Number of the batch's jobs that have failed so far."""
    number: int
    name: str
    next_name: str


def _without_words(jobs: Iterable[NewJob]) -> Iterator[NewJob]:
    try:
        yield from jobs
    except Exception as error:
        raise _JobUnmadeError(error) from error


def _copy_blocks(batch_id: UUID, number: int, jobs: Iterable[NewJob]) -> Iterator[tuple[int, str]]:
    """Yield the rows of a stage's jobs in blocks of text for COPY, each with the number of its rows."""
    constants = f"{batch_id.hex}\t{number}\t{JobStatus.QUEUED.value}\n"
    rows: list[str] = []
    num_characters = 0
    for position, (digits, job) in enumerate(zip(job_ids(batch_id, number), jobs, strict=False)):
        custom_id, prefix_group = _escaped(job.custom_id), _escaped(job.prefix_group)
        payload = _json_text(job.payload).replace("\\", r"\\")
        rows.append(f"{digits}\t{position}\t{custom_id}\t{prefix_group}\t{payload}\t{constants}")
        num_characters += len(rows[-1])
        if num_characters >= _BLOCK_CHARACTERS:
            yield len(rows), "".join(rows)
            rows, num_characters = [], 0
    if rows:
        yield len(rows), "".join(rows)


def _escaped(text: str) -> str:
    return text if text.isalnum() else text.translate(_COPY_ESCAPES)


def _json_text(payload: Mapping[str, object]) -> str:
    try:
        return to_json(dict(payload), inf_nan_mode="constants").decode()
    except ValueError:  # for half of a surrogate pair; Postgres then refuses the job with a clear message
        return json.dumps(dict(payload))


Planner = Callable[[ClosedStage], Iterable[NewJob]]


def open_stage(connection: Connection, batch_id: UUID, number: int, jobs: Iterable[NewJob]) -> None:
    raw = connection.connection.driver_connection
    if raw is None:
        raise RuntimeError("the connection was closed while a stage was being opened")
    # A COPY is a single statement that lasts until the last job is created: hours for millions of lines.
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    num_jobs = 0
    unmade: Exception | None = None
    try:
        with raw.cursor().copy(_COPY_JOBS) as copy, ThreadPoolExecutor(max_workers=1) as sender:
            sending: Future[None] | None = None
            for num_rows, block in _copy_blocks(batch_id, number, _without_words(jobs)):
                num_jobs += num_rows
                if sending is not None:
                    sending.result()
                sending = sender.submit(copy.write, block)  # while the next block is made
            if sending is not None:
                sending.result()
    except _JobUnmadeError as error:
        unmade = error.cause
    except psycopg.OperationalError as error:  # callers expect SQLAlchemy's errors
        raise OperationalError("COPY jobs", None, error) from error
    except psycopg.errors.UniqueViolation as error:
        found = _DUPLICATE.search(error.diag.message_detail or "")
        shown = f" {found['custom_id']!r}" if found else ""
        raise JobsRefusedError(
            f"two jobs of stage {number} have the same custom_id{shown}: give each job a unique custom_id"
        ) from error
    except psycopg.Error as error:
        raise JobsRefusedError(f"Postgres rejects the jobs of stage {number}: {error}") from error
    if unmade is not None:
        raise unmade  # raised outside the handler, so that it does not become its own context
    connection.execute(select(func.pg_notify(JOBS_QUEUED, "")))  # delivered when the transaction commits
    connection.execute(
        update(StageRow)
        .where(StageRow.batch_id == batch_id, StageRow.number == number)
        .values(opened_at=func.now())
    )
    profile = (
        select(StageRow.profile)
        .where(StageRow.batch_id == batch_id, StageRow.number == number)
        .scalar_subquery()
    )
    connection.execute(
        update(BatchRow)
        .where(BatchRow.id == batch_id)
        .values(num_jobs=BatchRow.num_jobs + num_jobs, profile=profile)
    )


def close_finished_stages(database: Engine, batch_id: UUID, plan: Planner) -> bool:
    """Close the batch's finished stage and plan the next one; return whether the batch has finished.

    A stage is finished when all its jobs are final. Everything happens in one transaction, which locks the
    batch's row, so a second caller has nothing left to do.
    """
    with database.connect() as connection:
        # This check needs no lock and is enough for nearly every call.
        if _has_open_jobs(connection, batch_id) or _waits_to_be_planned(connection, batch_id):
            return False
    with database.begin() as connection:
        batch = connection.execute(
            select(BatchRow.kind, BatchRow.status, BatchRow.settings, BatchRow.num_failed)
            .where(BatchRow.id == batch_id)
            .with_for_update()
        ).one_or_none()
        if batch is None or batch.status is not BatchStatus.RUNNING:
            return False
        if _waits_to_be_planned(connection, batch_id):
            return False
        for stage, following in _open_stages(connection, batch_id):
            if _has_open_jobs(connection, batch_id):
                return False
            connection.execute(
                update(StageRow)
                .where(StageRow.batch_id == batch_id, StageRow.number == stage.number)
                .values(closed_at=func.now())
            )
            if following is not None:
                closed = ClosedStage(
                    database,
                    batch_id,
                    batch.kind,
                    batch.settings,
                    batch.num_failed,
                    stage.number,
                    stage.name,
                    following.name,
                )
                open_stage(connection, batch_id, following.number, plan(closed))
        connection.execute(
            update(BatchRow)
            .where(BatchRow.id == batch_id)
            .values(status=BatchStatus.FINISHED, finished_at=func.now(), num_plan_failures=0, plan_error=None)
        )
    return True


def note_plan_failure(database: Engine, batch_id: UUID, message: str) -> bool:
    """Record that a stage could not be planned; return whether the batch has failed because of it.

    Planning is retried after a delay that doubles with every failure. If the last attempt fails, so does the
    batch.
    """
    tries = BatchRow.num_plan_failures + 1
    seconds = PLAN_RETRY_SECONDS * func.power(2, BatchRow.num_plan_failures)
    is_last = tries >= MAX_PLAN_FAILURES
    with database.begin() as connection:
        status = connection.scalar(
            update(BatchRow)
            .where(BatchRow.id == batch_id, BatchRow.status == BatchStatus.RUNNING)
            .values(
                num_plan_failures=tries,
                plan_error=message,
                plan_retry_at=func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, seconds),
                status=case((is_last, BatchStatus.FAILED.value), else_=BatchStatus.RUNNING.value),
                finished_at=case((is_last, func.clock_timestamp())),
            )
            .returning(BatchRow.status)
        )
    return status is BatchStatus.FAILED


def _waits_to_be_planned(connection: Connection, batch_id: UUID) -> bool:
    waits = select(BatchRow.plan_retry_at > func.clock_timestamp()).where(BatchRow.id == batch_id)
    return bool(connection.scalar(waits))


def stage_outputs(
    database: Engine, batch_id: UUID, stage: str, output_type: type[OutputT]
) -> Iterator[tuple[str, OutputT]]:
    """Stream the custom_id and output of a stage's succeeded jobs, in input order, on a separate connection.

    Yields nothing for a stage that the batch does not have. Raises OutputUnfitError for an output of a
    different type.
    """
    number = (
        select(StageRow.number).where(StageRow.batch_id == batch_id, StageRow.name == stage).scalar_subquery()
    )
    statement = (
        select(JobRow.custom_id, cast(JobRow.output, Text).label("output"))
        .where(
            JobRow.batch_id == batch_id,
            JobRow.stage == number,
            JobRow.status == JobStatus.SUCCEEDED,
        )
        .order_by(JobRow.position)
    )
    with database.connect() as connection:
        streaming = connection.execution_options(stream_results=True, yield_per=STREAM_ROWS)
        with streaming.execute(statement) as rows:
            for row in rows:
                yield (
                    row.custom_id,
                    parse_output(row.output, output_type, stage=stage, custom_id=row.custom_id),
                )


@dataclass(frozen=True, slots=True)
class _Stage:
    number: int
    name: str


def stage_profiles(database: Engine, batch_id: UUID) -> tuple[str, ...]:
    """Return the distinct profiles of a batch's stages, in the order of the stages."""
    with database.connect() as connection:
        profiles = connection.scalars(
            select(StageRow.profile).where(StageRow.batch_id == batch_id).order_by(StageRow.number)
        )
        return tuple(dict.fromkeys(profiles))


def _open_stages(connection: Connection, batch_id: UUID) -> Iterator[tuple[_Stage, _Stage | None]]:
    rows = connection.execute(
        select(StageRow.number, StageRow.name)
        .where(StageRow.batch_id == batch_id, StageRow.closed_at.is_(None))
        .order_by(StageRow.number)
    ).all()
    stages = [_Stage(row.number, row.name) for row in rows]
    yield from zip(stages, [*stages[1:], None], strict=True)


def _has_open_jobs(connection: Connection, batch_id: UUID) -> bool:
    open_jobs = (
        select(JobRow.id)
        .where(JobRow.batch_id == batch_id, job_is(JobStatus.QUEUED, JobStatus.RUNNING))
        .order_by(JobRow.status)  # the index's order, so that Postgres reads the index and not the table
        .limit(1)
    )
    return connection.scalar(open_jobs) is not None
