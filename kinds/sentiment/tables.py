"""Tables of monitors: watch lists and sources, documents, series, alerts, and deliveries."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    RowMapping,
    Sequence,
    SmallInteger,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from db.tables import Base, Json, text_enum
from kinds.sentiment.monitor import AlertStatus, Notification
from kinds.sentiment.series.policy import Alert, AlertRule
from kinds.sentiment.series.time_windows import WindowSize


class MonitorRow(Base):
    """A monitor: its watch list, its sources and targets, and the policy for analysing its entities."""

    __tablename__ = "monitors"

    id: Mapped[UUID] = mapped_column(ForeignKey("schedules.id", ondelete="CASCADE"), primary_key=True)
    """Id of the schedule, which holds the monitor's tenant, name, settings and classifier."""
    watchlist_sha256: Mapped[str]
    """Digest of the resource that holds the watch list as JSON."""
    num_entities: Mapped[int]
    policy: Mapped[Json]
    """A kinds.sentiment.series.policy.Policy."""
    sources: Mapped[Json]
    """{"sources": [...]}, see jobs.sources; empty for a monitor that only processes files."""
    targets: Mapped[Json]
    """{"targets": [...]}: where alerts are delivered, see workers/delivery."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DocumentRow(Base):
    """A document that was analysed; its text is in the job's artifact."""

    __tablename__ = "documents"
    __table_args__ = (
        Index("ix_documents_job_id", "job_id"),
        Index("ix_documents_published_at", "monitor_id", "published_at"),
        Index("ix_documents_record", "monitor_id", "record", postgresql_where=text("record IS NOT NULL")),
    )

    monitor_id: Mapped[UUID] = mapped_column(ForeignKey("monitors.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    analysis: Mapped[str]
    published_at: Mapped[datetime]
    language: Mapped[str | None]
    num_mentions: Mapped[int] = mapped_column(SmallInteger)
    flags: Mapped[list[str]] = mapped_column(ARRAY(Text))
    job_id: Mapped[UUID]
    """Id of the job. It is not a foreign key, because results remain when a batch is deleted."""
    submitted_at: Mapped[datetime]
    """When the job's batch was accepted; the result of a later batch replaces that of an earlier one."""
    analysed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    record: Mapped[bytes | None]
    """Digest of the record that the document was read from; None if there was none."""


class MentionRow(Base):
    """A kinds.sentiment.series.mention.Mention, with its novelty once the entity's series is computed."""

    __tablename__ = "mentions"
    __table_args__ = (
        Index("ix_mentions_series", "monitor_id", "entity_id", "published_at"),
        Index("ix_mentions_document", "monitor_id", "document_id"),
    )

    monitor_id: Mapped[UUID] = mapped_column(ForeignKey("monitors.id", ondelete="CASCADE"), primary_key=True)
    entity_id: Mapped[str] = mapped_column(primary_key=True)
    document_id: Mapped[str] = mapped_column(primary_key=True)
    published_at: Mapped[datetime]
    relevance: Mapped[int] = mapped_column(SmallInteger)
    topic: Mapped[str | None]
    p_negative: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    p_neutral: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    p_positive: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    sentence: Mapped[str]
    title: Mapped[str]
    source: Mapped[str]
    signature: Mapped[bytes]
    novelty: Mapped[int | None]
    """Position of the mention in its chain, counted from 1."""
    first_id: Mapped[str | None]
    novelty_read_at: Mapped[datetime | None]
    """When the mentions behind `novelty` and `first_id` were read; a later reading replaces both."""


class EntityWindowRow(Base):
    """A kinds.sentiment.series.time_windows.EntityWindow."""

    __tablename__ = "entity_windows"

    monitor_id: Mapped[UUID] = mapped_column(ForeignKey("monitors.id", ondelete="CASCADE"), primary_key=True)
    entity_id: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[WindowSize] = mapped_column(text_enum(WindowSize, "size"), primary_key=True)
    starts_at: Mapped[datetime] = mapped_column(primary_key=True)
    num_documents: Mapped[int]
    num_followups: Mapped[int]
    num_positive: Mapped[int]
    num_neutral: Mapped[int]
    num_negative: Mapped[int]
    weight: Mapped[int] = mapped_column(BigInteger)
    weight_squared: Mapped[int] = mapped_column(BigInteger)
    weighted_score: Mapped[int] = mapped_column(BigInteger)
    mean_score: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    negative_share: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    negative_low: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    negative_high: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    trend: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    baseline_score: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    baseline_volume: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    change: Mapped[float | None] = mapped_column(DOUBLE_PRECISION)
    read_at: Mapped[datetime]
    """When the mentions were read; a later reading replaces the row, an earlier one does not."""
    job_id: Mapped[UUID]


PENDING_CHANGE_NUMBER = Sequence("pending_change_number", metadata=Base.metadata)


class PendingChangeRow(Base):
    """An entity whose mentions have changed since its series was computed."""

    __tablename__ = "pending_changes"

    monitor_id: Mapped[UUID] = mapped_column(ForeignKey("monitors.id", ondelete="CASCADE"), primary_key=True)
    entity_id: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[datetime]
    """Time of the earliest mention that was added, changed or removed."""
    number: Mapped[int] = mapped_column(BigInteger, server_default=text("nextval('pending_change_number')"))
    """Serial number of the last change. The row is removed once a series that includes that change is
    stored."""


class AlertRow(Base):
    """A kinds.sentiment.series.policy.Alert, with its status and note."""

    __tablename__ = "alerts"
    __table_args__ = (
        UniqueConstraint("monitor_id", "key"),
        Index("ix_alerts_series", "monitor_id", "entity_id", "starts_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """Id derived from the monitor and the key of the alert."""
    monitor_id: Mapped[UUID] = mapped_column(ForeignKey("monitors.id", ondelete="CASCADE"))
    key: Mapped[str]
    entity_id: Mapped[str]
    rule: Mapped[AlertRule] = mapped_column(text_enum(AlertRule, "rule"))
    size: Mapped[WindowSize] = mapped_column(text_enum(WindowSize, "size"))
    starts_at: Mapped[datetime]
    statistic: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    p_value: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    threshold: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    observed: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    expected: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    document_ids: Mapped[list[str]] = mapped_column(ARRAY(Text))
    status: Mapped[AlertStatus] = mapped_column(text_enum(AlertStatus, "status"))
    read_at: Mapped[datetime]
    job_id: Mapped[UUID]
    raised_at: Mapped[datetime] = mapped_column(server_default=func.now())
    acknowledged_at: Mapped[datetime | None]
    note: Mapped[str | None]


ALERT_COLUMNS = tuple(getattr(AlertRow, name) for name in Alert.__dataclass_fields__)
"""Columns of the fields of an alert; see `alert_of`."""


def alert_of(row: RowMapping) -> Alert:
    """Return the alert in a row that contains ALERT_COLUMNS."""
    fields = {name: row[name] for name in Alert.__dataclass_fields__}
    return Alert(**fields | {"document_ids": tuple(row["document_ids"])})


class MuteRow(Base):
    """A mute: a monitor's alerts, or only those of an entity, a rule or both, are stored, not delivered."""

    __tablename__ = "mutes"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    monitor_id: Mapped[UUID] = mapped_column(ForeignKey("monitors.id", ondelete="CASCADE"))
    entity_id: Mapped[str | None]
    rule: Mapped[str | None]
    until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DeliveryRow(Base):
    """Delivery of an alert to a target, which is written together with the alert so that no alert is lost."""

    __tablename__ = "deliveries"
    __table_args__ = (Index("ix_deliveries_due", "due_at", postgresql_where=text("ended_at IS NULL")),)

    alert_id: Mapped[UUID] = mapped_column(ForeignKey("alerts.id", ondelete="CASCADE"), primary_key=True)
    target: Mapped[str] = mapped_column(primary_key=True)
    """Name of the target in the monitor."""
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    num_attempts: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    ended_at: Mapped[datetime | None]
    """When the alert was delivered, or its delivery was muted or given up."""
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    notified: Mapped[Notification | None] = mapped_column(text_enum(Notification, "notified"))
    """State according to the last notification of the target; None if none is known to have arrived."""
    turn: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    """Counter that increases when the alert is withdrawn or raised again. After that, no attempt to send a
    message of an earlier turn begins."""
    turned_at: Mapped[datetime | None]
    """When `turn` last increased."""


class ClassificationRow(Base):
    """Probabilities that a model has assigned to an input, stored so that they are not computed again."""

    __tablename__ = "classifications"

    model_sha256: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(primary_key=True)
    negative: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    neutral: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    positive: Mapped[float] = mapped_column(DOUBLE_PRECISION)
