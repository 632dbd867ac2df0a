"""How far a long job is, while it runs: for people, never for decisions."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import Engine, select, update

from db.tables import JobRow, job_is
from jobs.job import JobStatus


def report_progress(database: Engine, job_id: UUID, attempt: int, progress: Mapping[str, object]) -> None:
    """Keep the latest word of a running attempt; one that was lost changes nothing."""
    with database.begin() as connection:
        connection.execute(
            update(JobRow)
            .where(JobRow.id == job_id, JobRow.attempt == attempt, job_is(JobStatus.RUNNING))
            .values(progress=dict(progress))
        )


def running_progress(database: Engine, batch_id: UUID) -> list[Mapping[str, object]]:
    """What the running jobs of a batch said last, in their order."""
    with database.connect() as connection:
        rows = connection.execute(
            select(JobRow.progress)
            .where(JobRow.batch_id == batch_id, job_is(JobStatus.RUNNING), JobRow.progress.is_not(None))
            .order_by(JobRow.position)
        )
        return [dict(progress) for (progress,) in rows if progress is not None]
