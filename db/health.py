"""Checks in Postgres whether a container's own process is alive; for health checks."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Engine, func, select

from db.tables import WorkerRow


def num_ready_workers(database: Engine, host: str, *, max_silence_seconds: float) -> int:
    """Return how many worker processes of the host are ready, not stopped, and were seen recently."""
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
