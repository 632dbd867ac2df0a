"""Batches and their stages: accepted whole, closed once, counted in SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID, uuid4

import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine, func, insert, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import OperationalError

from db.endings import cancel_some
from db.tables import BatchRow, JobRow, StageRow, job_is
from db.totals import add_final
from jobs.batch import BatchStatus, NewBatch
from jobs.errors import InputError, PermanentError
from jobs.job import JobStatus, job_id

STREAM_ROWS = 500
"""Rows that a streamed read holds at a time."""


class BatchNotFoundError(PermanentError):
    """No batch has this id."""

    code = "batch_not_found"


class JobsRefusedError(InputError):
    """Postgres refuses a job of the batch, and with it the whole batch."""

    code = "jobs_refused"


@dataclass(frozen=True, slots=True)
class NewJob:
    """One job to be queued."""

    custom_id: str
    payload: Mapping[str, object]
    prefix_group: str = ""


@dataclass(frozen=True, slots=True)
class ClosedStage:
    """A stage whose last job closed, and the name of the one to be planned."""

    database: Engine
    batch_id: UUID
    kind: str
    number: int
    name: str
    next_name: str


Planner = Callable[[ClosedStage], Iterable[NewJob]]


def accept(
    database: Engine, batch: NewBatch, jobs: Iterable[NewJob], num_rejected: Callable[[], int]
) -> tuple[UUID, bool]:
    """Write the batch and all its jobs in one transaction; return its id, and False if the key had one.

    `jobs` is streamed through COPY, in bounded memory; `num_rejected` is asked once they are written.
    Raises JobsRefusedError, for two jobs of one custom_id say, and whatever the iterator raises: then nothing
    was accepted.
    """
    batch_id = uuid4()
    with database.begin() as connection:
        existing = _insert_batch(connection, batch_id, batch)
        if existing is not None:
            return existing, False
        connection.execute(
            insert(StageRow),
            [{"batch_id": batch_id, "number": n, "name": name} for n, name in enumerate(batch.stages)],
        )
        _open_stage(connection, batch_id, 0, jobs)
        connection.execute(
            update(BatchRow).where(BatchRow.id == batch_id).values(num_rejected=num_rejected())
        )
    return batch_id, True


def _insert_batch(connection: Connection, batch_id: UUID, batch: NewBatch) -> UUID | None:
    seconds = batch.deadline_seconds
    inserted = connection.scalar(
        postgresql.insert(BatchRow)
        .values(
            id=batch_id,
            tenant=batch.tenant,
            name=batch.name,
            kind=batch.kind,
            kind_version=batch.kind_version,
            model=batch.model,
            profile=batch.profile,
            settings=batch.settings,
            seed=batch.seed,
            priority=batch.priority,
            max_attempts=batch.max_attempts,
            idempotency_key=batch.idempotency_key,
            status=BatchStatus.RUNNING,
            num_rejected=0,
            deadline_at=None
            if seconds is None
            else func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds),
        )
        .on_conflict_do_nothing(index_elements=["tenant", "idempotency_key"])
        .returning(BatchRow.id)
    )
    if inserted is not None:
        return None
    # The first insert has committed by now: a conflicting one waits for it.
    return connection.execute(
        select(BatchRow.id).where(
            BatchRow.tenant == batch.tenant, BatchRow.idempotency_key == batch.idempotency_key
        )
    ).scalar_one()


def _open_stage(connection: Connection, batch_id: UUID, number: int, jobs: Iterable[NewJob]) -> None:
    num_jobs = 0
    columns = "id, batch_id, stage, position, custom_id, prefix_group, payload, status"
    raw = connection.connection.driver_connection
    if raw is None:
        raise RuntimeError("the connection was closed while a stage was being opened")
    # A COPY is one statement for as long as its rows take to be made: hours, for a file of millions of lines.
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    try:
        with raw.cursor().copy(f"COPY jobs ({columns}) FROM STDIN") as copy:
            for position, job in enumerate(jobs):
                num_jobs += 1
                copy.write_row(
                    (
                        job_id(batch_id, number, position),
                        batch_id,
                        number,
                        position,
                        job.custom_id,
                        job.prefix_group,
                        Jsonb(dict(job.payload)),
                        JobStatus.QUEUED.value,
                    )
                )
    except psycopg.OperationalError as error:  # below SQLAlchemy, whose own errors are what callers know
        raise OperationalError("COPY jobs", None, error) from error
    except psycopg.Error as error:
        raise JobsRefusedError(f"Postgres refuses the jobs of stage {number}: {error}") from error
    connection.execute(
        update(StageRow)
        .where(StageRow.batch_id == batch_id, StageRow.number == number)
        .values(opened_at=func.now())
    )
    connection.execute(
        update(BatchRow).where(BatchRow.id == batch_id).values(num_jobs=BatchRow.num_jobs + num_jobs)
    )


def close_finished_stages(database: Engine, batch_id: UUID, plan: Planner) -> bool:
    """Close the batch's stage if its last job is final, plan the next one; True if the batch finished.

    Everything happens under the batch's row lock and in one transaction: whoever comes second finds it done.
    """
    with database.connect() as connection:
        if _has_open_jobs(connection, batch_id):  # without the lock: nearly every call ends here
            return False
    with database.begin() as connection:
        batch = connection.execute(
            select(BatchRow.kind, BatchRow.status).where(BatchRow.id == batch_id).with_for_update()
        ).one_or_none()
        if batch is None or batch.status is not BatchStatus.RUNNING:
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
                closed = ClosedStage(database, batch_id, batch.kind, stage.number, stage.name, following.name)
                _open_stage(connection, batch_id, following.number, plan(closed))
        connection.execute(
            update(BatchRow)
            .where(BatchRow.id == batch_id)
            .values(status=BatchStatus.FINISHED, finished_at=func.now())
        )
    return True


def stage_results(closed: ClosedStage) -> Iterator[tuple[str, Mapping[str, object]]]:
    """custom_id and metrics of the closed stage's succeeded jobs, in input order, streamed.

    On a connection of its own: the one that closes the stage is busy with COPY while this is read.
    """
    statement = (
        select(JobRow.custom_id, JobRow.metrics)
        .where(
            JobRow.batch_id == closed.batch_id,
            JobRow.stage == closed.number,
            JobRow.status == JobStatus.SUCCEEDED,
        )
        .order_by(JobRow.position)
    )
    with closed.database.connect() as connection:
        streaming = connection.execution_options(stream_results=True, yield_per=STREAM_ROWS)
        with streaming.execute(statement) as rows:
            for row in rows:
                yield row.custom_id, row.metrics or {}


@dataclass(frozen=True, slots=True)
class _Stage:
    number: int
    name: str


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
        .order_by(JobRow.status)  # the index's: no plan reads the table instead
        .limit(1)
    )
    return connection.scalar(open_jobs) is not None


def cancel(database: Engine, batch_id: UUID) -> int:
    """End the batch: open jobs become cancelled, finished ones stay; return how many were cancelled."""
    with database.begin() as connection:  # of its own: from now on nothing more is sent
        status = connection.scalar(select(BatchRow.status).where(BatchRow.id == batch_id).with_for_update())
        if status is None:
            raise BatchNotFoundError(f"no batch has the id {batch_id}: see `pressroom batches`")
        if status is BatchStatus.RUNNING:
            connection.execute(
                update(BatchRow).where(BatchRow.id == batch_id).values(status=BatchStatus.CANCELLED)
            )
    num_cancelled = 0
    while number := cancel_some(database, batch_id):
        num_cancelled += number
    return num_cancelled


def retry_unfinished(database: Engine, batch_id: UUID) -> int:
    """Queue the failed, cancelled and expired jobs again with fresh attempts; return how many."""
    with database.begin() as connection:
        # The lock first: a stage that is being planned meanwhile must be seen.
        connection.execute(select(BatchRow.id).where(BatchRow.id == batch_id).with_for_update())
        stage = connection.scalar(select(func.max(JobRow.stage)).where(JobRow.batch_id == batch_id))
        if stage is None:
            raise BatchNotFoundError(f"no batch with jobs has the id {batch_id}: see `pressroom batches`")
        unfinished = (
            select(JobRow.id, JobRow.status)
            .where(
                JobRow.batch_id == batch_id,
                JobRow.stage == stage,  # an earlier stage's results are what the later one was planned from
                JobRow.status.in_([JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED]),
            )
            .cte("unfinished")
        )
        requeued = (
            update(JobRow)
            .where(JobRow.id == unfinished.c.id)
            .values(
                status=JobStatus.QUEUED,
                num_failures=0,
                num_crashes=0,
                sent_at=None,
                finished_at=None,
                available_at=func.now(),
                error_code=None,
                error_message=None,
            )
            .returning(unfinished.c.status.label("earlier"))
            .cte("requeued")
        )
        numbers = connection.execute(
            select(requeued.c.earlier, func.count()).group_by(requeued.c.earlier)
        ).all()
        if numbers:
            connection.execute(
                update(BatchRow)
                .where(BatchRow.id == batch_id)
                .values(status=BatchStatus.RUNNING, finished_at=None, deadline_at=None)
            )
            connection.execute(
                update(StageRow)
                .where(StageRow.batch_id == batch_id, StageRow.number >= stage)
                .values(closed_at=None)
            )
            add_final(connection, {(batch_id, status): -number for status, number in numbers})
    return sum(number for _, number in numbers)
