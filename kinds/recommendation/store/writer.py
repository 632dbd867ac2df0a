"""Writes the records that jobs make besides their artifacts, in the transaction that completes the jobs."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection

from kinds.recommendation.records import MadeRelease, WithdrawnItems, WrittenCopy
from kinds.recommendation.store.releases import withdraw_in, write_releases
from kinds.recommendation.store.texts import write_copies


def write_records(connection: Connection, records: Sequence[tuple[UUID, object]]) -> None:
    """Write the records of these jobs; each record comes with the id of its job.

    Texts are written in the order of their keys, then items and releases in that of their refreshes, so that
    transactions do not deadlock. Implements db.records.RecordWriter.
    """
    write_copies(connection, [(j, r) for j, r in records if isinstance(r, WrittenCopy)])
    withdrawn = [r for _, r in records if isinstance(r, WithdrawnItems)]
    for one in sorted(withdrawn, key=lambda one: one.refresh_id):
        withdraw_in(connection, one.refresh_id, one.reasons)
    write_releases(connection, [(j, r) for j, r in records if isinstance(r, MadeRelease)])
