"""What earlier batches have noted: the port that jobs ask, and the writer of their rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from workers.ports import PortOfJob, WorkerServices


class KnownTerms:
    """The terms in the kind's table; any thread may ask."""

    def __init__(self, database: Engine) -> None:
        self._database = database

    def number_of(self, term: str) -> int:
        """How often the term was noted so far; 0 if it is new."""
        from sqlalchemy import select

        from glossary.tables import TermRow

        with self._database.connect() as connection:
            return connection.scalar(select(TermRow.number).where(TermRow.term == term)) or 0


def open_known_terms(services: WorkerServices) -> PortOfJob:
    """One port for all jobs of a worker. Implements workers.ports.PortOpener."""
    known = KnownTerms(services.database)
    return lambda _: known


def write_terms(connection: Connection, records: Sequence[tuple[UUID, object]]) -> None:
    """Add what jobs have noted, in the transaction that makes them succeed.

    The terms come in order, so that two transactions that write the same ones do not deadlock. Implements
    db.records.RecordWriter.
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
