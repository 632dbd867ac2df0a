"""What earlier batches left, read: implements jobs.history.History over Postgres."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, Engine, LargeBinary, TableValuedAlias, func, literal, select

from db.bulk import values_table
from db.monitoring_tables import (
    AlertRow,
    ClassificationRow,
    DocumentRow,
    EntityWindowRow,
    MentionRow,
    UnsettledRow,
)
from db.refresh_tables import CopyRow
from db.source_reports import read_until
from jobs.documents.document import RECORD_BYTES
from jobs.history import KnownDocument, Standing, Unsettled
from jobs.monitor import AlertStatus
from jobs.series.mention import Mention, Novelty
from jobs.series.window import Alert, EntityWindow, WindowSize, WindowSums

_MENTION_FIELDS = tuple(Mention.__dataclass_fields__)
_MENTION = [getattr(MentionRow, name) for name in _MENTION_FIELDS]
_SUM_FIELDS = tuple(WindowSums.__dataclass_fields__)
_SUMS = [getattr(EntityWindowRow, name) for name in _SUM_FIELDS]
_WINDOW = [
    func.coalesce(column, 0).label(name) if column.nullable and name in _SUM_FIELDS else column
    for name in EntityWindow.__dataclass_fields__
    for column in (getattr(EntityWindowRow, name),)
]
"""The sums of a window from before they were kept are shown nowhere."""
_ALERT = [getattr(AlertRow, name) for name in Alert.__dataclass_fields__]


class DatabaseHistory:
    """Implements jobs.history.History. Any thread may call it; each call uses a connection of its own."""

    def __init__(self, database: Engine) -> None:
        self._database = database

    def now(self) -> datetime:
        """The database's clock."""
        with self._database.connect() as connection:
            return connection.execute(
                select(func.clock_timestamp(type_=DateTime(timezone=True)))
            ).scalar_one()

    def standing(self, monitor_id: UUID, ids: Sequence[str], *, analysis: str) -> dict[str, Standing]:
        """Those of these documents that were analysed in this way, by id."""
        columns = (DocumentRow.id, DocumentRow.sha256, DocumentRow.published_at, DocumentRow.record)
        statement = select(*columns).where(
            DocumentRow.monitor_id == monitor_id,
            DocumentRow.id == func.any(list(ids)),
            DocumentRow.analysis == analysis,
        )
        with self._database.connect() as connection:
            return {row[0]: Standing(*row[1:]) for row in connection.execute(statement)}

    def known_records(self, monitor_id: UUID, records: Sequence[bytes], *, analysis: str) -> frozenset[bytes]:
        """Those of these digests of records whose document stands, and was analysed in this way."""
        # As one text of bytes there and back: thousands of values each way cost more than finding them.
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
        """Those that are known, by id."""
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

    def mentions(
        self, monitor_id: UUID, since: Mapping[str, datetime], *, until: datetime
    ) -> dict[str, list[Mention]]:
        """By entity, from the instant given for it on, ordered by (published_at, document_id)."""
        given = _given(since)
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
        """Of an entity's mentions, by document."""
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

    def windows(
        self,
        monitor_id: UUID,
        entity_ids: Sequence[str],
        size: WindowSize,
        *,
        since: datetime,
        until: datetime,
    ) -> dict[str, list[EntityWindow]]:
        """By entity, each ordered by starts_at."""
        statement = (
            select(*_WINDOW)
            .where(
                EntityWindowRow.monitor_id == monitor_id,
                EntityWindowRow.entity_id.in_(entity_ids),
                EntityWindowRow.size == size,
                EntityWindowRow.starts_at >= since,
                EntityWindowRow.starts_at < until,
            )
            .order_by(EntityWindowRow.starts_at)
        )
        found: defaultdict[str, list[EntityWindow]] = defaultdict(list)
        with self._database.connect() as connection:
            for row in connection.execute(statement):
                window = EntityWindow(**row._mapping)
                found[window.entity_id].append(window)
        return dict(found)

    def window_sums(
        self,
        monitor_id: UUID,
        since: Mapping[str, datetime],
        sizes: Sequence[WindowSize],
        *,
        until: datetime,
    ) -> dict[str, dict[WindowSize, list[WindowSums]]]:
        """What the windows of each entity hold, from the instant given for it on."""
        given = _given(since)
        statement = (
            select(EntityWindowRow.entity_id, EntityWindowRow.size, *_SUMS)
            .join(given, EntityWindowRow.entity_id == given.c.entity_id)
            .where(
                EntityWindowRow.monitor_id == monitor_id,
                EntityWindowRow.size.in_(sizes),
                EntityWindowRow.starts_at >= given.c.since,
                EntityWindowRow.starts_at < until,
            )
        )
        found: dict[str, dict[WindowSize, list[WindowSums]]] = {id_: {} for id_ in since}
        with self._database.connect() as connection:
            for entity_id, size, *sums in connection.execute(statement).all():
                kept = WindowSums(**dict(zip(_SUM_FIELDS, sums, strict=True)))
                found[entity_id].setdefault(size, []).append(kept)
        return found

    def alerts(
        self, monitor_id: UUID, entity_ids: Sequence[str], *, since: datetime, until: datetime
    ) -> dict[str, list[Alert]]:
        """By entity, ordered by starts_at; withdrawn ones are left out."""
        statement = (
            select(*_ALERT)
            .where(
                AlertRow.monitor_id == monitor_id,
                AlertRow.entity_id.in_(entity_ids),
                AlertRow.starts_at >= since,
                AlertRow.starts_at < until,
                AlertRow.status != AlertStatus.WITHDRAWN,
            )
            .order_by(AlertRow.starts_at, AlertRow.rule)
        )
        found: defaultdict[str, list[Alert]] = defaultdict(list)
        with self._database.connect() as connection:
            for row in connection.execute(statement):
                fields = {**row._mapping, "document_ids": tuple(row.document_ids)}
                alert = Alert(**fields)
                found[alert.entity_id].append(alert)
        return dict(found)

    def first_published_at(self, monitor_id: UUID, entity_ids: Sequence[str]) -> dict[str, datetime]:
        """When each entity's first mention was published."""
        given = values_table("given", entity_id=(entity_ids, MentionRow.entity_id))
        # By the index's first entry: a minimum of a group reads all of them.
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

    def unsettled(self, monitor_id: UUID, entity_ids: Sequence[str]) -> dict[str, Unsettled]:
        """Entities whose mentions have changed since their series was computed."""
        statement = select(UnsettledRow.entity_id, UnsettledRow.since, UnsettledRow.number).where(
            UnsettledRow.monitor_id == monitor_id, UnsettledRow.entity_id.in_(entity_ids)
        )
        with self._database.connect() as connection:
            return {row[0]: Unsettled(row[1], row[2]) for row in connection.execute(statement)}

    def last_window_at(
        self, monitor_id: UUID, entity_ids: Sequence[str], sizes: Sequence[WindowSize]
    ) -> dict[str, datetime]:
        """The earliest of the last starts of each entity's windows of these sizes.

        Left out are entities without any, or with one whose sums are not known.
        """
        statement = (
            select(EntityWindowRow.entity_id, func.max(EntityWindowRow.starts_at))
            .where(
                EntityWindowRow.monitor_id == monitor_id,
                EntityWindowRow.entity_id.in_(entity_ids),
                EntityWindowRow.size.in_(sizes),
            )
            .group_by(EntityWindowRow.entity_id, EntityWindowRow.size)
        )
        without_sums = select(EntityWindowRow.entity_id).where(
            EntityWindowRow.monitor_id == monitor_id,
            EntityWindowRow.entity_id.in_(entity_ids),
            EntityWindowRow.weight.is_(None),
        )
        earliest: dict[str, datetime] = {}
        with self._database.connect() as connection:
            for entity_id, last in connection.execute(statement):
                earliest[entity_id] = min(last, earliest.get(entity_id, last))
            for entity_id in connection.scalars(without_sums):
                earliest.pop(entity_id, None)
        return earliest

    def mentioned(self, monitor_id: UUID) -> list[str]:
        """Entities that have mentions."""
        statement = select(MentionRow.entity_id).where(MentionRow.monitor_id == monitor_id).distinct()
        with self._database.connect() as connection:
            return sorted(connection.scalars(statement))

    def last_published_at(self, monitor_id: UUID) -> datetime | None:
        """Of all documents of the monitor."""
        statement = select(func.max(DocumentRow.published_at)).where(DocumentRow.monitor_id == monitor_id)
        with self._database.connect() as connection:
            return connection.scalar(statement)

    def read_until(self, monitor_id: UUID) -> datetime | None:
        """When the latest run was due that read all of the monitor's sources."""
        with self._database.connect() as connection:
            return read_until(connection, monitor_id)

    def known_copies(self, keys: Sequence[str]) -> frozenset[str]:
        """Those of these keys whose text was written before."""
        statement = select(CopyRow.key).where(CopyRow.key == func.any(list(keys)))
        with self._database.connect() as connection:
            return frozenset(connection.scalars(statement))

    def classifications(
        self, model_sha256: str, digests: Sequence[bytes]
    ) -> dict[bytes, tuple[float, float, float]]:
        """Probabilities that this model has given to inputs of these digests."""
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


def _given(since: Mapping[str, datetime]) -> TableValuedAlias:
    return values_table(
        "given",
        entity_id=(list(since), MentionRow.entity_id),
        since=(list(since.values()), MentionRow.published_at),
    )
