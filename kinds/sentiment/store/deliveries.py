"""Deliveries of alerts to targets, which are written together with the alerts so that no alert is lost."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    Subquery,
    case,
    func,
    or_,
    select,
    update,
)

from db.tables import ScheduleRow
from kinds.sentiment.monitor import AlertStatus, Notification
from kinds.sentiment.series.policy import Alert
from kinds.sentiment.tables import AlertRow, DeliveryRow, MentionRow, MonitorRow, MuteRow, alert_of
from workers.delivery import Target

MAX_DOCUMENTS = 5
"""Maximum number of documents described in a message, strongest first; the message lists the ids of all."""

_TARGETS: TypeAdapter[list[Target]] = TypeAdapter(list[Target])


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An alert that is due for delivery to one target."""

    alert_id: UUID
    target_name: str
    target: Target | None
    """The target; None if the monitor no longer has a target of this name."""
    num_attempts: int
    is_muted: bool
    monitor_id: UUID
    monitor: str
    notified: Notification | None
    turn: int
    turned_at: datetime | None
    is_withdrawn: bool
    alert: Alert
    raised_at: datetime

    @property
    def notification(self) -> Notification:
        """State of the alert that the target should be notified of."""
        return Notification.WITHDRAWN if self.is_withdrawn else Notification.RAISED


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """A document behind an alert, as described in a message."""

    id: str
    title: str
    source: str
    published_at: datetime
    sentence: str
    score: float


def is_muted() -> ColumnElement[bool]:
    """Return a condition that is true for rows of `alerts` covered by a mute that has not expired."""
    return (
        select(MuteRow.id)
        .where(
            MuteRow.monitor_id == AlertRow.monitor_id,
            or_(MuteRow.entity_id.is_(None), MuteRow.entity_id == AlertRow.entity_id),
            or_(MuteRow.rule.is_(None), MuteRow.rule == AlertRow.rule),
            or_(MuteRow.until.is_(None), MuteRow.until > func.now()),
        )
        .correlate(AlertRow)
        .exists()
    )


def due_deliveries(
    database: Engine,
    *,
    limit: int,
    limit_per_target: int = 1_000,
    monitor_id: UUID | None = None,
    without: Collection[str] = (),
) -> list[Delivery]:
    """Return at most `limit` due deliveries, the longest overdue first.

    For each target of a monitor, at most `limit_per_target` are returned. With `monitor_id`, only deliveries
    of that monitor's alerts are returned. Targets in `without` are excluded. The delivery of a withdrawn
    alert waits if the target was not notified of the alert, because the alert may be raised again.
    """
    due = _due(monitor_id, without)
    statement = (
        select(
            DeliveryRow.target,
            DeliveryRow.num_attempts,
            DeliveryRow.notified,
            DeliveryRow.turn,
            DeliveryRow.turned_at,
            AlertRow.__table__,
            ScheduleRow.name.label("monitor"),
            MonitorRow.targets,
            is_muted().label("is_muted"),
        )
        .join(due, (due.c.alert_id == DeliveryRow.alert_id) & (due.c.target == DeliveryRow.target))
        .join(AlertRow, AlertRow.id == DeliveryRow.alert_id)
        .join(MonitorRow, MonitorRow.id == AlertRow.monitor_id)
        .join(ScheduleRow, ScheduleRow.id == AlertRow.monitor_id)
        .where(due.c.place <= limit_per_target)
        .order_by(DeliveryRow.due_at, DeliveryRow.alert_id)
        .limit(limit)
    )
    with database.connect() as connection:
        return [_delivery(row) for row in connection.execute(statement).mappings()]


def _due(monitor_id: UUID | None, without: Collection[str]) -> Subquery:
    """Select the keys of due deliveries, each with its position among the deliveries to its target."""
    of_monitor = () if monitor_id is None else (AlertRow.monitor_id == monitor_id,)
    place = func.row_number().over(
        partition_by=(AlertRow.monitor_id, DeliveryRow.target),
        order_by=(DeliveryRow.due_at, DeliveryRow.alert_id),
    )
    return (
        select(DeliveryRow.alert_id, DeliveryRow.target, place.label("place"))
        .join(AlertRow, AlertRow.id == DeliveryRow.alert_id)
        .where(
            *_is_pending(),
            *of_monitor,
            DeliveryRow.due_at <= func.now(),
            DeliveryRow.target.not_in(without),
        )
        .subquery()
    )


def num_waiting(database: Engine, monitor_id: UUID) -> int:
    """Return the number of pending deliveries of the monitor's alerts, due now or later."""
    statement = (
        select(func.count())
        .select_from(DeliveryRow)
        .join(AlertRow, AlertRow.id == DeliveryRow.alert_id)
        .where(*_is_pending(), AlertRow.monitor_id == monitor_id)
    )
    with database.connect() as connection:
        return connection.scalar(statement) or 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """Deliveries of a monitor to one target that are pending for the same reason."""

    target: str
    error_code: str | None
    """Error of the latest attempt; None if there was no attempt."""
    error_message: str | None
    number: int
    due_at: datetime
    """When the first of these deliveries is due."""


def waiting(database: Engine, monitor_id: UUID) -> list[Waiting]:
    """Return the pending deliveries of the monitor's alerts, grouped by target and reason."""
    why = (DeliveryRow.target, DeliveryRow.error_code, DeliveryRow.error_message)
    statement = (
        select(*why, func.count(), func.min(DeliveryRow.due_at))
        .join(AlertRow, AlertRow.id == DeliveryRow.alert_id)
        .where(*_is_pending(), AlertRow.monitor_id == monitor_id)
        .group_by(*why)
        .order_by(DeliveryRow.target, func.min(DeliveryRow.due_at))
    )
    with database.connect() as connection:
        return [Waiting(*row) for row in connection.execute(statement)]


def drivers(database: Engine, delivery: Delivery) -> list[Driver]:
    """Return those of the strongest documents behind the alert that are still stored."""
    ids = delivery.alert.document_ids[:MAX_DOCUMENTS]
    with database.connect() as connection:
        rows = connection.execute(
            select(MentionRow.__table__).where(
                MentionRow.monitor_id == delivery.monitor_id,
                MentionRow.entity_id == delivery.alert.entity_id,
                MentionRow.document_id.in_(ids),
            )
        ).mappings()
        known = {row["document_id"]: row for row in rows}
    return [
        Driver(
            id=id_,
            title=row["title"],
            source=row["source"],
            published_at=row["published_at"],
            sentence=row["sentence"],
            score=row["p_positive"] - row["p_negative"],
        )
        for id_ in ids
        if (row := known.get(id_)) is not None
    ]


def begin_attempt(database: Engine, delivery: Delivery, *, retry_seconds: float) -> bool:
    """Record an attempt before it is made, and make the next one due after `retry_seconds`.

    Returns False if the delivery must not be attempted, because another notifier has begun the attempt or the
    alert has changed. A crash during the attempt counts as a failure: the message is sent again with the same
    id.
    """
    with database.begin() as connection:
        taken = connection.scalar(
            update(DeliveryRow)
            .where(
                *_is(delivery),
                DeliveryRow.ended_at.is_(None),
                DeliveryRow.num_attempts == delivery.num_attempts,
            )
            .values(num_attempts=DeliveryRow.num_attempts + 1, due_at=_after(retry_seconds))
            .returning(DeliveryRow.num_attempts)
        )
    return taken is not None


def end(
    database: Engine, delivery: Delivery, *, error_code: str | None = None, message: str | None = None
) -> None:
    """End the delivery, because there is nothing to send or, with an error code, because it was given up."""
    with database.begin() as connection:
        connection.execute(
            update(DeliveryRow)
            .where(*_is(delivery))
            .values(ended_at=func.clock_timestamp(), error_code=error_code, error_message=message)
        )


def record_notification(database: Engine, delivery: Delivery) -> None:
    """Record that the target was notified, even if the alert has changed in the meantime.

    If another notifier has begun to send that change, it is unknown which message arrived last, and the state
    becomes Notification.UNSURE.
    """
    is_latest = DeliveryRow.turn == delivery.turn
    is_alone = is_latest | (DeliveryRow.ended_at.is_(None) & (DeliveryRow.num_attempts == 0))
    with database.begin() as connection:
        connection.execute(
            update(DeliveryRow)
            .where(DeliveryRow.alert_id == delivery.alert_id, DeliveryRow.target == delivery.target_name)
            .values(
                notified=case((is_alone, delivery.notification.value), else_=Notification.UNSURE.value),
                ended_at=case((is_latest, func.clock_timestamp()), else_=DeliveryRow.ended_at),
                error_code=None,
                error_message=None,
            )
        )


def notify_change(connection: Connection, alert_ids: Sequence[UUID], *, old_ids: Sequence[UUID]) -> None:
    """Schedule notifications of alerts that were withdrawn or raised again in this transaction.

    Targets that were notified of an alert are notified of its change. So are targets that may have been
    notified by an attempt that failed or is under way. A target that was not notified receives the current
    state when the alert is raised again. All pending deliveries begin a new turn, because a notifier may have
    read the former state. For alerts in `old_ids` no new notification is scheduled; only notifications that
    were begun are corrected.
    """
    is_notified = DeliveryRow.notified.is_not(None)
    is_tried = DeliveryRow.num_attempts > 0
    is_pending = DeliveryRow.ended_at.is_(None)
    is_old = DeliveryRow.alert_id.in_(old_ids)
    is_unsure = is_tried & (is_pending | (is_notified & DeliveryRow.error_code.is_not(None)))
    connection.execute(
        update(DeliveryRow)
        .where(is_old, is_pending, ~is_notified, ~is_tried)
        .values(ended_at=func.clock_timestamp(), error_code="too_old", error_message="the alert is too old")
    )
    connection.execute(
        update(DeliveryRow)
        .where(DeliveryRow.alert_id.in_(alert_ids), is_pending | (is_notified & ~is_old))
        .values(
            notified=case((is_unsure, Notification.UNSURE.value), else_=DeliveryRow.notified),
            turn=DeliveryRow.turn + 1,
            turned_at=func.clock_timestamp(),
            due_at=func.clock_timestamp(),
            num_attempts=0,
            ended_at=None,
            error_code=None,
            error_message=None,
        )
    )


def note_failure(database: Engine, delivery: Delivery, *, error_code: str, message: str) -> None:
    """Record why an attempt failed; the delivery will be tried again."""
    with database.begin() as connection:
        connection.execute(
            update(DeliveryRow).where(*_is(delivery)).values(error_code=error_code, error_message=message)
        )


def postpone(database: Engine, deliveries: Sequence[Delivery], *, seconds: float) -> None:
    """Defer deliveries to a target that does not respond, without counting an attempt."""
    if not deliveries:
        return
    with database.begin() as connection:
        for delivery in deliveries:
            connection.execute(
                update(DeliveryRow)
                .where(*_is(delivery), DeliveryRow.ended_at.is_(None))
                .values(due_at=_after(seconds))
            )


def _is_pending() -> tuple[ColumnElement[bool], ...]:
    return (
        DeliveryRow.ended_at.is_(None),
        or_(AlertRow.status != AlertStatus.WITHDRAWN, DeliveryRow.notified.is_not(None)),
    )


def _is(delivery: Delivery) -> tuple[ColumnElement[bool], ...]:
    return (
        DeliveryRow.alert_id == delivery.alert_id,
        DeliveryRow.target == delivery.target_name,
        DeliveryRow.turn == delivery.turn,
    )


def _after(seconds: float) -> ColumnElement[datetime]:
    return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def _delivery(row: RowMapping) -> Delivery:
    targets = _TARGETS.validate_python(row["targets"].get("targets", []))
    return Delivery(
        alert_id=row["id"],
        target_name=row["target"],
        target=next((target for target in targets if target.name == row["target"]), None),
        num_attempts=row["num_attempts"],
        is_muted=row["is_muted"],
        monitor_id=row["monitor_id"],
        monitor=row["monitor"],
        notified=row["notified"],
        turn=row["turn"],
        turned_at=row["turned_at"],
        is_withdrawn=row["status"] is AlertStatus.WITHDRAWN,
        alert=alert_of(row),
        raised_at=row["raised_at"],
    )
