"""What repairs the crash between any two steps: leases that ran out, deadlines that passed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine, case, func, select, update

from db.endings import cancel_some, expire_some
from db.leases import ending_attempts
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
    """End open jobs of batches whose deadline has passed, some of each; return how many."""
    overdue = select(BatchRow.id).where(
        BatchRow.status == BatchStatus.RUNNING, BatchRow.deadline_at < func.now()
    )
    with database.connect() as connection:
        batch_ids = connection.scalars(overdue).all()
    return sum(expire_some(database, batch_id) for batch_id in batch_ids)


def finish_cancelling(database: Engine) -> int:
    """End open jobs of batches whose cancellation was interrupted, some of each; return how many."""
    interrupted = select(BatchRow.id).where(
        BatchRow.status == BatchStatus.CANCELLED, BatchRow.finished_at.is_(None)
    )
    with database.connect() as connection:
        batch_ids = connection.scalars(interrupted).all()
    return sum(cancel_some(database, batch_id) for batch_id in batch_ids)


def running_batches(database: Engine) -> list[UUID]:
    """Batches that are not finished: their stages are looked at again."""
    with database.connect() as connection:
        return list(connection.scalars(select(BatchRow.id).where(BatchRow.status == BatchStatus.RUNNING)))
