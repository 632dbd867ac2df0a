"""Stores and reads the series of entities: novelties, windows and alerts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from sqlalchemy import Connection, Engine, TableValuedAlias, case, delete, func, or_, select, true, update
from sqlalchemy.dialects import postgresql

from db.bulk import fields_of, upsert_rows, values_table
from kinds.sentiment.history import EntityHistory, PendingChange
from kinds.sentiment.monitor import AlertStatus
from kinds.sentiment.series.policy import Alert, Policy
from kinds.sentiment.series.time_windows import EntityWindow, WindowSize, WindowSums
from kinds.sentiment.store.deliveries import notify_change
from kinds.sentiment.store.monitors import read_until
from kinds.sentiment.tables import (
    ALERT_COLUMNS,
    AlertRow,
    DeliveryRow,
    EntityWindowRow,
    MentionRow,
    MonitorRow,
    PendingChangeRow,
    alert_of,
)

DELIVERED_AGE = timedelta(days=7)
"""Maximum time since the end of a window whose alerts are delivered. Alerts of older windows are only stored,
even when they are withdrawn or raised again, because news that is more than a week old is not worth a
message."""

_LENGTHS = {
    WindowSize.HOUR: timedelta(hours=1),
    WindowSize.DAY: timedelta(days=1),
    WindowSize.WEEK: timedelta(days=7),
}

_NEVER = datetime.max.replace(tzinfo=UTC)

_SUM_FIELDS = tuple(WindowSums.__dataclass_fields__)

_SUMS = [getattr(EntityWindowRow, name) for name in _SUM_FIELDS]

_WINDOW = [getattr(EntityWindowRow, name) for name in EntityWindow.__dataclass_fields__]


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
        """Return the windows that begin in [since, until), by entity, ordered by starts_at."""
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
        by_entity: defaultdict[str, list[EntityWindow]] = defaultdict(list)
        with self._database.connect() as connection:
            for row in connection.execute(statement):
                window = EntityWindow(**row._mapping)
                by_entity[window.entity_id].append(window)
        return dict(by_entity)

    def window_sums(
        self,
        monitor_id: UUID,
        since: Mapping[str, datetime],
        sizes: Sequence[WindowSize],
        *,
        until: datetime,
    ) -> dict[str, dict[WindowSize, list[WindowSums]]]:
        """Return the sums of each entity's windows that begin in [since[entity_id], until)."""
        table = values_table(
            "input",
            entity_id=(list(since), EntityWindowRow.entity_id),
            since=(list(since.values()), EntityWindowRow.starts_at),
        )
        statement = (
            select(EntityWindowRow.entity_id, EntityWindowRow.size, *_SUMS)
            .join(table, EntityWindowRow.entity_id == table.c.entity_id)
            .where(
                EntityWindowRow.monitor_id == monitor_id,
                EntityWindowRow.size.in_(sizes),
                EntityWindowRow.starts_at >= table.c.since,
                EntityWindowRow.starts_at < until,
            )
        )
        by_entity: dict[str, dict[WindowSize, list[WindowSums]]] = {id_: {} for id_ in since}
        with self._database.connect() as connection:
            for entity_id, size, *sums in connection.execute(statement).all():
                kept = WindowSums(**dict(zip(_SUM_FIELDS, sums, strict=True)))
                by_entity[entity_id].setdefault(size, []).append(kept)
        return by_entity

    def alerts(
        self, monitor_id: UUID, entity_ids: Sequence[str], *, since: datetime, until: datetime
    ) -> dict[str, list[Alert]]:
        """Return the alerts of windows that begin in [since, until), by entity, ordered by starts_at.

        Withdrawn alerts are left out.
        """
        statement = (
            select(*ALERT_COLUMNS)
            .where(
                AlertRow.monitor_id == monitor_id,
                AlertRow.entity_id.in_(entity_ids),
                AlertRow.starts_at >= since,
                AlertRow.starts_at < until,
                AlertRow.status != AlertStatus.WITHDRAWN,
            )
            .order_by(AlertRow.starts_at, AlertRow.rule)
        )
        by_entity: defaultdict[str, list[Alert]] = defaultdict(list)
        with self._database.connect() as connection:
            for row in connection.execute(statement).mappings():
                by_entity[row["entity_id"]].append(alert_of(row))
        return dict(by_entity)

    def pending_changes(self, monitor_id: UUID, entity_ids: Sequence[str]) -> dict[str, PendingChange]:
        """Return, by entity, the changes of its mentions since its series was computed.

        Entities without changes are left out.
        """
        statement = select(PendingChangeRow.entity_id, PendingChangeRow.since, PendingChangeRow.number).where(
            PendingChangeRow.monitor_id == monitor_id, PendingChangeRow.entity_id.in_(entity_ids)
        )
        with self._database.connect() as connection:
            return {row[0]: PendingChange(row[1], row[2]) for row in connection.execute(statement)}

    def last_window_at(
        self, monitor_id: UUID, entity_ids: Sequence[str], sizes: Sequence[WindowSize]
    ) -> dict[str, datetime]:
        """Return when each entity's latest window began.

        Of the latest windows of several sizes, the one that began first counts. Entities without windows are
        left out.
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
        """Return the same as `kinds.sentiment.store.monitors.read_until`."""
        with self._database.connect() as connection:
            return read_until(connection, monitor_id)


@dataclass(frozen=True, slots=True)
class _Series:
    """Histories of one monitor, each of a different entity, computed with the monitor's policy."""

    monitor_id: UUID
    histories: Sequence[tuple[UUID, EntityHistory]]
    """Each history with the id of the job that computed it."""

    @property
    def sizes(self) -> Sequence[WindowSize]:
        return self.histories[0][1].policy.windows

    def table(self) -> TableValuedAlias:
        """Return a table with entity_id, since, read_at and change_number of each history."""
        own = [history for _, history in self.histories]
        return values_table(
            "input",
            entity_id=([history.entity_id for history in own], EntityWindowRow.entity_id),
            since=([history.since for history in own], EntityWindowRow.starts_at),
            read_at=([history.read_at for history in own], EntityWindowRow.read_at),
            change_number=([history.change_number for history in own], PendingChangeRow.number),
        )


def write_histories(connection: Connection, histories: Sequence[tuple[UUID, EntityHistory]]) -> None:
    """Replace the stored series of entities, except for rows that a later reading has written.

    The monitors' records must be locked. A series that was computed with a policy that the monitor no longer
    has is left out, because later windows could not be compared with its windows.
    """
    policies = _policies(connection, {history.monitor_id for _, history in histories})
    by_policy = [entry for entry in histories if entry[1].policy == policies.get(entry[1].monitor_id)]
    for series in _apart(by_policy):
        table = series.table()
        connection.execute(
            delete(PendingChangeRow).where(
                PendingChangeRow.monitor_id == series.monitor_id,
                PendingChangeRow.entity_id == table.c.entity_id,
                PendingChangeRow.number == table.c.change_number,
            )
        )
        later_since = _later_since(connection, series)
        _write_novelties(connection, series, later_since)
        _write_windows(connection, series, later_since)
        _write_alerts(connection, series, later_since)


def _policies(connection: Connection, monitor_ids: Collection[UUID]) -> dict[UUID, Policy]:
    rows = connection.execute(
        select(MonitorRow.id, MonitorRow.policy).where(MonitorRow.id == func.any(list(monitor_ids)))
    )
    return {id_: Policy.model_validate(policy) for id_, policy in rows}


def _apart(histories: Sequence[tuple[UUID, EntityHistory]]) -> list[_Series]:
    """Group the histories by monitor.

    Histories of the same entity are in separate groups, in the order in which their mentions were read.
    """
    groups: dict[tuple[UUID, int], list[tuple[UUID, EntityHistory]]] = {}
    seen: Counter[tuple[UUID, str]] = Counter()
    for job_id, history in sorted(histories, key=lambda entry: (entry[1].read_at, entry[1].entity_id)):
        entity = history.monitor_id, history.entity_id
        groups.setdefault((history.monitor_id, seen[entity]), []).append((job_id, history))
        seen[entity] += 1
    return [_Series(key[0], groups[key]) for key in sorted(groups)]


def _later_since(connection: Connection, series: _Series) -> dict[str, datetime]:
    """Return, by entity, the instant from which a later reading has written the whole series.

    From there on, only rows that the later reading has written still exist.
    """
    table = series.table()
    is_own = (
        EntityWindowRow.monitor_id == series.monitor_id,
        EntityWindowRow.entity_id == table.c.entity_id,
    )
    # Each write of a series includes its last window, unless that is an hour without documents. If the last
    # window is not from a later reading, nothing is, so nearly every query ends with this comparison.
    size = next((size for size in series.sizes if size is not WindowSize.HOUR), None)
    last_read_at = (
        select(EntityWindowRow.read_at)
        .where(*is_own, EntityWindowRow.size == size)
        .order_by(EntityWindowRow.starts_at.desc())
        .limit(1)
        .scalar_subquery()
        .correlate(table)
    )
    is_later = true() if size is None else last_read_at > table.c.read_at
    rows = connection.execute(
        select(EntityWindowRow.entity_id, func.min(EntityWindowRow.starts_at))
        .join(table, is_own[1])
        .where(is_own[0], is_later, EntityWindowRow.read_at > table.c.read_at)
        .group_by(EntityWindowRow.entity_id)
    )
    return {row[0]: row[1] for row in rows}


def _write_novelties(connection: Connection, series: _Series, later_since: Mapping[str, datetime]) -> None:
    """Write the novelties that differ from the stored ones."""
    novelties = [
        (novelty, history)
        for _, history in series.histories
        for novelty in sorted(history.novelties, key=lambda novelty: novelty.document_id)
    ]
    if not novelties:
        return
    table = values_table(
        "input",
        entity_id=([history.entity_id for _, history in novelties], MentionRow.entity_id),
        document_id=([novelty.document_id for novelty, _ in novelties], MentionRow.document_id),
        number=([novelty.number for novelty, _ in novelties], MentionRow.novelty),
        first_id=([novelty.first_id for novelty, _ in novelties], MentionRow.first_id),
        read_at=([history.read_at for _, history in novelties], MentionRow.novelty_read_at),
        later_since=(
            [later_since.get(history.entity_id) for _, history in novelties],
            MentionRow.published_at,
        ),
    )
    connection.execute(
        update(MentionRow)
        .where(
            MentionRow.monitor_id == series.monitor_id,
            MentionRow.entity_id == table.c.entity_id,
            MentionRow.document_id == table.c.document_id,
            or_(MentionRow.novelty_read_at.is_(None), MentionRow.novelty_read_at <= table.c.read_at),
            or_(table.c.later_since.is_(None), MentionRow.published_at < table.c.later_since),
            or_(
                MentionRow.novelty.is_distinct_from(table.c.number),
                MentionRow.first_id.is_distinct_from(table.c.first_id),
            ),
        )
        .values(
            novelty=table.c.number,
            first_id=table.c.first_id,
            novelty_read_at=table.c.read_at,
        )
    )


def _write_windows(connection: Connection, series: _Series, later_since: Mapping[str, datetime]) -> None:
    rows = [
        {
            "monitor_id": series.monitor_id,
            **fields_of(window),
            "read_at": history.read_at,
            "job_id": job_id,
        }
        for job_id, history in series.histories
        for window in sorted(history.windows, key=lambda window: (window.size, window.starts_at))
        if window.starts_at < later_since.get(history.entity_id, _NEVER)
    ]
    if rows:
        keys = ("monitor_id", "entity_id", "size", "starts_at")
        upsert_rows(
            connection,
            EntityWindowRow,
            rows,
            keys=keys,
            where=lambda new: EntityWindowRow.read_at <= new.read_at,
        )
    # Deletes windows left empty because a document was corrected to a different time or entity.
    table = series.table()
    connection.execute(
        delete(EntityWindowRow).where(
            EntityWindowRow.monitor_id == series.monitor_id,
            EntityWindowRow.entity_id == table.c.entity_id,
            EntityWindowRow.size.in_(series.sizes),
            EntityWindowRow.starts_at >= table.c.since,
            EntityWindowRow.read_at < table.c.read_at,
        )
    )


def _write_alerts(connection: Connection, series: _Series, later_since: Mapping[str, datetime]) -> None:
    rows = [
        {
            "id": uuid5(series.monitor_id, alert.key),
            "monitor_id": series.monitor_id,
            "key": alert.key,
            **fields_of(alert),
            "document_ids": list(alert.document_ids),
            "status": AlertStatus.OPEN,
            "read_at": history.read_at,
            "job_id": job_id,
        }
        for job_id, history in series.histories
        for alert in sorted(history.alerts, key=lambda alert: alert.key)
        if alert.starts_at < later_since.get(history.entity_id, _NEVER)
    ]
    known: set[UUID] = set()
    if rows:
        ids = [row["id"] for row in rows]
        known = set(connection.scalars(select(AlertRow.id).where(AlertRow.id.in_(ids))))
        upsert_rows(
            connection,
            AlertRow,
            rows,
            keys=("monitor_id", "key"),
            where=lambda new: AlertRow.read_at <= new.read_at,
            kept=("id", "status"),
        )
    _reopen_and_withdraw(connection, series, [row["id"] for row in rows])
    new = [row["id"] for row in rows if row["id"] not in known]
    if new:
        _enqueue_deliveries(connection, series, new)


def _reopen_and_withdraw(connection: Connection, series: _Series, current_ids: Sequence[object]) -> None:
    table = series.table()
    ours = (
        AlertRow.monitor_id == series.monitor_id,
        AlertRow.entity_id == table.c.entity_id,
        AlertRow.starts_at >= table.c.since,
        AlertRow.read_at <= table.c.read_at,
    )
    columns = (AlertRow.id, AlertRow.size, AlertRow.starts_at, table.c.read_at)
    reopened = connection.execute(
        update(AlertRow)
        .where(*ours, AlertRow.id.in_(current_ids), AlertRow.status == AlertStatus.WITHDRAWN)
        .values(
            status=case(
                (AlertRow.acknowledged_at.is_(None), AlertStatus.OPEN.value),
                else_=AlertStatus.ACKNOWLEDGED.value,
            )
        )
        .returning(*columns)
    ).all()
    withdrawn = connection.execute(
        update(AlertRow)
        .where(*ours, AlertRow.id.not_in(current_ids), AlertRow.status != AlertStatus.WITHDRAWN)
        .values(status=AlertStatus.WITHDRAWN, read_at=table.c.read_at)
        .returning(*columns)
    ).all()
    if changed := [*reopened, *withdrawn]:
        old_ids = [id_ for id_, *window in changed if not _is_news(*window)]
        notify_change(connection, [row[0] for row in changed], old_ids=old_ids)


def _is_news(size: WindowSize, starts_at: datetime, read_at: datetime) -> bool:
    return starts_at + _LENGTHS[size] >= read_at - DELIVERED_AGE


def _enqueue_deliveries(connection: Connection, series: _Series, new: Sequence[object]) -> None:
    targets = connection.scalar(select(MonitorRow.targets).where(MonitorRow.id == series.monitor_id)) or {}
    listed = targets.get("targets", [])
    names = [target["name"] for target in listed] if isinstance(listed, list) else []
    recent = {
        alert.key
        for _, history in series.histories
        for alert in history.alerts
        if _is_news(alert.size, alert.starts_at, history.read_at)
    }
    ids = [uuid5(series.monitor_id, key) for key in sorted(recent)]
    rows = [{"alert_id": id_, "target": name} for id_ in ids if id_ in new for name in sorted(names)]
    if rows:
        connection.execute(postgresql.insert(DeliveryRow).on_conflict_do_nothing(), rows)
