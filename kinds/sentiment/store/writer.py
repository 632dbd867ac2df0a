"""Writes the records that jobs produce besides artifacts, in the transaction in which the jobs succeed.

Transactions that write records of the same monitor wait for each other, so that none deadlock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Connection,
    delete,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql

from db.bulk import fields_of, insert_rows, upsert_rows, values_table
from db.tables import BatchRow, JobRow
from kinds.sentiment.records import (
    AnalysedDocuments,
    Classifications,
    DocumentFacts,
    EntityHistory,
    ReadAgain,
)
from kinds.sentiment.store.monitors import lock_records
from kinds.sentiment.store.series_records import write_histories
from kinds.sentiment.tables import (
    ClassificationRow,
    DocumentRow,
    MentionRow,
    UnsettledRow,
)


def write_records(connection: Connection, records: Sequence[tuple[UUID, object]]) -> None:
    """Write the records of these jobs; each comes with the id of its job.

    Implements db.outcomes.RecordWriter.
    """
    of_monitors = AnalysedDocuments | ReadAgain | EntityHistory
    monitors = {r.monitor_id for _, r in records if isinstance(r, of_monitors)}
    for monitor_id in sorted(monitors):
        lock_records(connection, monitor_id)
    _write_classifications(connection, [r for _, r in records if isinstance(r, Classifications)])
    _write_documents(connection, [(j, r) for j, r in records if isinstance(r, AnalysedDocuments)])
    for read_again in (r for _, r in records if isinstance(r, ReadAgain)):
        _write_read_again(connection, read_again)
    write_histories(connection, [(j, r) for j, r in records if isinstance(r, EntityHistory)])


@dataclass(frozen=True, slots=True)
class _Version:
    """A document as analysed by one job."""

    submitted_at: datetime
    job_id: UUID
    block: AnalysedDocuments
    document: DocumentFacts

    @property
    def order(self) -> tuple[datetime, datetime, str]:
        """Sort key: a later batch corrects an earlier one, then a later time counts, then a fixed order."""
        return self.submitted_at, self.document.published_at, self.document.sha256


def _write_documents(connection: Connection, blocks: Sequence[tuple[UUID, AnalysedDocuments]]) -> None:
    submitted = _submitted_at(connection, {job_id for job_id, _ in blocks})
    for monitor_id in sorted({block.monitor_id for _, block in blocks}):
        versions: dict[str, _Version] = {}
        for job_id, block in blocks:
            for document in block.documents if block.monitor_id == monitor_id else ():
                version = _Version(submitted[job_id], job_id, block, document)
                other = versions.get(document.id)
                if other is None or version.order > other.order:
                    versions[document.id] = version
        if versions:
            _write_versions(connection, monitor_id, versions)


def _write_read_again(connection: Connection, read: ReadAgain) -> None:
    """Assign these records to the documents, unless they were corrected in the meantime."""
    ids, digests, records = zip(*read.records, strict=True)
    given = values_table(
        "given",
        id=(ids, DocumentRow.id),
        sha256=(digests, DocumentRow.sha256),
        record=(records, DocumentRow.record),
    )
    connection.execute(
        update(DocumentRow)
        .where(
            DocumentRow.monitor_id == read.monitor_id,
            DocumentRow.id == given.c.id,
            DocumentRow.sha256 == given.c.sha256,
        )
        .values(record=given.c.record)
    )


def _submitted_at(connection: Connection, job_ids: Collection[UUID]) -> dict[UUID, datetime]:
    if not job_ids:
        return {}
    rows = connection.execute(
        select(JobRow.id, BatchRow.created_at)
        .join(BatchRow, BatchRow.id == JobRow.batch_id)
        .where(JobRow.id == func.any(list(job_ids)))
    )
    return {row.id: row.created_at for row in rows}


def _write_versions(connection: Connection, monitor_id: UUID, versions: Mapping[str, _Version]) -> None:
    rows = [
        {
            "monitor_id": monitor_id,
            "job_id": version.job_id,
            "submitted_at": version.submitted_at,
            "analysis": version.block.analysis,
            **fields_of(version.document),
            "flags": list(version.document.flags),
        }
        for _, version in sorted(versions.items())
    ]
    ordered = (DocumentRow.submitted_at, DocumentRow.published_at, DocumentRow.sha256)
    upsert_rows(
        connection,
        DocumentRow,
        rows,
        keys=("monitor_id", "id"),
        where=lambda new: tuple_(*ordered) <= tuple_(new.submitted_at, new.published_at, new.sha256),
    )
    standing = set(
        connection.scalars(
            select(DocumentRow.id).where(
                DocumentRow.monitor_id == monitor_id,
                DocumentRow.id == func.any(list(versions)),
                DocumentRow.job_id == func.any(list({version.job_id for version in versions.values()})),
            )
        )
    )
    gone = connection.execute(
        delete(MentionRow)
        .where(MentionRow.monitor_id == monitor_id, MentionRow.document_id == func.any(list(standing)))
        .returning(MentionRow.entity_id, MentionRow.published_at)
    ).all()
    mentions = {
        (mention.entity_id, mention.document_id): {"monitor_id": monitor_id, **fields_of(mention)}
        for version in {id(v.block): v for v in versions.values()}.values()
        for mention in version.block.mentions
        if mention.document_id in standing and versions[mention.document_id].block is version.block
    }
    if mentions:
        insert_rows(connection, MentionRow, [mentions[key] for key in sorted(mentions)])
    come = [(row["entity_id"], row["published_at"]) for row in mentions.values()]
    _unsettle(connection, monitor_id, [*((row.entity_id, row.published_at) for row in gone), *come])


def _unsettle(connection: Connection, monitor_id: UUID, changes: Iterable[tuple[Any, Any]]) -> None:
    """Record from when on the series of the entities are out of date."""
    since: dict[str, datetime] = {}
    for entity_id, instant in changes:
        since[entity_id] = min(instant, since.get(entity_id, instant))
    if not since:
        return
    statement = postgresql.insert(UnsettledRow)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["monitor_id", "entity_id"],
            set_={
                "since": func.least(UnsettledRow.since, statement.excluded.since),
                "number": statement.excluded.number,
            },
        ),
        [
            {"monitor_id": monitor_id, "entity_id": entity_id, "since": instant}
            for entity_id, instant in sorted(since.items())
        ],
    )


def _write_classifications(connection: Connection, some: Sequence[Classifications]) -> None:
    rows = {
        (one.model_sha256, digest): {
            "model_sha256": one.model_sha256,
            "digest": digest,
            "negative": negative,
            "neutral": neutral,
            "positive": positive,
        }
        for one in some
        for digest, negative, neutral, positive in one.probabilities
    }
    if rows:
        insert_rows(connection, ClassificationRow, [rows[key] for key in sorted(rows)], unless_known=True)
