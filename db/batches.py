"""Batches and their stages: accepted whole, closed once, counted in SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, func, insert, literal, or_, select, update
from sqlalchemy.dialects import postgresql

from db.endings import cancel_some
from db.stages import NewJob, open_stage
from db.tables import BatchRow, JobRow, StageRow
from db.totals import add_final
from jobs.batch import BatchStatus, NewBatch
from jobs.errors import PermanentError
from jobs.job import JobStatus


class BatchNotFoundError(PermanentError):
    """No batch has this id."""

    code = "batch_not_found"


def accept(
    database: Engine, batch: NewBatch, jobs: Iterable[NewJob], num_rejected: Callable[[], int]
) -> tuple[UUID, bool]:
    """Write the batch and all its jobs in one transaction; return its id, and False if the key had one.

    `jobs` is streamed through COPY, in bounded memory; `num_rejected` is asked once they are written.
    Raises JobsRefusedError, for two jobs of one custom_id say, and whatever the iterator raises: then nothing
    was accepted.
    """
    with database.begin() as connection:
        return accept_in(connection, batch, jobs, num_rejected)


def accept_in(
    connection: Connection, batch: NewBatch, jobs: Iterable[NewJob], num_rejected: Callable[[], int]
) -> tuple[UUID, bool]:
    """As `accept`, in the caller's transaction: what else is written in it stands or falls with the batch."""
    batch_id = uuid4()
    existing = _insert_batch(connection, batch_id, batch)
    if existing is not None:
        return existing, False
    connection.execute(
        insert(StageRow),
        [
            {"batch_id": batch_id, "number": number, "name": stage.name, "profile": stage.profile}
            for number, stage in enumerate(batch.stages)
        ],
    )
    open_stage(connection, batch_id, 0, jobs)
    connection.execute(update(BatchRow).where(BatchRow.id == batch_id).values(num_rejected=num_rejected()))
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
            profile=batch.stages[0].profile,
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
        reopened = connection.scalar(
            update(BatchRow)
            .where(
                BatchRow.id == batch_id, or_(literal(bool(numbers)), BatchRow.status == BatchStatus.FAILED)
            )
            .values(
                status=BatchStatus.RUNNING,
                finished_at=None,
                deadline_at=None,
                num_plan_failures=0,
                plan_retry_at=None,
                plan_error=None,
            )
            .returning(BatchRow.id)
        )
        if reopened is not None:
            connection.execute(
                update(StageRow)
                .where(StageRow.batch_id == batch_id, StageRow.number >= stage)
                .values(closed_at=None)
            )
            add_final(connection, {(batch_id, status): -number for status, number in numbers})
    return sum(number for _, number in numbers)
