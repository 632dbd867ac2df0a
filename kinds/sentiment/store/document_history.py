"""Reads documents, mentions and classifications of earlier batches from Postgres."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Engine, LargeBinary, func, literal, select

from db.bulk import values_table
from jobs.documents.document import RECORD_BYTES
from jobs.documents.identity import SHARED_PREFIX_CHARACTERS, shared_prefix
from kinds.sentiment.history import KnownDocument, Standing
from kinds.sentiment.series.mention import CountedDocument, Mention, Novelty
from kinds.sentiment.tables import ClassificationRow, DocumentRow, MentionRow

_MENTION_FIELDS = tuple(Mention.__dataclass_fields__)
_MENTION = [getattr(MentionRow, name) for name in _MENTION_FIELDS]


class DocumentHistory:
    """The part of kinds.sentiment.history.History that covers documents, mentions and classifications."""

    def __init__(self, database: Engine) -> None:
        self._database = database

    def standing(self, monitor_id: UUID, ids: Sequence[str], *, analysis: str) -> dict[str, Standing]:
        """Return those of these documents that were analysed in this way, by id."""
        columns = (DocumentRow.id, DocumentRow.sha256, DocumentRow.published_at, DocumentRow.record)
        statement = select(*columns).where(
            DocumentRow.monitor_id == monitor_id,
            DocumentRow.id == func.any(list(ids)),
            DocumentRow.analysis == analysis,
        )
        with self._database.connect() as connection:
            return {row[0]: Standing(*row[1:]) for row in connection.execute(statement)}

    def known_records(self, monitor_id: UUID, records: Sequence[bytes], *, analysis: str) -> frozenset[bytes]:
        """Return those of these digests whose record gave a stored document that was analysed in this way."""
        # Sent and returned as a single string of bytes: thousands of values each way cost more than finding
        # them.
        given = literal(b"".join(records), LargeBinary)
        number = func.generate_series(0, len(records) - 1).column_valued("number")
        one = select(func.substring(given, number * RECORD_BYTES + 1, RECORD_BYTES)).scalar_subquery()
        statement = select(func.string_agg(DocumentRow.record, literal(b"", LargeBinary))).where(
            DocumentRow.monitor_id == monitor_id,
            DocumentRow.record == func.any(func.array(one)),
            DocumentRow.analysis == analysis,
        )
        with self._database.connect() as connection:
            found = bytes(connection.scalar(statement) or b"")
        return frozenset(found[at : at + RECORD_BYTES] for at in range(0, len(found), RECORD_BYTES))

    def documents(self, monitor_id: UUID, ids: Sequence[str]) -> dict[str, KnownDocument]:
        """Return those of these documents that are stored, by id."""
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
        """Return those of these ids that several documents share, each stored under an id derived from it."""
        by_prefix = {shared_prefix(id_): id_ for id_ in ids}
        prefix = func.left(DocumentRow.id, SHARED_PREFIX_CHARACTERS)
        statement = (
            select(prefix).where(DocumentRow.monitor_id == monitor_id, prefix.in_(list(by_prefix))).distinct()
        )
        with self._database.connect() as connection:
            return frozenset(by_prefix[found] for found in connection.scalars(statement))

    def mentions(
        self, monitor_id: UUID, since: Mapping[str, datetime], *, until: datetime
    ) -> dict[str, list[Mention]]:
        """Return each entity's mentions since its instant, ordered by (published_at, document_id)."""
        given = values_table(
            "given",
            entity_id=(list(since), MentionRow.entity_id),
            since=(list(since.values()), MentionRow.published_at),
        )
        statement = (
            select(*_MENTION)
            .join(given, MentionRow.entity_id == given.c.entity_id)
            .where(
                MentionRow.monitor_id == monitor_id,
                MentionRow.published_at >= given.c.since,
                MentionRow.published_at < until,
            )
            .order_by(MentionRow.published_at, MentionRow.document_id)
        )
        found: defaultdict[str, list[Mention]] = defaultdict(list)
        with self._database.connect() as connection:
            for row in connection.execute(statement).all():
                mention = Mention(**dict(zip(_MENTION_FIELDS, row, strict=True)))
                found[mention.entity_id].append(mention)
        return dict(found)

    def novelties(
        self, monitor_id: UUID, entity_id: str, *, since: datetime, until: datetime
    ) -> dict[str, Novelty]:
        """Return the novelty of each of an entity's mentions, by document."""
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
        """Return what an entity's windows of this time count, with the digests of the documents.

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
        """Return when each entity's first mention was published."""
        given = values_table("given", entity_id=(entity_ids, MentionRow.entity_id))
        # Reads the first entry of the index, since the minimum of a group reads all of them.
        first = (
            select(MentionRow.published_at)
            .where(MentionRow.monitor_id == monitor_id, MentionRow.entity_id == given.c.entity_id)
            .order_by(MentionRow.published_at)
            .limit(1)
            .scalar_subquery()
            .correlate(given)
        )
        with self._database.connect() as connection:
            rows = connection.execute(select(given.c.entity_id, first))
            return {entity_id: first_at for entity_id, first_at in rows if first_at is not None}

    def mentioned(self, monitor_id: UUID) -> list[str]:
        """Return the entities that have mentions."""
        statement = select(MentionRow.entity_id).where(MentionRow.monitor_id == monitor_id).distinct()
        with self._database.connect() as connection:
            return sorted(connection.scalars(statement))

    def last_published_at(self, monitor_id: UUID) -> datetime | None:
        """Return when the newest of all documents of the monitor was published."""
        statement = select(func.max(DocumentRow.published_at)).where(DocumentRow.monitor_id == monitor_id)
        with self._database.connect() as connection:
            return connection.scalar(statement)

    def classifications(
        self, model_sha256: str, digests: Sequence[bytes]
    ) -> dict[bytes, tuple[float, float, float]]:
        """Return the probabilities that this model has given to inputs with these digests."""
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
