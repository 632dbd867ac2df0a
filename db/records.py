"""Rows of kinds' own tables. Each kind writes its own in the transaction in which its jobs succeed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from sqlalchemy import Connection

from jobs.errors import PermanentError
from jobs.registry import load_kind, load_target

RecordWriter = Callable[[Connection, Sequence[tuple[UUID, object]]], None]
"""Writes the records of one kind's jobs, each with the id of its job.

Many transactions do so at the same time, so a writer must always lock its rows in the same order.
"""


class RecordsWithoutWriterError(PermanentError):
    """A job produced records, but its kind does not name a writer for them."""

    code = "records_without_writer"


def writer_of(kind_name: str) -> RecordWriter:
    """Return the writer of this kind's records. Raises RecordsWithoutWriterError."""
    tables = load_kind(kind_name).tables
    if tables is None or tables.writer is None:
        raise RecordsWithoutWriterError(
            f"a job of the kind {kind_name!r} left records, and the kind has no writer for them: name one in "
            "its `tables`"
        )
    writer: RecordWriter = load_target(tables.writer)
    return writer


def write_records(connection: Connection, records: Iterable[tuple[str, UUID, object]]) -> None:
    """Write records, each given with the kind and the id of its job.

    Kinds are written in the order of their names, so that no two transactions deadlock.
    """
    by_kind: defaultdict[str, list[tuple[UUID, object]]] = defaultdict(list)
    for kind_name, job_id, record in records:
        by_kind[kind_name].append((job_id, record))
    for kind_name in sorted(by_kind):
        writer_of(kind_name)(connection, by_kind[kind_name])
