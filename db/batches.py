"""Accepts, cancels and reopens batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
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
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError

from db.ending import CANCELLED, RANGE_JOBS, end_jobs
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
    """The schedule has an unfinished run. A second run would read the same sources at the same time."""

    code = "run_under_way"

    def __init__(self, batch_id: UUID, go_on: str = "") -> None:
        """Create the error. Its message contains `go_on`, the command that continues the batch, if given."""
        instead = f"; if no worker is processing it, continue it with `{go_on}`" if go_on else ""
        super().__init__(
            f"the schedule has an unfinished run, batch {batch_id}: see its progress with `pressroom status "
            f"{batch_id}`, or end it with `pressroom cancel {batch_id}`{instead}"
        )
        self.batch_id = batch_id


def accept(
    database: Engine, batch: NewBatch, jobs: Iterable[NewJob], num_rejected: Callable[[], int]
) -> tuple[UUID, bool]:
    """Write the batch and all its jobs in one transaction; return its id, and whether it is new.

    If a batch with the same idempotency key exists, its id is returned and nothing is written. `jobs` is
    streamed through COPY, in bounded memory. `num_rejected` is called after all jobs have been written.

    Raises RunUnderWayError, JobsRefusedError (for example, for two jobs with the same custom_id), and any
    exception that the iterator raises. After an error, nothing is accepted.
    """
    with database.begin() as connection:
        return accept_in(connection, batch, jobs, num_rejected)


def accept_in(
    connection: Connection, batch: NewBatch, jobs: Iterable[NewJob], num_rejected: Callable[[], int]
) -> tuple[UUID, bool]:
    """Accept a batch like `accept`, but in the caller's transaction.

    The batch is committed or rolled back together with the caller's other writes.
    """
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
        # The conflicting insert has committed by now, because this one waited for it.
        if batch.idempotency_key is not None:
            same_key = BatchRow.idempotency_key == batch.idempotency_key
            existing = connection.scalar(select(BatchRow.id).where(BatchRow.tenant == batch.tenant, same_key))
            if existing is not None:
                return existing
        if batch.schedule_id is not None:
            under_way = run_under_way(connection, batch.schedule_id)
            if under_way is not None:
                raise RunUnderWayError(under_way)
            # The conflicting run has ended since the insert, so the insert is tried again.
    return None


def run_under_way(connection: Connection, schedule_id: UUID | ScalarSelect[UUID | None]) -> UUID | None:
    """Return the unfinished run of this schedule; there is at most one."""
    return connection.scalar(
        select(BatchRow.id).where(BatchRow.schedule_id == schedule_id, BatchRow.status == BatchStatus.RUNNING)
    )


def cancel(database: Engine, batch_id: UUID) -> int:
    """Cancel the open jobs of the batch and keep finished ones; return how many were cancelled.

    After the first transaction, no job of the batch is sent any more. If the cancellation is interrupted
    after that, the reconciler cancels the rest. Raises BatchNotFoundError.
    """
    with database.begin() as connection:
        batch = connection.execute(
            select(BatchRow.status, BatchRow.num_cancelled).where(BatchRow.id == batch_id).with_for_update()
        ).one_or_none()
        if batch is None:
            raise BatchNotFoundError(f"no batch has the id {batch_id}: see `pressroom batches`")
        num_before: int = batch.num_cancelled
        if batch.status is BatchStatus.RUNNING:
            connection.execute(
                update(BatchRow).where(BatchRow.id == batch_id).values(status=BatchStatus.CANCELLED)
            )
    end_jobs(database, batch_id, CANCELLED)
    finish_cancelled(database, batch_id)
    with database.connect() as connection:
        # The total is read again, because the reconciler may have cancelled some of the jobs.
        num_cancelled = connection.scalar(select(BatchRow.num_cancelled).where(BatchRow.id == batch_id)) or 0
    return num_cancelled - num_before


def finish_cancelled(database: Engine, batch_id: UUID) -> None:
    """Record when a cancelled batch finished, if no job of it is open any more."""
    is_open = select(JobRow.id).where(
        JobRow.batch_id == batch_id, job_is(JobStatus.QUEUED, JobStatus.RUNNING)
    )
    with database.begin() as connection:
        connection.execute(
            update(BatchRow)
            .where(
                BatchRow.id == batch_id,
                BatchRow.status == BatchStatus.CANCELLED,
                BatchRow.finished_at.is_(None),
                ~is_open.exists(),
            )
            .values(finished_at=func.clock_timestamp())
        )


RETRY_HOLD_SECONDS = 60.0
"""Time in seconds for which no stage of a batch is closed after a range of its jobs was requeued and further
ranges are still to be requeued. A range takes a tenth of a second. If the retry is interrupted, the batch
continues after this time."""


def retry_unfinished(database: Engine, batch_id: UUID, *, job_id: UUID | None = None) -> int:
    """Requeue failed, cancelled and expired jobs and release parked ones; return how many.

    Failures so far no longer count. With `job_id`, only that job is requeued. Otherwise, all unfinished jobs
    of the batch's last stage are requeued, in one transaction for each range of positions. After an
    interruption, another call requeues the rest. The function stops early if the batch is cancelled or its
    next stage is opened in the meantime. Raises BatchNotFoundError, or RunUnderWayError if the batch's
    schedule has another unfinished run.
    """
    num_queued, stage, is_last = 0, None, False
    for positions in _ranges():
        with database.begin() as connection:
            # Locking the batch first makes this transaction wait while a stage is being planned.
            status = connection.scalar(
                select(BatchRow.status).where(BatchRow.id == batch_id).with_for_update()
            )
            last = _last_job(connection, batch_id)
            is_over = num_queued > 0 and status is not BatchStatus.RUNNING
            if stage is not None and (is_over or stage != last.stage):
                break
            stage = last.stage
            is_last = job_id is not None or last.position < positions.stop
            which = JobRow.position.between(positions.start, positions.stop - 1)
            num_queued += _requeue(
                connection, batch_id, stage, which if job_id is None else JobRow.id == job_id
            )
            if positions.start or not is_last:
                _hold_stage(connection, batch_id, seconds=None if is_last else RETRY_HOLD_SECONDS)
        if is_last:
            break
    return num_queued


def _ranges() -> Iterator[range]:
    """Yield consecutive ranges of positions, without end."""
    for start in count(step=RANGE_JOBS):
        yield range(start, start + RANGE_JOBS)


@dataclass(frozen=True, slots=True)
class _LastJob:
    stage: int
    position: int


def _last_job(connection: Connection, batch_id: UUID) -> _LastJob:
    """Return the stage and the position of the last job of the last stage. Raises BatchNotFoundError."""
    row = connection.execute(
        select(JobRow.stage, JobRow.position)
        .where(JobRow.batch_id == batch_id)
        .order_by(JobRow.stage.desc(), JobRow.position.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        raise BatchNotFoundError(f"batch {batch_id} does not exist or has no jobs: see `pressroom batches`")
    return _LastJob(row.stage, row.position)


def _hold_stage(connection: Connection, batch_id: UUID, seconds: float | None) -> None:
    """Prevent stages of the running batch from being closed for this time; None allows it again at once."""
    until = func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    connection.execute(
        update(BatchRow)
        .where(BatchRow.id == batch_id, BatchRow.status == BatchStatus.RUNNING)
        .values(plan_retry_at=None if seconds is None else until)
    )


def _requeue(connection: Connection, batch_id: UUID, stage: int, which: ColumnElement[bool]) -> int:
    """Requeue those of the jobs that are unfinished, and return how many.

    The batch is reopened if there are any, or if it has failed. Raises RunUnderWayError.
    """
    unfinished = (
        select(JobRow.id, JobRow.status)
        .where(
            JobRow.batch_id == batch_id,
            JobRow.stage == stage,  # the last one; it was planned from the final results of the others
            JobRow.status.in_([JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED])
            | (job_is(JobStatus.QUEUED) & JobRow.parked_at.is_not(None)),
            which,
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
    numbers = connection.execute(select(requeued.c.earlier, func.count()).group_by(requeued.c.earlier)).all()
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
    """Set the batch to running if the condition holds; return whether it holds. Raises RunUnderWayError."""
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
            # The conflicting run has ended since the update, so the update is tried again.


def batch_settings(database: Engine, batch_id: UUID) -> Mapping[str, object]:
    """Return the settings that apply to all jobs of the batch. Raises BatchNotFoundError."""
    with database.connect() as connection:
        found = connection.scalar(select(BatchRow.settings).where(BatchRow.id == batch_id))
    if found is None:
        raise BatchNotFoundError(f"no batch has the id {batch_id}: see `pressroom batches`")
    return found
