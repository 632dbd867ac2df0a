"""Stores and reads monitors, and determines until when their sources have been read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Connection, DateTime, Engine, RowMapping, and_, delete, func, select
from sqlalchemy.dialects import postgresql

from db.schedules import RecurringBatch, put_schedule
from db.tables import BatchRow, JobRow, ScheduleRow, StageRow
from jobs.batch import BatchStatus
from jobs.errors import PermanentError
from jobs.job import JobStatus
from jobs.sources import Source
from kinds.sentiment.monitor import KIND, Monitor
from kinds.sentiment.series.policy import Policy
from kinds.sentiment.tables import EntityWindowRow, MonitorRow
from workers.delivery import Target

_SOURCES: TypeAdapter[tuple[Source, ...]] = TypeAdapter(tuple[Source, ...])

_TARGETS: TypeAdapter[tuple[Target, ...]] = TypeAdapter(tuple[Target, ...])

_SOURCE: TypeAdapter[Source] = TypeAdapter(Source)

NEVER = datetime.fromtimestamp(0, UTC)
"""Time used if no run has ever read all sources; it is earlier than any document."""

READING_STAGES = ("collect", "documents")
"""Stages that must have ended before all documents of a batch are in the history."""


class MonitorNotFoundError(PermanentError):
    """No monitor has this name."""

    code = "monitor_not_found"


def put_monitor(connection: Connection, monitor: Monitor) -> UUID:
    """Create the monitor, or change the one with its tenant and name, and return its id.

    `monitor.id` is used for a new monitor only; `new_id()` creates one.
    """
    fields = {
        "watchlist_sha256": monitor.watchlist_sha256,
        "num_entities": monitor.num_entities,
        "policy": monitor.policy.model_dump(mode="json"),
        "sources": {"sources": _SOURCES.dump_python(monitor.sources, mode="json")},
        "targets": {"targets": _TARGETS.dump_python(monitor.targets, mode="json")},
    }
    known = connection.scalar(select(ScheduleRow.id).where(_is_named(monitor.tenant, monitor.name)))
    if known is not None:
        lock_records(connection, known)  # before locking the row, as writers of records do
    recurring = RecurringBatch(
        kind=KIND,
        tenant=monitor.tenant,
        name=monitor.name,
        model=monitor.model,
        settings=monitor.settings,
    )
    monitor_id = put_schedule(connection, recurring, new_id=monitor.id)
    earlier = connection.execute(
        select(MonitorRow.policy).where(MonitorRow.id == monitor_id).with_for_update(key_share=True)
    ).one_or_none()
    if earlier is not None and earlier.policy != fields["policy"]:
        # Windows of a different time zone or size cannot be continued, so the next batch recomputes
        # everything. Results that a running batch computes with the former policy are not stored.
        connection.execute(delete(EntityWindowRow).where(EntityWindowRow.monitor_id == monitor_id))
    connection.execute(
        postgresql.insert(MonitorRow)
        .values(id=monitor_id, **fields)
        .on_conflict_do_update(index_elements=["id"], set_={**fields, "updated_at": func.now()})
    )
    return monitor_id


def lock_records(connection: Connection, monitor_id: UUID) -> None:
    """Wait for other transactions that write the monitor's records, and lock them until this one ends."""
    connection.execute(select(func.pg_advisory_xact_lock(monitor_id.int & (2**63 - 1))))


def new_id() -> UUID:
    """Return an id for a monitor that does not exist yet."""
    return uuid4()


def find_monitor(database: Engine, name: str, *, tenant: str = "default") -> Monitor:
    """Return the monitor with this name. Raises MonitorNotFoundError."""
    with database.connect() as connection:
        row = connection.execute(_MONITORS.where(_is_named(tenant, name))).mappings().one_or_none()
    if row is None:
        raise MonitorNotFoundError(f"no monitor is named {name!r}: see `pressroom monitor list`")
    return _monitor(row)


def get_monitor(database: Engine, monitor_id: UUID) -> Monitor:
    """Return the monitor with this id. Raises MonitorNotFoundError."""
    with database.connect() as connection:
        row = connection.execute(_MONITORS.where(MonitorRow.id == monitor_id)).mappings().one_or_none()
    if row is None:
        raise MonitorNotFoundError(
            f"no monitor has the id {monitor_id}, perhaps because it was removed: see "
            "`pressroom monitor list`"
        )
    return _monitor(row)


_MONITORS = select(
    MonitorRow.__table__, ScheduleRow.tenant, ScheduleRow.name, ScheduleRow.settings, ScheduleRow.model
).join(ScheduleRow, ScheduleRow.id == MonitorRow.id)


def _is_named(tenant: str, name: str) -> ColumnElement[bool]:
    return and_(ScheduleRow.kind == KIND, ScheduleRow.tenant == tenant, ScheduleRow.name == name)


def _monitor(row: RowMapping) -> Monitor:
    return Monitor(
        id=row["id"],
        tenant=row["tenant"],
        name=row["name"],
        watchlist_sha256=row["watchlist_sha256"],
        num_entities=row["num_entities"],
        policy=Policy.model_validate(row["policy"]),
        sources=_SOURCES.validate_python(row["sources"]["sources"]),
        targets=_TARGETS.validate_python(row["targets"]["targets"]),
        settings=row["settings"],
        model=row["model"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadSource:
    """A source that the latest run could not read."""

    source: Source
    batch_id: UUID
    error_code: str
    error_message: str


def unread_sources(database: Engine, monitor_id: UUID) -> list[UnreadSource]:
    """Return the sources that the latest run could not read, in their order; empty if all were read.

    Runs that have not tried all sources yet do not count.
    """
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
    """Return the instant since which silence alerts are suppressed; None if they are not.

    They are suppressed if the latest run has not read and analysed everything. The instant is NEVER if no run
    has done so.
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
    """Return the same as `read_until`, but for finished runs only.

    Silence has been judged up to the returned instant.
    """
    return _read_until(connection, monitor_id, BatchRow.status == BatchStatus.FINISHED)


def read_until(connection: Connection, monitor_id: UUID) -> datetime | None:
    """Return when the latest run that read all its sources and analysed all their documents was due.

    The result is None if there is no such run. The run may already have judged windows up to that time, even
    if its batch does not finish.
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
