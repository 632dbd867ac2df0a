"""The tables of monitors: what they watch, what was read, what it came to, and what is due."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, Sequence, SmallInteger, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from db.tables import Base, Json, text_enum
from kinds.sentiment.monitor import AlertStatus, Told
from kinds.sentiment.series.window import AlertRule, WindowSize


class MonitorRow(Base):
    """A watch list, where its documents come from, and how its entities are looked at."""

    __tablename__ = "monitors"

    id: Mapped[UUID] = mapped_column(ForeignKey("schedules.id", ondelete="CASCADE"), primary_key=True)
    """Of the schedule that it is, which has its tenant, name, settings and classifier."""
    watchlist_sha256: Mapped[str]
    """Of the resource that holds it as JSON."""
    num_entities: Mapped[int]
    policy: Mapped[Json]
    """kinds.sentiment.series.policy.Policy."""
    sources: Mapped[Json]
    """{"sources": [...]}, see jobs.sources; empty for a monitor that only files are run through."""
    targets: Mapped[Json]
    """{"targets": [...]}: where alerts are delivered, see workers/delivery."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DocumentRow(Base):
    """A document that was analysed; its text is in the artifact of the job."""

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
    """Not a foreign key: a batch may be deleted, what it found stays."""
    submitted_at: Mapped[datetime]
    """When its batch was accepted: what a later batch says of the document counts."""
    analysed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    record: Mapped[bytes | None]
    """Digest of the record it was read from; None if it was read from none."""


class MentionRow(Base):
    """kinds.sentiment.series.mention.Mention, with its novelty once the entity's series has been computed."""

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
    """Place in its chain, from 1."""
    first_id: Mapped[str | None]
    novelty_read_at: Mapped[datetime | None]
    """When the mentions were read that the two above were computed from; a later reading replaces them."""


class EntityWindowRow(Base):
    """kinds.sentiment.series.window.EntityWindow."""

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
    """When the mentions were read: a later reading replaces it, an earlier one does not."""
    job_id: Mapped[UUID]


UNSETTLED_NUMBER = Sequence("unsettled_number", metadata=Base.metadata)


class UnsettledRow(Base):
    """An entity whose mentions have changed since its series was computed, for whatever reason it was not."""

    __tablename__ = "unsettled_series"

    monitor_id: Mapped[UUID] = mapped_column(ForeignKey("monitors.id", ondelete="CASCADE"), primary_key=True)
    entity_id: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[datetime]
    """The earliest mention that came, changed or went."""
    number: Mapped[int] = mapped_column(BigInteger, server_default=text("nextval('unsettled_number')"))
    """Another one with each change: a series that was read before the last one does not settle it."""


class AlertRow(Base):
    """kinds.sentiment.series.window.Alert and what people did with it."""

    __tablename__ = "alerts"
    __table_args__ = (
        UniqueConstraint("monitor_id", "key"),
        Index("ix_alerts_series", "monitor_id", "entity_id", "starts_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """Derived from monitor and key."""
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


class MuteRow(Base):
    """Alerts that shall not be delivered: of an entity, of a rule, or both; they are kept all the same."""

    __tablename__ = "mutes"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    monitor_id: Mapped[UUID] = mapped_column(ForeignKey("monitors.id", ondelete="CASCADE"))
    entity_id: Mapped[str | None]
    rule: Mapped[str | None]
    until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DeliveryRow(Base):
    """One alert on its way to one target; written with the alert, so that none is forgotten."""

    __tablename__ = "deliveries"
    __table_args__ = (Index("ix_deliveries_due", "due_at", postgresql_where=text("ended_at IS NULL")),)

    alert_id: Mapped[UUID] = mapped_column(ForeignKey("alerts.id", ondelete="CASCADE"), primary_key=True)
    target: Mapped[str] = mapped_column(primary_key=True)
    """Its name in the monitor."""
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    num_attempts: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    ended_at: Mapped[datetime | None]
    """Delivered, muted, or given up."""
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    told: Mapped[Told | None] = mapped_column(text_enum(Told, "told"))
    """None: nothing, as far as is known."""
    turn: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    """Rises when the alert is withdrawn or comes back: a message of an earlier turn is not begun any more."""
    turned_at: Mapped[datetime | None]
    """When it did so last."""


class ClassificationRow(Base):
    """What a model said of an input; asked again, it is not computed again."""

    __tablename__ = "classifications"

    model_sha256: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(primary_key=True)
    negative: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    neutral: Mapped[float] = mapped_column(DOUBLE_PRECISION)
    positive: Mapped[float] = mapped_column(DOUBLE_PRECISION)
