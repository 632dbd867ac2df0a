"""Current and former workers, and the models that they loaded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import Engine, func, select, update
from sqlalchemy.dialects.postgresql import insert

from db.leases import amend_evidence
from db.tables import AttemptRow, BatchRow, JobRow, ModelRow, WorkerRow, job_is
from jobs.batch import BatchStatus
from jobs.job import JobStatus
from jobs.losses import Ending


def register(database: Engine, worker_id: str, *, profile: str, device: str, host: str, pid: int) -> None:
    """Record that a worker process has started and is not ready yet."""
    with database.begin() as connection:
        connection.execute(
            insert(WorkerRow).values(
                id=worker_id, profile=profile, device=device, host=host, pid=pid, max_jobs_in_flight=0
            )
        )


def mark_ready(database: Engine, worker_id: str, *, max_jobs_in_flight: int) -> None:
    """Record that the worker has loaded its models and is consuming messages."""
    with database.begin() as connection:
        connection.execute(
            update(WorkerRow)
            .where(WorkerRow.id == worker_id)
            .values(ready_at=func.clock_timestamp(), max_jobs_in_flight=max_jobs_in_flight)
        )


def mark_seen(database: Engine, worker_id: str) -> None:
    """Record a heartbeat of the worker."""
    _set(database, worker_id, "seen_at")


def mark_stopped(database: Engine, worker_id: str) -> None:
    """Record that the worker has finished draining: it has no more jobs."""
    _set(database, worker_id, "stopped_at")


def unfinished_pids(database: Engine, host: str) -> list[int]:
    """Return the process ids of the host's workers that neither drained nor are recorded as ended.

    Some of these processes may no longer exist.
    """
    with database.connect() as connection:
        return list(
            connection.scalars(
                select(WorkerRow.pid).where(
                    WorkerRow.host == host, WorkerRow.stopped_at.is_(None), WorkerRow.ended_at.is_(None)
                )
            )
        )


def mark_ended(database: Engine, worker_id: str, ending: Ending) -> int:
    """Record that the worker's process has ended; return how many jobs were lost with it.

    Its leases expire immediately, because nobody renews them. The ending is also added to the evidence of
    leases that expired before the end was known.
    """
    told = ending.model_dump(mode="json")
    with database.begin() as connection:
        connection.execute(
            update(WorkerRow)
            .where(WorkerRow.id == worker_id)
            .values(ended_at=func.clock_timestamp(), ending=told)
        )
        num_amended = amend_evidence(connection, AttemptRow.worker_id == worker_id, told)
        left = connection.execute(
            update(JobRow)
            .where(job_is(JobStatus.RUNNING), JobRow.worker_id == worker_id)
            .values(lease_expires_at=func.clock_timestamp())
        )
    return num_amended + left.rowcount


def _set(database: Engine, worker_id: str, column: str) -> None:
    with database.begin() as connection:
        connection.execute(
            update(WorkerRow)
            .where(WorkerRow.id == worker_id)
            .values({column: func.clock_timestamp(), "seen_at": func.clock_timestamp()})
        )


def record_model(database: Engine, manifest_sha256: str, name: str, manifest: Mapping[str, object]) -> None:
    """Store the manifest of a model that a worker has loaded."""
    with database.begin() as connection:
        connection.execute(
            insert(ModelRow)
            .values(manifest_sha256=manifest_sha256, name=name, manifest=dict(manifest))
            .on_conflict_do_nothing()
        )


def messages_wait(database: Engine, profile: str) -> bool:
    """Return whether jobs of the profile were sent and have not been claimed yet."""
    waiting = (
        select(JobRow.id)
        .join(BatchRow, BatchRow.id == JobRow.batch_id)
        .where(
            JobRow.status == JobStatus.QUEUED,
            JobRow.sent_at.is_not(None),
            BatchRow.profile == profile,
            BatchRow.status == BatchStatus.RUNNING,
        )
    )
    with database.connect() as connection:
        return bool(connection.scalar(select(waiting.exists())))


def num_ready_workers(database: Engine, host: str, *, max_silence_seconds: float) -> int:
    """Return how many workers of the host are ready, have not stopped and were seen recently."""
    with database.connect() as connection:
        found = connection.scalar(
            select(func.count())
            .select_from(WorkerRow)
            .where(
                WorkerRow.host == host,
                WorkerRow.ready_at.is_not(None),
                WorkerRow.stopped_at.is_(None),
                WorkerRow.seen_at > func.now() - timedelta(seconds=max_silence_seconds),
            )
        )
    return found or 0
