"""The tables of the core. Postgres is the source of truth: what was not committed there did not happen."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Enum,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    literal,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from jobs.batch import BatchStatus
from jobs.job import AttemptOutcome, JobStatus
from jobs.schedule import CatchUp, RunOutcome

Json = dict[str, object]


def text_enum(enum: type[StrEnum], name: str) -> Enum:
    """Return a text type with a check constraint for the values of the enum.

    With it, a new value needs only a new constraint, not a change to a Postgres type.
    """
    return Enum(
        enum,
        name=name,
        native_enum=False,
        create_constraint=True,
        length=16,
        values_callable=lambda members: [member.value for member in members],
    )


class Base(DeclarativeBase):
    """Base class of all tables. It names every constraint, so that migrations can refer to it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        datetime: DateTime(timezone=True),
        str: Text(),
        Json: JSONB(),
        bytes: LargeBinary(),
    }


class ScheduleRow(Base):
    """A batch that is created repeatedly, and the times for it. Kinds may extend it with their own tables."""

    __tablename__ = "schedules"
    __table_args__ = (UniqueConstraint("kind", "tenant", "name"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    tenant: Mapped[str]
    name: Mapped[str]
    model: Mapped[str]
    """Name of the model; empty for a kind that uses none."""
    settings: Mapped[Json]
    """Settings of the kind, without those that are added for each run."""
    input: Mapped[Json | None]
    """Input of each run, for a kind whose schedules read a table; None for other kinds."""
    cron: Mapped[str | None]
    """Cron expression; None if the schedule is only started by hand."""
    time_zone: Mapped[str | None]
    catch_up: Mapped[CatchUp] = mapped_column(text_enum(CatchUp, "catch_up"))
    paused_at: Mapped[datetime | None]
    seen_until: Mapped[datetime] = mapped_column(server_default=func.now())
    """Due times up to this instant are settled: they were run, or skipped by policy."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ScheduleRunRow(Base):
    """The outcome of one due time. Because of this row, no due time is settled twice."""

    __tablename__ = "schedule_runs"

    schedule_id: Mapped[UUID] = mapped_column(
        ForeignKey("schedules.id", ondelete="CASCADE"), primary_key=True
    )
    due_at: Mapped[datetime] = mapped_column(primary_key=True)
    outcome: Mapped[RunOutcome] = mapped_column(text_enum(RunOutcome, "outcome"))
    batch_id: Mapped[UUID | None]
    """Id of the batch. It is not a foreign key, because the row is kept when the batch is deleted."""
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]


class BatchRow(Base):
    """A batch: the jobs that a producer submitted together."""

    __tablename__ = "batches"
    __table_args__ = (
        UniqueConstraint("tenant", "idempotency_key"),
        Index("ix_batches_running", "profile", "priority", postgresql_where=text("status = 'running'")),
        Index(
            "ix_batches_ending", "id", postgresql_where=text("status = 'cancelled' AND finished_at IS NULL")
        ),
        Index("ix_batches_schedule_id", "schedule_id", postgresql_where=text("schedule_id IS NOT NULL")),
        Index(
            "ix_batches_under_way",
            "schedule_id",
            unique=True,
            postgresql_where=text("status = 'running' AND schedule_id IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    name: Mapped[str]
    kind: Mapped[str]
    kind_version: Mapped[str]
    model: Mapped[str]
    profile: Mapped[str]
    """Profile of the open stage, which names the queue that its jobs are sent to."""
    settings: Mapped[Json]
    seed: Mapped[int] = mapped_column(BigInteger)
    priority: Mapped[int] = mapped_column(SmallInteger)
    max_attempts: Mapped[int] = mapped_column(SmallInteger)
    idempotency_key: Mapped[str | None]
    schedule_id: Mapped[UUID | None] = mapped_column(ForeignKey("schedules.id", ondelete="SET NULL"))
    """Schedule that this batch is a run of. A schedule has at most one unfinished run."""
    status: Mapped[BatchStatus] = mapped_column(text_enum(BatchStatus, "status"))
    num_rejected: Mapped[int]
    num_jobs: Mapped[int] = mapped_column(server_default=text("0"))
    """Number of jobs in all stages opened so far."""
    num_succeeded: Mapped[int] = mapped_column(server_default=text("0"))
    num_failed: Mapped[int] = mapped_column(server_default=text("0"))
    num_cancelled: Mapped[int] = mapped_column(server_default=text("0"))
    num_expired: Mapped[int] = mapped_column(server_default=text("0"))
    prompt_tokens: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    cached_tokens: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    new_tokens: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deadline_at: Mapped[datetime | None]
    first_claim_at: Mapped[datetime | None]
    last_commit_at: Mapped[datetime | None]
    """Instant at which a worker last committed a result. Cancellations do not count."""
    num_plan_failures: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    """Number of consecutive failures to plan the next stage."""
    plan_retry_at: Mapped[datetime | None]
    """No stage is closed and planned before this instant, because planning failed or jobs are being
    requeued."""
    plan_error: Mapped[str | None]
    finished_at: Mapped[datetime | None]


class StageRow(Base):
    """A stage of a batch. When its last job becomes final, the next stage is planned."""

    __tablename__ = "stages"

    batch_id: Mapped[UUID] = mapped_column(ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    name: Mapped[str]
    profile: Mapped[str]
    """Profile of the stage's jobs."""
    opened_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]


class JobRow(Base):
    """A job, the unit of retry."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("batch_id", "stage", "position"),
        UniqueConstraint("batch_id", "stage", "custom_id"),
        Index("ix_jobs_open", "batch_id", "status", postgresql_where=text("status IN ('queued', 'running')")),
        Index("ix_jobs_failed", "batch_id", "error_code", postgresql_where=text("status = 'failed'")),
        Index(
            "ix_jobs_unsent",
            "batch_id",
            "prefix_group",
            "position",
            postgresql_where=text("status = 'queued' AND sent_at IS NULL"),
        ),
        Index("ix_jobs_sent", "sent_at", postgresql_where=text("status = 'queued' AND sent_at IS NOT NULL")),
        Index("ix_jobs_leased", "lease_expires_at", postgresql_where=text("status = 'running'")),
        Index(
            "ix_jobs_suspect",
            "batch_id",
            postgresql_where=text("suspect_group IS NOT NULL AND status IN ('queued', 'running')"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    batch_id: Mapped[UUID] = mapped_column(ForeignKey("batches.id", ondelete="CASCADE"))
    stage: Mapped[int] = mapped_column(SmallInteger)
    position: Mapped[int]
    custom_id: Mapped[str]
    prefix_group: Mapped[str]
    """Key that the job shares with others whose prompts begin alike. These jobs are sent together."""
    payload: Mapped[Json]
    status: Mapped[JobStatus] = mapped_column(text_enum(JobStatus, "status"))
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    """Number of claims so far. For a running job it is the fence."""
    num_failures: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    suspect_group: Mapped[UUID | None]
    """Id that the job shares with others that were lost with the same worker. They run again together, with
    nothing else in flight."""
    parked_at: Mapped[datetime | None]
    """Instant at which the job was parked. A parked job stays queued, but is not sent until a user retries
    it."""
    cleared_attempt: Mapped[int] = mapped_column(server_default=text("0"))
    """Losses up to this attempt no longer count, because a later attempt ended without a loss, or a user
    requested a retry."""
    available_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """Instant before which the job is not sent: the end of its retry delay."""
    sent_at: Mapped[datetime | None]
    """Instant at which a message that names the job was last sent; None while there is no such message."""
    worker_id: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    queued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    metrics: Mapped[Json | None]
    """Numbers that describe the job's result, for people to read."""
    output: Mapped[Json | None]
    """Output for later stages and for exports; see jobs.outputs."""
    progress: Mapped[Json | None]
    """Progress of a long-running job, such as epoch, step and loss, for people to read."""
    prompt_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    cached_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    new_tokens: Mapped[int] = mapped_column(server_default=text("0"))


def job_is(*statuses: JobStatus) -> ColumnElement[bool]:
    """Return the condition that a job has one of these statuses.

    Statuses are rendered as literals, because a prepared statement with parameters uses no partial index.
    """
    return JobRow.status.in_(
        [literal(status, JobRow.status.type, literal_execute=True) for status in statuses]
    )


class AttemptRow(Base):
    """One claim of a job, and how it ended."""

    __tablename__ = "attempts"
    __table_args__ = (Index("ix_attempts_lost", "worker_id", postgresql_where=text("outcome = 'lost'")),)

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    worker_id: Mapped[str]
    celery_task_id: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
    outcome: Mapped[AttemptOutcome] = mapped_column(text_enum(AttemptOutcome, "outcome"))
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    alone: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether the dispatcher arranged that the worker had only this job in flight."""
    evidence: Mapped[Json | None]
    """Evidence about a lost attempt, as a `jobs.losses.Evidence`; None for other attempts."""


class ArtifactRow(Base):
    """A file that a succeeded job produced. Its bytes are in the store before this row is written."""

    __tablename__ = "artifacts"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(SmallInteger)
    object_key: Mapped[str] = mapped_column(index=True)
    byte_offset: Mapped[int | None] = mapped_column(BigInteger)
    """Offset of the artifact in its pack; None if it is stored as a separate object."""
    sha256: Mapped[str]
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    media_type: Mapped[str]


class StatementRow(Base):
    """The provenance statement for a job's artifacts, as canonical bytes that are never serialised again."""

    __tablename__ = "statements"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    body: Mapped[bytes]
    sha256: Mapped[str]
    object_key: Mapped[str] = mapped_column(index=True)
    byte_offset: Mapped[int | None] = mapped_column(BigInteger)
    """Offset of the statement in its pack; None if it is stored as a separate object."""


class KeptResultRow(Base):
    """A result, keyed by the digest of everything it was made from, so that it is made only once."""

    __tablename__ = "kept_results"
    __table_args__ = (
        Index("ix_kept_results_subject", "kind", "keep", "subject"),
        Index("ix_kept_results_made_at", "kind", "keep", "made_at"),
    )

    kind: Mapped[str] = mapped_column(primary_key=True)
    keep: Mapped[str] = mapped_column(primary_key=True)
    """Name under which the results are kept, chosen by a user or by the kind."""
    key: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str]
    """What the result is about, such as the id of a row, so that changed results differ from new ones."""
    value: Mapped[Json]
    num_new_tokens: Mapped[int]
    """Number of tokens generated for the result, from which the cost of further results is estimated."""
    job_id: Mapped[UUID]
    """Job whose statement is the result's provenance. It is not a foreign key: results outlive batches."""
    statement_sha256: Mapped[str]
    made_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ModelRow(Base):
    """A model that some worker has loaded."""

    __tablename__ = "models"

    manifest_sha256: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    manifest: Mapped[Json]
    first_loaded_at: Mapped[datetime] = mapped_column(server_default=func.now())


class LeadRow(Base):
    """The process that currently leads in a role, and the instant at which its lead expires."""

    __tablename__ = "leads"

    role: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    fence: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime]


class CandidateRow(Base):
    """A process that leads or is a standby. Its health check reads this row."""

    __tablename__ = "candidates"

    holder: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    host: Mapped[str]
    seen_at: Mapped[datetime]


class WorkerRow(Base):
    """A worker process. The dispatcher puts fewer jobs into each message if more workers are alive."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    profile: Mapped[str]
    device: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    max_jobs_in_flight: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ready_at: Mapped[datetime | None]
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    stopped_at: Mapped[datetime | None]
    """Instant at which the worker finished draining."""
    ended_at: Mapped[datetime | None]
    """Instant at which the worker's process ended, as reported by its supervisor."""
    ending: Mapped[Json | None]
    """How the process ended, as a `jobs.losses.Ending`."""
