"""What earlier batches left, read: implements kinds.sentiment.history.History over Postgres."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import DateTime, func, select

from kinds.sentiment.store.document_history import DocumentHistory
from kinds.sentiment.store.series_history import SeriesHistory


class DatabaseHistory(DocumentHistory, SeriesHistory):
    """Implements sentiment.history.History. Any thread may call it; each call uses its own connection."""

    def now(self) -> datetime:
        """The database's clock."""
        with self._database.connect() as connection:
            return connection.execute(
                select(func.clock_timestamp(type_=DateTime(timezone=True)))
            ).scalar_one()
