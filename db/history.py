"""What earlier batches left, read: implements jobs.history.History over Postgres."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import DateTime, func, select

from db.document_history import DocumentHistory
from db.series_history import SeriesHistory


class DatabaseHistory(DocumentHistory, SeriesHistory):
    """Implements jobs.history.History. Any thread may call it; each call uses a connection of its own."""

    def now(self) -> datetime:
        """The database's clock."""
        with self._database.connect() as connection:
            return connection.execute(
                select(func.clock_timestamp(type_=DateTime(timezone=True)))
            ).scalar_one()
