"""Progress of long jobs while they run, for people and never for decisions."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import Engine, select, update

from db.tables import JobRow, job_is
from jobs.job import JobStatus


def report_progress(database: Engine, job_id: UUID, attempt: int, progress: Mapping[str, object]) -> None:
    """Store the latest progress of a running attempt; an attempt that was lost changes nothing."""
    with database.begin() as connection:
        connection.execute(
            update(JobRow)
            .where(JobRow.id == job_id, JobRow.attempt == attempt, job_is(JobStatus.RUNNING))
            .values(progress=dict(progress))
        )


def running_progress(database: Engine, batch_id: UUID) -> list[Mapping[str, object]]:
    """Return the latest progress of a batch's running jobs, in the order of the jobs."""
    with database.connect() as connection:
        rows = connection.execute(
            select(JobRow.progress)
            .where(JobRow.batch_id == batch_id, job_is(JobStatus.RUNNING), JobRow.progress.is_not(None))
            .order_by(JobRow.position)
        )
        return [dict(progress) for (progress,) in rows if progress is not None]
