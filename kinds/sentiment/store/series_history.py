"""Reads windows and alerts of earlier batches from Postgres."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Engine, func, select

from db.bulk import values_table
from kinds.sentiment.history import Unsettled
from kinds.sentiment.monitor import AlertStatus
from kinds.sentiment.series.policy import Alert
from kinds.sentiment.series.time_windows import EntityWindow, WindowSize, WindowSums
from kinds.sentiment.store.source_reports import read_until
from kinds.sentiment.tables import AlertRow, EntityWindowRow, UnsettledRow

_SUM_FIELDS = tuple(WindowSums.__dataclass_fields__)
_SUMS = [getattr(EntityWindowRow, name) for name in _SUM_FIELDS]
_WINDOW = [getattr(EntityWindowRow, name) for name in EntityWindow.__dataclass_fields__]
_ALERT = [getattr(AlertRow, name) for name in Alert.__dataclass_fields__]


class SeriesHistory:
    """The part of kinds.sentiment.history.History that covers series."""

    def __init__(self, database: Engine) -> None:
        self._database = database

    def windows(
        self,
        monitor_id: UUID,
        entity_ids: Sequence[str],
        size: WindowSize,
        *,
        since: datetime,
        until: datetime,
    ) -> dict[str, list[EntityWindow]]:
        """Return windows by entity, each ordered by starts_at."""
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
        """Return the sums of each entity's windows from its instant on."""
        given = values_table(
            "given",
            entity_id=(list(since), EntityWindowRow.entity_id),
            since=(list(since.values()), EntityWindowRow.starts_at),
        )
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
        """Return alerts by entity, ordered by starts_at; withdrawn ones are left out."""
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

    def unsettled(self, monitor_id: UUID, entity_ids: Sequence[str]) -> dict[str, Unsettled]:
        """Return the entities whose mentions have changed since their series was computed."""
        statement = select(UnsettledRow.entity_id, UnsettledRow.since, UnsettledRow.number).where(
            UnsettledRow.monitor_id == monitor_id, UnsettledRow.entity_id.in_(entity_ids)
        )
        with self._database.connect() as connection:
            return {row[0]: Unsettled(row[1], row[2]) for row in connection.execute(statement)}

    def last_window_at(
        self, monitor_id: UUID, entity_ids: Sequence[str], sizes: Sequence[WindowSize]
    ) -> dict[str, datetime]:
        """Return, by entity, the earliest of the last starts of its windows of each of these sizes.

        Entities without windows are left out.
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
        earliest: dict[str, datetime] = {}
        with self._database.connect() as connection:
            for entity_id, last in connection.execute(statement):
                earliest[entity_id] = min(last, earliest.get(entity_id, last))
        return earliest

    def read_until(self, monitor_id: UUID) -> datetime | None:
        """Return when the latest run that read all of the monitor's sources was due."""
        with self._database.connect() as connection:
            return read_until(connection, monitor_id)
