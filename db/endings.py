"""Ends the open jobs of a batch that was cancelled or is overdue, a limited number per transaction.

Ending a million jobs in one statement would exceed the statement timeout and hold locks for as long.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnElement, Engine, func, select, update

from db.leases import end_open_jobs
from db.tables import BatchRow, JobRow
from db.totals import add_final
from jobs.batch import BatchStatus
from jobs.job import JobStatus

END_LIMIT = 2_000
"""Maximum number of jobs that one transaction ends, so that it holds locks for about a tenth of a second."""


def cancel_some(database: Engine, batch_id: UUID) -> int:
    """Cancel some open jobs of a cancelled batch; return how many.

    With 0, none are left, and the batch is finished.
    """
    cancelled = (BatchRow.id == batch_id) & (BatchRow.status == BatchStatus.CANCELLED)
    with database.begin() as connection:
        number = end_open_jobs(
            connection,
            _jobs(batch_id, cancelled),
            status=JobStatus.CANCELLED,
            error_code=None,
            error_message=None,
            limit=END_LIMIT,
        )
        add_final(connection, {(batch_id, JobStatus.CANCELLED): number})
        if not number:
            connection.execute(
                update(BatchRow)
                .where(cancelled, BatchRow.finished_at.is_(None))
                .values(finished_at=func.clock_timestamp())
            )
    return number


def expire_some(database: Engine, batch_id: UUID) -> int:
    """Expire some open jobs of an overdue batch; return how many, which is 0 when none are left."""
    running = (BatchRow.id == batch_id) & (BatchRow.status == BatchStatus.RUNNING)
    with database.begin() as connection:
        number = end_open_jobs(
            connection,
            _jobs(batch_id, running),
            status=JobStatus.EXPIRED,
            error_code="deadline_exceeded",
            error_message="the batch's deadline passed before this job was finished",
            limit=END_LIMIT,
        )
        add_final(connection, {(batch_id, JobStatus.EXPIRED): number})
    return number


def _jobs(batch_id: UUID, still: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition for the batch's jobs, which none meets if the batch was reopened meanwhile."""
    return (JobRow.batch_id == batch_id) & select(BatchRow.id).where(still).correlate(None).exists()
