"""Writes the series of entities: novelties, windows, alerts and their deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid5

from sqlalchemy import Connection, case, delete, func, literal, or_, select, true, update
from sqlalchemy.dialects import postgresql

from db.bulk import fields_of, upsert_rows
from db.monitoring_tables import (
    AlertRow,
    DeliveryRow,
    EntityWindowRow,
    MentionRow,
    MonitorRow,
    UnsettledRow,
)
from jobs.monitor import AlertStatus
from jobs.records import EntityHistory
from jobs.series.window import WindowSize

DELIVERED_AGE = timedelta(days=7)
"""An alert about a window that ended earlier is kept and not delivered: last year's news is no news."""

_LENGTHS = {
    WindowSize.HOUR: timedelta(hours=1),
    WindowSize.DAY: timedelta(days=1),
    WindowSize.WEEK: timedelta(days=7),
}


def write_history(connection: Connection, job_id: UUID, history: EntityHistory) -> None:
    """Put an entity's series in place of what stood, but for what a later reading has written."""
    if history.unsettled is not None:
        connection.execute(
            delete(UnsettledRow).where(
                UnsettledRow.monitor_id == history.monitor_id,
                UnsettledRow.entity_id == history.entity_id,
                UnsettledRow.number == history.unsettled,
            )
        )
    _write_novelties(connection, history)
    _write_windows(connection, job_id, history)
    _write_alerts(connection, job_id, history)


def _write_novelties(connection: Connection, history: EntityHistory) -> None:
    """Those that differ from what stands, unless a later reading has looked at them: it wrote their windows,
    and all that follow.
    """
    if not history.novelties:
        return
    later_since = connection.scalar(
        select(func.min(EntityWindowRow.starts_at)).where(
            EntityWindowRow.monitor_id == history.monitor_id,
            EntityWindowRow.entity_id == history.entity_id,
            EntityWindowRow.read_at > history.read_at,
        )
    )
    novelties = sorted(history.novelties, key=lambda novelty: novelty.document_id)
    given = (
        func.unnest(
            literal([n.document_id for n in novelties], postgresql.ARRAY(MentionRow.document_id.type)),
            literal([n.number for n in novelties], postgresql.ARRAY(MentionRow.novelty.type)),
            literal([n.first_id for n in novelties], postgresql.ARRAY(MentionRow.first_id.type)),
        )
        .table_valued("document_id", "number", "first_id")
        .render_derived("given")
    )
    connection.execute(
        update(MentionRow)
        .where(
            MentionRow.monitor_id == history.monitor_id,
            MentionRow.entity_id == history.entity_id,
            MentionRow.document_id == given.c.document_id,
            or_(MentionRow.novelty_read_at.is_(None), MentionRow.novelty_read_at <= history.read_at),
            true() if later_since is None else MentionRow.published_at < later_since,
            or_(
                MentionRow.novelty.is_distinct_from(given.c.number),
                MentionRow.first_id.is_distinct_from(given.c.first_id),
            ),
        )
        .values(
            novelty=given.c.number,
            first_id=given.c.first_id,
            novelty_read_at=history.read_at,
        )
    )


def _write_windows(connection: Connection, job_id: UUID, history: EntityHistory) -> None:
    rows = [
        {
            "monitor_id": history.monitor_id,
            **fields_of(window),
            "read_at": history.read_at,
            "job_id": job_id,
        }
        for window in sorted(history.windows, key=lambda window: (window.size, window.starts_at))
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
    # One that a document left, corrected to another time or entity, and that nothing else is in.
    connection.execute(
        delete(EntityWindowRow).where(
            EntityWindowRow.monitor_id == history.monitor_id,
            EntityWindowRow.entity_id == history.entity_id,
            EntityWindowRow.size.in_(history.sizes),
            EntityWindowRow.starts_at >= history.since,
            EntityWindowRow.read_at < history.read_at,
        )
    )


def _write_alerts(connection: Connection, job_id: UUID, history: EntityHistory) -> None:
    rows = [
        {
            "id": uuid5(history.monitor_id, alert.key),
            "monitor_id": history.monitor_id,
            "key": alert.key,
            **fields_of(alert),
            "document_ids": list(alert.document_ids),
            "status": AlertStatus.OPEN,
            "read_at": history.read_at,
            "job_id": job_id,
        }
        for alert in sorted(history.alerts, key=lambda alert: alert.key)
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
    _reopen_and_withdraw(connection, history, [row["id"] for row in rows])
    new = [row["id"] for row in rows if row["id"] not in known]
    if new:
        _enqueue_deliveries(connection, history, new)


def _reopen_and_withdraw(connection: Connection, history: EntityHistory, standing: Sequence[object]) -> None:
    ours = (
        AlertRow.monitor_id == history.monitor_id,
        AlertRow.entity_id == history.entity_id,
        AlertRow.starts_at >= history.since,
        AlertRow.read_at <= history.read_at,
    )
    connection.execute(
        update(AlertRow)
        .where(*ours, AlertRow.id.in_(standing), AlertRow.status == AlertStatus.WITHDRAWN)
        .values(
            status=case(
                (AlertRow.acknowledged_at.is_(None), AlertStatus.OPEN.value),
                else_=AlertStatus.ACKNOWLEDGED.value,
            )
        )
    )
    connection.execute(
        update(AlertRow)
        .where(*ours, AlertRow.id.not_in(standing), AlertRow.status != AlertStatus.WITHDRAWN)
        .values(status=AlertStatus.WITHDRAWN, read_at=history.read_at)
    )


def _enqueue_deliveries(connection: Connection, history: EntityHistory, new: Sequence[object]) -> None:
    targets = connection.scalar(select(MonitorRow.targets).where(MonitorRow.id == history.monitor_id)) or {}
    listed = targets.get("targets", [])
    names = [target["name"] for target in listed] if isinstance(listed, list) else []
    newest = history.read_at - DELIVERED_AGE
    recent = {alert.key for alert in history.alerts if alert.starts_at + _LENGTHS[alert.size] >= newest}
    ids = [uuid5(history.monitor_id, key) for key in sorted(recent)]
    rows = [{"alert_id": id_, "target": name} for id_ in ids if id_ in new for name in sorted(names)]
    if rows:
        connection.execute(postgresql.insert(DeliveryRow).on_conflict_do_nothing(), rows)
