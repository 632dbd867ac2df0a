"""Terms that batches have recorded: the port through which jobs read them, and the writer of new ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from workers.ports import PortOfJob, WorkerServices


class KnownTerms:
    """Read access to the kind's table. Any thread may call it."""

    def __init__(self, database: Engine) -> None:
        self._database = database

    def number_of(self, term: str) -> int:
        """Return how often the term has been recorded so far; 0 if it is new."""
        from sqlalchemy import select

        from glossary.tables import TermRow

        with self._database.connect() as connection:
            return connection.scalar(select(TermRow.number).where(TermRow.term == term)) or 0


def open_known_terms(services: WorkerServices) -> PortOfJob:
    """Open one port for all jobs of a worker. Implements workers.ports.PortOpener."""
    known = KnownTerms(services.database)
    return lambda _: known


def write_terms(connection: Connection, records: Sequence[tuple[UUID, object]]) -> None:
    """Add the terms that jobs have recorded, in the transaction that completes the jobs.

    Terms are written in order, so that transactions that write the same ones do not deadlock. Implements
    db.outcomes.RecordWriter.
    """
    from sqlalchemy.dialects import postgresql

    from glossary.kind import TermRecord
    from glossary.tables import TermRow

    totals: Counter[str] = Counter()
    for _, record in records:
        if isinstance(record, TermRecord):
            totals[record.term] += record.number
    statement = postgresql.insert(TermRow)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["term"], set_={"number": TermRow.number + statement.excluded.number}
        ),
        [{"term": term, "number": number} for term, number in sorted(totals.items())],
    )
