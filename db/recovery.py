"""What repairs the crash between any two steps: leases that ran out, deadlines that passed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine, case, func, select, update

from db.leases import end_open_jobs, ending_attempts
from db.tables import BatchRow, JobRow
from db.totals import add_final
from jobs.batch import BatchStatus
from jobs.job import AttemptOutcome, JobStatus

REAP_LIMIT = 5_000
"""Rows of one reaping transaction: it holds locks for well under a second."""


@dataclass(frozen=True, slots=True)
class Reaped:
    """Leases that had run out."""

    num_requeued: int
    num_quarantined: int


def reap_expired_leases(database: Engine, *, max_crashes: int) -> Reaped:
    """Queue jobs again whose worker stopped renewing; fail those under which `max_crashes` workers ended.

    The job's own errors are not charged: whoever was next to a job that kills its worker is innocent.
    """
    quarantined = JobRow.num_crashes + 1 >= max_crashes
    message = func.format(
        "%s workers in a row ended while they ran this job, the last one being %s: quarantined. "
        "Look at its input and at the worker's log; `--retry-failed` runs it again",
        JobRow.num_crashes + 1,
        JobRow.worker_id,
    )
    expired = (
        select(JobRow.id)
        .where(JobRow.status == JobStatus.RUNNING, JobRow.lease_expires_at < func.clock_timestamp())
        .order_by(JobRow.id)
        .limit(REAP_LIMIT)
        .with_for_update(skip_locked=True)
        .cte("expired")
    )
    reaped = (
        update(JobRow)
        .where(JobRow.id == expired.c.id)
        .values(
            status=case((quarantined, JobStatus.FAILED.value), else_=JobStatus.QUEUED.value),
            num_crashes=JobRow.num_crashes + 1,
            sent_at=None,
            lease_expires_at=None,
            finished_at=case((quarantined, func.clock_timestamp())),
            error_code=case((quarantined, "quarantined")),
            error_message=case((quarantined, message)),
        )
        .returning(JobRow.id, JobRow.attempt, JobRow.batch_id, JobRow.status)
        .cte("reaped")
    )
    with database.begin() as connection:
        rows = connection.execute(
            select(reaped.c.batch_id, reaped.c.status).add_cte(ending_attempts(reaped, AttemptOutcome.LOST))
        ).all()
        failed = Counter(row.batch_id for row in rows if row.status is JobStatus.FAILED)
        add_final(connection, {(batch_id, JobStatus.FAILED): number for batch_id, number in failed.items()})
    return Reaped(len(rows) - failed.total(), failed.total())


def expire_overdue(database: Engine) -> int:
    """End the open jobs of batches whose deadline has passed; return how many."""
    overdue = select(BatchRow.id).where(
        BatchRow.status == BatchStatus.RUNNING, BatchRow.deadline_at < func.now()
    )
    with database.connect() as connection:
        batch_ids = connection.scalars(overdue).all()
    return sum(_expire(database, batch_id) for batch_id in batch_ids)


def _expire(database: Engine, batch_id: UUID) -> int:
    expired = end_open_jobs(
        JobRow.batch_id == batch_id,
        status=JobStatus.EXPIRED,
        error_code="deadline_exceeded",
        error_message="the batch's deadline passed before this job was finished",
    )
    with database.begin() as connection:
        number = connection.execute(expired).scalar_one()
        add_final(connection, {(batch_id, JobStatus.EXPIRED): number})
    return number


def running_batches(database: Engine) -> list[UUID]:
    """Batches that are not finished: their stages are looked at again."""
    with database.connect() as connection:
        return list(connection.scalars(select(BatchRow.id).where(BatchRow.status == BatchStatus.RUNNING)))
