"""Reads results of earlier runs from Postgres, as kinds.recommendation.history.RefreshHistory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import DateTime, Engine, func, select

from kinds.recommendation.history import RefreshHistory
from kinds.recommendation.tables import CopyRow
from workers.ports import RunningJob, WorkerServices


class DatabaseRefreshHistory:
    """Implements kinds.recommendation.history.RefreshHistory. Each call uses its own connection."""

    def __init__(self, database: Engine) -> None:
        self._database = database

    def now(self) -> datetime:
        """Return the time of the database's clock."""
        with self._database.connect() as connection:
            return connection.execute(
                select(func.clock_timestamp(type_=DateTime(timezone=True)))
            ).scalar_one()

    def known_copies(self, keys: Sequence[str]) -> frozenset[str]:
        """Return those of the keys whose text is written already."""
        statement = select(CopyRow.key).where(CopyRow.key == func.any(list(keys)))
        with self._database.connect() as connection:
            return frozenset(connection.scalars(statement))


def open_history(services: WorkerServices) -> Callable[[RunningJob], RefreshHistory]:
    """Open the port, which all jobs share; implements `workers.ports.PortOpener`."""
    history = DatabaseRefreshHistory(services.database)
    return lambda _: history
