"""The history of monitors in Postgres: jobs read the results of earlier batches and add their own.

Transactions that write records of the same monitor wait for each other, so that there are no deadlocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    Connection,
    DateTime,
    func,
    select,
)

from kinds.sentiment.history import (
    AnalysedDocuments,
    Classifications,
    EntityHistory,
    History,
    RecordDigests,
)
from kinds.sentiment.store.documents import (
    DocumentHistory,
    write_classifications,
    write_documents,
    write_record_digests,
)
from kinds.sentiment.store.monitors import lock_records
from kinds.sentiment.store.series import SeriesHistory, write_histories
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
    """Open the port, which all jobs share. Implements workers.ports.PortOpener."""
    history = DatabaseHistory(services.database)
    return lambda _: history


def write_records(connection: Connection, records: Sequence[tuple[UUID, object]]) -> None:
    """Write the records of these jobs, each given with the id of its job.

    Implements db.outcomes.RecordWriter.
    """
    of_monitors = AnalysedDocuments | RecordDigests | EntityHistory
    monitors = {r.monitor_id for _, r in records if isinstance(r, of_monitors)}
    for monitor_id in sorted(monitors):
        lock_records(connection, monitor_id)
    write_classifications(connection, [r for _, r in records if isinstance(r, Classifications)])
    write_documents(connection, [(j, r) for j, r in records if isinstance(r, AnalysedDocuments)])
    for record_digests in (r for _, r in records if isinstance(r, RecordDigests)):
        write_record_digests(connection, record_digests)
    write_histories(connection, [(j, r) for j, r in records if isinstance(r, EntityHistory)])
