"""Batches and their stages: accepted whole, closed once, counted in SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from uuid import UUID, uuid4

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    ScalarSelect,
    func,
    insert,
    literal,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError

from db.endings import cancel_some
from db.stages import NewJob, open_stage
from db.tables import BatchRow, JobRow, StageRow, job_is
from db.totals import add_final
from jobs.batch import BatchStatus, NewBatch
from jobs.errors import PermanentError, TransientError
from jobs.job import JobStatus


class BatchNotFoundError(PermanentError):
    """No batch has this id."""

    code = "batch_not_found"


class RunUnderWayError(TransientError):
    """The schedule has a run that has not ended: two would read the same sources at once."""

    code = "run_under_way"

    def __init__(self, batch_id: UUID, go_on: str = "") -> None:
        """`go_on`: the command that goes on with the batch, where it may be that nobody works on it."""
        instead = f"; if nothing works on it, go on with it: {go_on}" if go_on else ""
        super().__init__(
            f"batch {batch_id} is a run of it that is under way: see how far it is with `pressroom status "
            f"{batch_id}`, or end it with `pressroom cancel {batch_id}`{instead}"
        )
        self.batch_id = batch_id


def accept(
    database: Engine, batch: NewBatch, jobs: Iterable[NewJob], num_rejected: Callable[[], int]
) -> tuple[UUID, bool]:
    """Write the batch and all its jobs in one transaction; return its id, and False if the key had one.

    `jobs` is streamed through COPY, in bounded memory; `num_rejected` is asked once they are written.
    Raises JobsRefusedError, for two jobs of one custom_id say, RunUnderWayError, and whatever the iterator
    raises: then nothing was accepted.
    """
    with database.begin() as connection:
        return accept_in(connection, batch, jobs, num_rejected)


def accept_in(
    connection: Connection, batch: NewBatch, jobs: Iterable[NewJob], num_rejected: Callable[[], int]
) -> tuple[UUID, bool]:
    """Accept in the caller's transaction, whose other writes stand or fall with the batch."""
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
    statement = (
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
            schedule_id=batch.schedule_id,
            status=BatchStatus.RUNNING,
            num_rejected=0,
            deadline_at=None
            if seconds is None
            else func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds),
        )
        .on_conflict_do_nothing()
        .returning(BatchRow.id)
    )
    while connection.scalar(statement) is None:
        # The first insert has committed by now: a conflicting one waits for it.
        if batch.idempotency_key is not None:
            same_key = BatchRow.idempotency_key == batch.idempotency_key
            existing = connection.scalar(select(BatchRow.id).where(BatchRow.tenant == batch.tenant, same_key))
            if existing is not None:
                return existing
        if batch.schedule_id is not None:
            under_way = run_under_way(connection, batch.schedule_id)
            if under_way is not None:
                raise RunUnderWayError(under_way)
            # It has ended since the insert met it.
    return None


def run_under_way(connection: Connection, schedule_id: UUID | ScalarSelect[UUID | None]) -> UUID | None:
    """The run of this schedule that has not ended; there is one at most."""
    return connection.scalar(
        select(BatchRow.id).where(BatchRow.schedule_id == schedule_id, BatchRow.status == BatchStatus.RUNNING)
    )


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


def retry_unfinished(database: Engine, batch_id: UUID, *, job_id: UUID | None = None) -> int:
    """Queue failed, cancelled and expired jobs again and release parked ones, all with fresh attempts.

    All of the batch, or this one; returns how many. Raises RunUnderWayError if its schedule has another
    run that has not ended.
    """
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
                JobRow.status.in_([JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED])
                | (job_is(JobStatus.QUEUED) & JobRow.parked_at.is_not(None)),
                true() if job_id is None else JobRow.id == job_id,
            )
            .cte("unfinished")
        )
        requeued = (
            update(JobRow)
            .where(JobRow.id == unfinished.c.id)
            .values(
                status=JobStatus.QUEUED,
                num_failures=0,
                suspect_group=None,
                parked_at=None,
                cleared_attempt=JobRow.attempt,
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
        if _reopen(connection, batch_id, literal(bool(numbers)) | (BatchRow.status == BatchStatus.FAILED)):
            connection.execute(
                update(StageRow)
                .where(StageRow.batch_id == batch_id, StageRow.number >= stage)
                .values(closed_at=None)
            )
            final = {(batch_id, status): -number for status, number in numbers if status.is_final}
            add_final(connection, final)
    return sum(number for _, number in numbers)


def _reopen(connection: Connection, batch_id: UUID, condition: ColumnElement[bool]) -> bool:
    """Let the batch run again where the condition holds; whether it does. Raises RunUnderWayError."""
    statement = (
        update(BatchRow)
        .where(BatchRow.id == batch_id, condition)
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
    own = select(BatchRow.schedule_id).where(BatchRow.id == batch_id).scalar_subquery()
    while True:
        try:
            with connection.begin_nested():
                return connection.scalar(statement) is not None
        except IntegrityError as error:
            under_way = run_under_way(connection, own)
            if under_way is not None:
                raise RunUnderWayError(under_way) from error
            # It has ended since the update met it.


def batch_settings(database: Engine, batch_id: UUID) -> Mapping[str, object]:
    """What the batch fixes for all its jobs. Raises BatchNotFoundError."""
    with database.connect() as connection:
        found = connection.scalar(select(BatchRow.settings).where(BatchRow.id == batch_id))
    if found is None:
        raise BatchNotFoundError(f"no batch has the id {batch_id}: see `pressroom batches`")
    return found
