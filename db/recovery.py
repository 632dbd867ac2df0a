"""What repairs the crash between any two steps: leases that ran out, deadlines that passed."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine, case, func, select, update

from db.leases import end_open_jobs, ending_attempts
from db.tables import BatchRow, JobRow
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
        .returning(JobRow.id, JobRow.attempt, JobRow.status)
        .cte("reaped")
    )
    with database.begin() as connection:
        rows = connection.scalars(
            select(reaped.c.status).add_cte(ending_attempts(reaped, AttemptOutcome.LOST))
        ).all()
    num_quarantined = sum(status is JobStatus.FAILED for status in rows)
    return Reaped(len(rows) - num_quarantined, num_quarantined)


def expire_overdue(database: Engine) -> int:
    """End the open jobs of batches whose deadline has passed; return how many."""
    overdue = select(BatchRow.id).where(
        BatchRow.status == BatchStatus.RUNNING, BatchRow.deadline_at < func.now()
    )
    expired = end_open_jobs(
        JobRow.batch_id.in_(overdue),
        status=JobStatus.EXPIRED,
        error_code="deadline_exceeded",
        error_message="the batch's deadline passed before this job was finished",
    )
    with database.begin() as connection:
        return connection.execute(expired).scalar_one()


def running_batches(database: Engine) -> list[UUID]:
    """Batches that are not finished: their stages are looked at again."""
    with database.connect() as connection:
        return list(connection.scalars(select(BatchRow.id).where(BatchRow.status == BatchStatus.RUNNING)))
