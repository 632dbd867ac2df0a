"""The state of a monitor's sources: which could not be read, and since when not all were."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Connection, DateTime, Engine, func, select

from db.tables import BatchRow, JobRow, StageRow
from jobs.batch import BatchStatus
from jobs.job import JobStatus
from jobs.sources import Source

_SOURCE: TypeAdapter[Source] = TypeAdapter(Source)

NEVER = datetime.fromtimestamp(0, UTC)
"""Time when all sources were read, for a monitor that never read them all; earlier than any document."""

READING_STAGES = ("collect", "documents")
"""Stages of the kind after which a document is in the history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadSource:
    """A source that the latest run could not read."""

    source: Source
    batch_id: UUID
    error_code: str
    error_message: str


def unread_sources(database: Engine, monitor_id: UUID) -> list[UnreadSource]:
    """Return the unread sources of the latest run that tried them, in their order; empty if all were read."""
    latest = (
        select(BatchRow.id)
        .join(StageRow, StageRow.batch_id == BatchRow.id)
        .where(
            BatchRow.schedule_id == monitor_id,
            StageRow.name == READING_STAGES[0],
            StageRow.closed_at.is_not(None),
        )
        .order_by(BatchRow.created_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    failed = (
        select(JobRow)
        .join(StageRow, (StageRow.batch_id == JobRow.batch_id) & (StageRow.number == JobRow.stage))
        .where(
            JobRow.batch_id == latest,
            JobRow.status == JobStatus.FAILED,
            StageRow.name == READING_STAGES[0],
        )
        .with_only_columns(JobRow.payload, JobRow.batch_id, JobRow.error_code, JobRow.error_message)
        .order_by(JobRow.position)
    )
    with database.connect() as connection:
        return [
            UnreadSource(
                source=_SOURCE.validate_python(row.payload["source"]),
                batch_id=row.batch_id,
                error_code=row.error_code or "",
                error_message=row.error_message or "",
            )
            for row in connection.execute(failed)
        ]


def unobserved_since(database: Engine, monitor_id: UUID) -> datetime | None:
    """Return since when silence alerts are suppressed, because the latest run has not read and analysed
    everything.

    None if it has; NEVER if no run ever did.
    """
    latest = (
        select(BatchRow.settings["as_of"].astext.cast(DateTime(timezone=True)))
        .join(StageRow, StageRow.batch_id == BatchRow.id)
        .where(
            BatchRow.schedule_id == monitor_id,
            BatchRow.settings["as_of"].astext.is_not(None),
            StageRow.name == READING_STAGES[-1],
            StageRow.closed_at.is_not(None),
        )
        .order_by(BatchRow.created_at.desc())
        .limit(1)
    )
    with database.connect() as connection:
        due_at, observed_at = connection.scalar(latest), read_until(connection, monitor_id) or NEVER
    return observed_at if due_at is not None and observed_at < due_at else None


def observed_until(connection: Connection, monitor_id: UUID) -> datetime | None:
    """Return the same as `read_until`, for finished runs only: silence was judged up to then."""
    return _read_until(connection, monitor_id, BatchRow.status == BatchStatus.FINISHED)


def read_until(connection: Connection, monitor_id: UUID) -> datetime | None:
    """Return when the latest run that read all its sources and analysed all their documents was due.

    Its windows may have been judged already, whatever becomes of the batch.
    """
    closed = (
        select(StageRow.number)
        .where(
            StageRow.batch_id == BatchRow.id,
            StageRow.name == READING_STAGES[-1],
            StageRow.closed_at.is_not(None),
        )
        .correlate(BatchRow)
    )
    return _read_until(connection, monitor_id, (BatchRow.status == BatchStatus.FINISHED) | closed.exists())


def _read_until(connection: Connection, monitor_id: UUID, is_done: ColumnElement[bool]) -> datetime | None:
    unfinished = (
        select(JobRow.id)
        .join(StageRow, (StageRow.batch_id == JobRow.batch_id) & (StageRow.number == JobRow.stage))
        .where(
            JobRow.batch_id == BatchRow.id,
            JobRow.status != JobStatus.SUCCEEDED,
            StageRow.name.in_(READING_STAGES),
        )
        .correlate(BatchRow)
    )
    num_unfinished = BatchRow.num_failed + BatchRow.num_cancelled + BatchRow.num_expired
    due_at = BatchRow.settings["as_of"].astext.cast(DateTime(timezone=True))
    return connection.scalar(
        select(func.max(due_at)).where(
            BatchRow.schedule_id == monitor_id,
            is_done,
            (num_unfinished == 0) | ~unfinished.exists(),
        )
    )
