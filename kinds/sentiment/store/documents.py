"""Stores and reads documents, their mentions, and the answers of classifiers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Connection,
    Engine,
    LargeBinary,
    delete,
    func,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql

from db.bulk import fields_of, insert_rows, upsert_rows, values_table
from db.tables import BatchRow, JobRow
from jobs.documents.document import RECORD_BYTES
from jobs.documents.identity import SHARED_PREFIX_CHARACTERS, shared_prefix
from kinds.sentiment.history import (
    AnalysedDocuments,
    Classifications,
    DocumentFacts,
    DocumentVersion,
    KnownDocument,
    RecordDigests,
)
from kinds.sentiment.series.mention import CountedDocument, Mention, Novelty
from kinds.sentiment.tables import (
    ClassificationRow,
    DocumentRow,
    MentionRow,
    PendingChangeRow,
)

PAGE_ROWS = 1_000
"""Number of rows read in one statement; no transaction stays open while a page of rows is written."""

_MENTION_FIELDS = tuple(Mention.__dataclass_fields__)

_MENTION = [getattr(MentionRow, name) for name in _MENTION_FIELDS]


@dataclass(frozen=True, slots=True, kw_only=True)
class MentionRecord:
    """A mention with its position in its chain; see kinds.sentiment.series.mention."""

    entity_id: str
    document_id: str
    published_at: datetime
    relevance: int
    topic: str | None
    p_negative: float
    p_neutral: float
    p_positive: float
    sentence: str
    title: str
    source: str
    novelty: int | None
    first_id: str | None


_RECORD_COLUMNS = [getattr(MentionRow, name) for name in MentionRecord.__dataclass_fields__]


class DocumentHistory:
    """The part of kinds.sentiment.history.History that covers documents, mentions and classifications."""

    def __init__(self, database: Engine) -> None:
        self._database = database

    def versions(self, monitor_id: UUID, ids: Sequence[str], *, analysis: str) -> dict[str, DocumentVersion]:
        """Return, by id, the versions of these documents that were stored with this `analysis`."""
        columns = (DocumentRow.id, DocumentRow.sha256, DocumentRow.published_at, DocumentRow.record)
        statement = select(*columns).where(
            DocumentRow.monitor_id == monitor_id,
            DocumentRow.id == func.any(list(ids)),
            DocumentRow.analysis == analysis,
        )
        with self._database.connect() as connection:
            return {row[0]: DocumentVersion(*row[1:]) for row in connection.execute(statement)}

    def known_records(self, monitor_id: UUID, records: Sequence[bytes], *, analysis: str) -> frozenset[bytes]:
        """Return the digests of those records whose documents were stored with this `analysis`."""
        # The digests are sent and returned as one string of bytes, because transferring thousands of single
        # values takes longer than looking them up.
        joined = literal(b"".join(records), LargeBinary)
        number = func.generate_series(0, len(records) - 1).column_valued("number")
        digest = select(func.substring(joined, number * RECORD_BYTES + 1, RECORD_BYTES)).scalar_subquery()
        statement = select(func.string_agg(DocumentRow.record, literal(b"", LargeBinary))).where(
            DocumentRow.monitor_id == monitor_id,
            DocumentRow.record == func.any(func.array(digest)),
            DocumentRow.analysis == analysis,
        )
        with self._database.connect() as connection:
            known = bytes(connection.scalar(statement) or b"")
        return frozenset(known[at : at + RECORD_BYTES] for at in range(0, len(known), RECORD_BYTES))

    def documents(self, monitor_id: UUID, ids: Sequence[str]) -> dict[str, KnownDocument]:
        """Return those of the documents that are stored, by id."""
        entities = (
            select(func.array_agg(MentionRow.entity_id))
            .where(MentionRow.monitor_id == monitor_id, MentionRow.document_id == DocumentRow.id)
            .scalar_subquery()
        )
        statement = select(DocumentRow.id, DocumentRow.sha256, DocumentRow.published_at, entities).where(
            DocumentRow.monitor_id == monitor_id, DocumentRow.id == func.any(list(ids))
        )
        with self._database.connect() as connection:
            return {
                id_: KnownDocument(
                    sha256=sha256,
                    published_at=published_at,
                    entity_ids=tuple(sorted(entity_ids or ())),
                )
                for id_, sha256, published_at, entity_ids in connection.execute(statement)
            }

    def shared_ids(self, monitor_id: UUID, ids: Sequence[str]) -> frozenset[str]:
        """Return those ids that several documents share; each document is stored under a derived id."""
        by_prefix = {shared_prefix(id_): id_ for id_ in ids}
        prefix = func.left(DocumentRow.id, SHARED_PREFIX_CHARACTERS)
        statement = (
            select(prefix).where(DocumentRow.monitor_id == monitor_id, prefix.in_(list(by_prefix))).distinct()
        )
        with self._database.connect() as connection:
            return frozenset(by_prefix[value] for value in connection.scalars(statement))

    def mentions(
        self, monitor_id: UUID, since: Mapping[str, datetime], *, until: datetime
    ) -> dict[str, list[Mention]]:
        """Return each entity's mentions from `since[entity_id]` up to, but not including, `until`.

        They are ordered by (published_at, document_id).
        """
        table = values_table(
            "input",
            entity_id=(list(since), MentionRow.entity_id),
            since=(list(since.values()), MentionRow.published_at),
        )
        statement = (
            select(*_MENTION)
            .join(table, MentionRow.entity_id == table.c.entity_id)
            .where(
                MentionRow.monitor_id == monitor_id,
                MentionRow.published_at >= table.c.since,
                MentionRow.published_at < until,
            )
            .order_by(MentionRow.published_at, MentionRow.document_id)
        )
        by_entity: defaultdict[str, list[Mention]] = defaultdict(list)
        with self._database.connect() as connection:
            for row in connection.execute(statement).all():
                mention = Mention(**dict(zip(_MENTION_FIELDS, row, strict=True)))
                by_entity[mention.entity_id].append(mention)
        return dict(by_entity)

    def novelties(
        self, monitor_id: UUID, entity_id: str, *, since: datetime, until: datetime
    ) -> dict[str, Novelty]:
        """Return, by document, the novelty of an entity's mentions from `since` up to, but not including,
        `until`.

        Mentions whose novelty has not been computed yet are left out.
        """
        statement = select(MentionRow.document_id, MentionRow.novelty, MentionRow.first_id).where(
            MentionRow.monitor_id == monitor_id,
            MentionRow.entity_id == entity_id,
            MentionRow.published_at >= since,
            MentionRow.published_at < until,
        )
        with self._database.connect() as connection:
            return {
                id_: Novelty(document_id=id_, entity_id=entity_id, number=number, first_id=first_id)
                for id_, number, first_id in connection.execute(statement)
                if number is not None and first_id is not None
            }

    def counted(
        self,
        monitor_id: UUID,
        entity_id: str,
        *,
        since: datetime,
        until: datetime,
        min_relevance: int,
    ) -> list[CountedDocument]:
        """Return the documents that count for an entity and were published from `since` up to, but not
        including, `until`, with their digests.

        Everything is read in one statement.
        """
        columns = (
            MentionRow.document_id,
            DocumentRow.sha256,
            MentionRow.published_at,
            MentionRow.relevance,
            MentionRow.p_negative,
            MentionRow.p_neutral,
            MentionRow.p_positive,
            MentionRow.novelty,
            MentionRow.first_id,
        )
        statement = (
            select(*columns)
            .join(
                DocumentRow,
                (DocumentRow.monitor_id == MentionRow.monitor_id)
                & (DocumentRow.id == MentionRow.document_id),
            )
            .where(
                MentionRow.monitor_id == monitor_id,
                MentionRow.entity_id == entity_id,
                MentionRow.published_at >= since,
                MentionRow.published_at < until,
                MentionRow.relevance >= min_relevance,
                MentionRow.novelty.is_not(None),
            )
        )
        with self._database.connect() as connection:
            return [CountedDocument(**row) for row in connection.execute(statement).mappings()]

    def first_published_at(self, monitor_id: UUID, entity_ids: Sequence[str]) -> dict[str, datetime]:
        """Return when each entity's first mention was published; entities without mentions are left out."""
        table = values_table("input", entity_id=(entity_ids, MentionRow.entity_id))
        # Reads only the first entry of the index, because the minimum of a group would read all entries.
        first = (
            select(MentionRow.published_at)
            .where(MentionRow.monitor_id == monitor_id, MentionRow.entity_id == table.c.entity_id)
            .order_by(MentionRow.published_at)
            .limit(1)
            .scalar_subquery()
            .correlate(table)
        )
        with self._database.connect() as connection:
            rows = connection.execute(select(table.c.entity_id, first))
            return {entity_id: first_at for entity_id, first_at in rows if first_at is not None}

    def mentioned(self, monitor_id: UUID) -> list[str]:
        """Return the entities that have mentions."""
        statement = select(MentionRow.entity_id).where(MentionRow.monitor_id == monitor_id).distinct()
        with self._database.connect() as connection:
            return sorted(connection.scalars(statement))

    def last_published_at(self, monitor_id: UUID) -> datetime | None:
        """Return when the monitor's newest document was published; None without documents."""
        statement = select(func.max(DocumentRow.published_at)).where(DocumentRow.monitor_id == monitor_id)
        with self._database.connect() as connection:
            return connection.scalar(statement)

    def classifications(
        self, model_sha256: str, digests: Sequence[bytes]
    ) -> dict[bytes, tuple[float, float, float]]:
        """Return this model's stored probabilities (negative, neutral, positive) for inputs, by digest."""
        statement = select(
            ClassificationRow.digest,
            ClassificationRow.negative,
            ClassificationRow.neutral,
            ClassificationRow.positive,
        ).where(
            ClassificationRow.model_sha256 == model_sha256,
            ClassificationRow.digest == func.any(list(digests)),
        )
        with self._database.connect() as connection:
            return {digest: (neg, neu, pos) for digest, neg, neu, pos in connection.execute(statement)}


def stream_mentions(
    database: Engine, monitor_id: UUID, entity_id: str, *, since: datetime
) -> Iterator[MentionRecord]:
    """Yield the entity's mentions in order of time, read in pages."""
    place = tuple_(MentionRow.published_at, MentionRow.document_id)
    statement = (
        select(*_RECORD_COLUMNS)
        .where(
            MentionRow.monitor_id == monitor_id,
            MentionRow.entity_id == entity_id,
            MentionRow.published_at >= since,
        )
        .order_by(MentionRow.published_at, MentionRow.document_id)
        .limit(PAGE_ROWS)
    )
    last: tuple[datetime, str] | None = None
    while True:
        with database.connect() as connection:
            page = statement if last is None else statement.where(place > last)
            rows = [MentionRecord(**row) for row in connection.execute(page).mappings()]
        yield from rows
        if len(rows) < PAGE_ROWS:
            return
        last = (rows[-1].published_at, rows[-1].document_id)


def find_mentions(
    database: Engine, monitor_id: UUID, keys: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], MentionRecord]:
    """Return the mentions with these keys (entity id, document id); unknown keys are left out."""
    if not keys:
        return {}
    statement = select(*_RECORD_COLUMNS).where(
        MentionRow.monitor_id == monitor_id, tuple_(MentionRow.entity_id, MentionRow.document_id).in_(keys)
    )
    with database.connect() as connection:
        records = [MentionRecord(**row) for row in connection.execute(statement).mappings()]
    return {(record.entity_id, record.document_id): record for record in records}


@dataclass(frozen=True, slots=True)
class _Version:
    """A document as analysed by one job."""

    submitted_at: datetime
    job_id: UUID
    block: AnalysedDocuments
    document: DocumentFacts

    @property
    def order(self) -> tuple[datetime, datetime, str]:
        """Sort key: the later batch wins, then the later publication, then the larger digest."""
        return self.submitted_at, self.document.published_at, self.document.sha256


def write_documents(connection: Connection, blocks: Sequence[tuple[UUID, AnalysedDocuments]]) -> None:
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


def write_record_digests(connection: Connection, read: RecordDigests) -> None:
    """Store the digest of each document's latest record, except for documents that were corrected in the
    meantime."""
    ids, digests, records = zip(*read.records, strict=True)
    table = values_table(
        "input",
        id=(ids, DocumentRow.id),
        sha256=(digests, DocumentRow.sha256),
        record=(records, DocumentRow.record),
    )
    connection.execute(
        update(DocumentRow)
        .where(
            DocumentRow.monitor_id == read.monitor_id,
            DocumentRow.id == table.c.id,
            DocumentRow.sha256 == table.c.sha256,
        )
        .values(record=table.c.record)
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
    current_ids = set(
        connection.scalars(
            select(DocumentRow.id).where(
                DocumentRow.monitor_id == monitor_id,
                DocumentRow.id == func.any(list(versions)),
                DocumentRow.job_id == func.any(list({version.job_id for version in versions.values()})),
            )
        )
    )
    _replace_mentions(connection, monitor_id, {id_: versions[id_] for id_ in current_ids})


def _replace_mentions(connection: Connection, monitor_id: UUID, versions: Mapping[str, _Version]) -> None:
    """Replace the mentions of these documents with those of `versions`, which are the current versions."""
    removed = connection.execute(
        delete(MentionRow)
        .where(MentionRow.monitor_id == monitor_id, MentionRow.document_id == func.any(list(versions)))
        .returning(MentionRow.entity_id, MentionRow.published_at)
    ).all()
    mentions = {
        (mention.entity_id, mention.document_id): {"monitor_id": monitor_id, **fields_of(mention)}
        for block in {id(version.block): version.block for version in versions.values()}.values()
        for mention in block.mentions
        if mention.document_id in versions and versions[mention.document_id].block is block
    }
    if mentions:
        insert_rows(connection, MentionRow, [mentions[key] for key in sorted(mentions)])
    added = [(row["entity_id"], row["published_at"]) for row in mentions.values()]
    _record_changes(connection, monitor_id, [*((row.entity_id, row.published_at) for row in removed), *added])


def _record_changes(connection: Connection, monitor_id: UUID, changes: Iterable[tuple[Any, Any]]) -> None:
    """Record, for each entity, the instant from which its series is out of date."""
    since: dict[str, datetime] = {}
    for entity_id, instant in changes:
        since[entity_id] = min(instant, since.get(entity_id, instant))
    if not since:
        return
    statement = postgresql.insert(PendingChangeRow)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["monitor_id", "entity_id"],
            set_={
                "since": func.least(PendingChangeRow.since, statement.excluded.since),
                "number": statement.excluded.number,
            },
        ),
        [
            {"monitor_id": monitor_id, "entity_id": entity_id, "since": instant}
            for entity_id, instant in sorted(since.items())
        ],
    )


def write_classifications(connection: Connection, batches: Sequence[Classifications]) -> None:
    rows = {
        (batch.model_sha256, digest): {
            "model_sha256": batch.model_sha256,
            "digest": digest,
            "negative": negative,
            "neutral": neutral,
            "positive": positive,
        }
        for batch in batches
        for digest, negative, neutral, positive in batch.probabilities
    }
    if rows:
        insert_rows(connection, ClassificationRow, [rows[key] for key in sorted(rows)], unless_known=True)
