"""Stores and reads monitors."""

from __future__ import annotations

from uuid import UUID, uuid4

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, and_, delete, func, select
from sqlalchemy.dialects import postgresql

from db.schedules import RecurringBatch, put_schedule
from db.tables import ScheduleRow
from jobs.errors import PermanentError
from jobs.sources import Source
from kinds.sentiment.monitor import KIND, Monitor
from kinds.sentiment.series.policy import Policy
from kinds.sentiment.tables import EntityWindowRow, MonitorRow
from workers.delivery import Target

_SOURCES: TypeAdapter[tuple[Source, ...]] = TypeAdapter(tuple[Source, ...])
_TARGETS: TypeAdapter[tuple[Target, ...]] = TypeAdapter(tuple[Target, ...])


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
        lock_records(connection, known)  # before the row's lock, as those who write records
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
        # Windows of another time zone or size cannot be continued, so the next batch recomputes everything.
        # What a batch under way computes with the former policy is not stored.
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


def list_monitors(database: Engine, *, tenant: str = "default") -> list[Monitor]:
    """Return all monitors of a tenant, ordered by name."""
    statement = _MONITORS.where(ScheduleRow.tenant == tenant).order_by(ScheduleRow.name)
    with database.connect() as connection:
        return [_monitor(row) for row in connection.execute(statement).mappings()]


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
