"""Reads the results of earlier batches: implements kinds.sentiment.history.History over Postgres."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import DateTime, func, select

from kinds.sentiment.history import History
from kinds.sentiment.store.document_history import DocumentHistory
from kinds.sentiment.store.series_history import SeriesHistory
from workers.ports import RunningJob, WorkerServices


class DatabaseHistory(DocumentHistory, SeriesHistory):
    """Implements kinds.sentiment.history.History. Each call uses its own connection."""

    def now(self) -> datetime:
        """Return the time of the database's clock."""
        with self._database.connect() as connection:
            return connection.execute(
                select(func.clock_timestamp(type_=DateTime(timezone=True)))
            ).scalar_one()


def open_history(services: WorkerServices) -> Callable[[RunningJob], History]:
    """Open the port as a `workers.ports.PortOpener`; all jobs share it."""
    history = DatabaseHistory(services.database)
    return lambda _: history
