"""Lists, acknowledges and mutes alerts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import (
    Engine,
    RowMapping,
    case,
    delete,
    func,
    insert,
    select,
    update,
)

from db.tables import ScheduleRow
from jobs.errors import PermanentError
from kinds.sentiment.monitor import AlertStatus, Notification
from kinds.sentiment.series.policy import Alert, AlertRule
from kinds.sentiment.store.deliveries import is_muted
from kinds.sentiment.tables import ALERT_COLUMNS, AlertRow, DeliveryRow, MuteRow, alert_of


class AlertNotFoundError(PermanentError):
    """No alert has this id."""

    code = "alert_not_found"


class MuteNotFoundError(PermanentError):
    """No mute has this id."""

    code = "mute_not_found"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRecord:
    """An alert as stored in Postgres, with its monitor, status, times and note."""

    id: UUID
    monitor: str
    alert: Alert
    status: AlertStatus
    is_muted: bool
    raised_at: datetime
    acknowledged_at: datetime | None
    note: str | None

    @property
    def is_current(self) -> bool:
        """Whether the alert is not withdrawn."""
        return self.status is not AlertStatus.WITHDRAWN


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryState:
    """Progress of an alert's delivery to one target."""

    target: str
    num_attempts: int
    due_at: datetime
    ended_at: datetime | None
    error_code: str | None
    """Error of the last attempt. If `ended_at` is set, it is the reason why the alert was not delivered, or
    None if it was."""
    error_message: str | None
    notified: Notification | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mute:
    """A mute, which suppresses delivery of the alerts of an entity, a rule, both, or a whole monitor."""

    id: UUID
    monitor: str
    entity_id: str | None
    rule: str | None
    until: datetime | None
    created_at: datetime


def list_alerts(
    database: Engine,
    *,
    tenant: str = "default",
    monitor: str | None = None,
    entity_id: str | None = None,
    status: AlertStatus | None = None,
    limit: int = 50,
) -> list[AlertRecord]:
    """Return at most `limit` alerts, those of the newest windows first."""
    statement = _ALERTS.where(ScheduleRow.tenant == tenant)
    if monitor is not None:
        statement = statement.where(ScheduleRow.name == monitor)
    if entity_id is not None:
        statement = statement.where(AlertRow.entity_id == entity_id)
    if status is not None:
        statement = statement.where(AlertRow.status == status)
    newest_first = statement.order_by(AlertRow.starts_at.desc(), AlertRow.key).limit(limit)
    with database.connect() as connection:
        return [_record(row) for row in connection.execute(newest_first).mappings()]


def alerts_since(database: Engine, monitor_id: UUID, *, since: datetime) -> list[AlertRecord]:
    """Return alerts of the monitor's windows from `since` on, including withdrawn ones, the newest first."""
    statement = _ALERTS.where(AlertRow.monitor_id == monitor_id, AlertRow.starts_at >= since)
    newest_first = statement.order_by(AlertRow.starts_at.desc(), AlertRow.key)
    with database.connect() as connection:
        return [_record(row) for row in connection.execute(newest_first).mappings()]


def get_alert(database: Engine, alert_id: UUID) -> tuple[AlertRecord, list[DeliveryState]]:
    """Return an alert and its deliveries by target. Raises AlertNotFoundError."""
    with database.connect() as connection:
        row = connection.execute(_ALERTS.where(AlertRow.id == alert_id)).mappings().one_or_none()
        if row is None:
            raise _not_found(alert_id)
        deliveries = connection.execute(
            select(
                DeliveryRow.target,
                DeliveryRow.num_attempts,
                DeliveryRow.due_at,
                DeliveryRow.ended_at,
                DeliveryRow.error_code,
                DeliveryRow.error_message,
                DeliveryRow.notified,
            )
            .where(DeliveryRow.alert_id == alert_id)
            .order_by(DeliveryRow.target)
        )
        return _record(row), [DeliveryState(**state._mapping) for state in deliveries]


def acknowledge(database: Engine, alert_id: UUID, *, note: str | None = None) -> AlertRecord:
    """Mark an alert as seen, with a note if one is given. Raises AlertNotFoundError.

    Repeating the call only changes the note. A withdrawn alert remains withdrawn.
    """
    with database.begin() as connection:
        acknowledged_id = connection.scalar(
            update(AlertRow)
            .where(AlertRow.id == alert_id)
            .values(
                status=case(
                    (AlertRow.status == AlertStatus.OPEN, AlertStatus.ACKNOWLEDGED), else_=AlertRow.status
                ),
                acknowledged_at=func.coalesce(AlertRow.acknowledged_at, func.clock_timestamp()),
                note=func.coalesce(note, AlertRow.note),
            )
            .returning(AlertRow.id)
        )
    if acknowledged_id is None:
        raise _not_found(alert_id)
    return get_alert(database, alert_id)[0]


def mute(
    database: Engine,
    monitor_id: UUID,
    *,
    entity_id: str | None,
    rule: AlertRule | None,
    until: datetime | None,
) -> UUID:
    """Suppress delivery of a monitor's alerts, or only of those of an entity, a rule or both.

    Returns the id of the mute. The mute ends at `until` or with `unmute`. Muted alerts are still raised and
    stored.
    """
    mute_id = uuid4()
    with database.begin() as connection:
        connection.execute(
            insert(MuteRow).values(
                id=mute_id, monitor_id=monitor_id, entity_id=entity_id, rule=rule, until=until
            )
        )
    return mute_id


def unmute(database: Engine, mute_id: UUID) -> None:
    """Remove a mute, so that alerts raised from now on are delivered. Raises MuteNotFoundError."""
    with database.begin() as connection:
        removed_id = connection.scalar(delete(MuteRow).where(MuteRow.id == mute_id).returning(MuteRow.id))
    if removed_id is None:
        raise MuteNotFoundError(f"no mute has the id {mute_id}: see `pressroom alerts mutes`")


def list_mutes(database: Engine, *, tenant: str = "default") -> list[Mute]:
    """Return the mutes that have not expired, the oldest first."""
    statement = (
        select(
            MuteRow.id,
            ScheduleRow.name.label("monitor"),
            MuteRow.entity_id,
            MuteRow.rule,
            MuteRow.until,
            MuteRow.created_at,
        )
        .join(ScheduleRow, ScheduleRow.id == MuteRow.monitor_id)
        .where(ScheduleRow.tenant == tenant, MuteRow.until.is_(None) | (MuteRow.until > func.now()))
        .order_by(MuteRow.created_at, MuteRow.id)
    )
    with database.connect() as connection:
        return [Mute(**row._mapping) for row in connection.execute(statement)]


_ALERTS = select(
    AlertRow.id,
    ScheduleRow.name.label("monitor"),
    *ALERT_COLUMNS,
    AlertRow.status,
    is_muted().label("is_muted"),
    AlertRow.raised_at,
    AlertRow.acknowledged_at,
    AlertRow.note,
).join(ScheduleRow, ScheduleRow.id == AlertRow.monitor_id)


def _not_found(alert_id: UUID) -> AlertNotFoundError:
    return AlertNotFoundError(f"no alert has the id {alert_id}: see `pressroom alerts list`")


def _record(row: RowMapping) -> AlertRecord:
    names = ("id", "monitor", "status", "is_muted", "raised_at", "acknowledged_at", "note")
    return AlertRecord(alert=alert_of(row), **{name: row[name] for name in names})
