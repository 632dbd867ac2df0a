"""Monitors, kept."""

from __future__ import annotations

from uuid import UUID, uuid4

from pydantic import TypeAdapter
from sqlalchemy import Connection, Engine, delete, func, select
from sqlalchemy.dialects import postgresql

from jobs.errors import PermanentError
from jobs.sources import Source
from kinds.sentiment.monitor import Monitor
from kinds.sentiment.series.policy import Policy
from kinds.sentiment.tables import EntityWindowRow, MonitorRow
from workers.delivery.targets import Target

_SOURCES: TypeAdapter[tuple[Source, ...]] = TypeAdapter(tuple[Source, ...])
_TARGETS: TypeAdapter[tuple[Target, ...]] = TypeAdapter(tuple[Target, ...])


class MonitorNotFoundError(PermanentError):
    """No monitor has this name."""

    code = "monitor_not_found"


def put_monitor(connection: Connection, monitor: Monitor) -> UUID:
    """Create the monitor, or change the one of its tenant and name to this; the id that it has.

    `monitor.id` counts for a new one only: `new_id()` makes one.
    """
    fields = {
        "watchlist_sha256": monitor.watchlist_sha256,
        "num_entities": monitor.num_entities,
        "policy": monitor.policy.model_dump(mode="json"),
        "sources": {"sources": _SOURCES.dump_python(monitor.sources, mode="json")},
        "targets": {"targets": _TARGETS.dump_python(monitor.targets, mode="json")},
        "settings": monitor.settings,
        "model": monitor.model,
    }
    is_named = (MonitorRow.tenant == monitor.tenant, MonitorRow.name == monitor.name)
    known = connection.scalar(select(MonitorRow.id).where(*is_named))
    if known is not None:
        lock_records(connection, known)  # before the row's lock, as those who write records
    earlier = connection.execute(
        select(MonitorRow.id, MonitorRow.policy).where(*is_named).with_for_update()
    ).one_or_none()
    if earlier is not None and earlier.policy != fields["policy"]:
        # Windows of another time zone or size are no past to go on from; the next batch computes all anew.
        # What a batch under way computes by the former policy is not kept.
        connection.execute(delete(EntityWindowRow).where(EntityWindowRow.monitor_id == earlier.id))
    statement = postgresql.insert(MonitorRow).values(
        id=monitor.id, tenant=monitor.tenant, name=monitor.name, **fields
    )
    return connection.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant", "name"], set_={**fields, "updated_at": func.now()}
        ).returning(MonitorRow.id)
    ).scalar_one()


def lock_records(connection: Connection, monitor_id: UUID) -> None:
    """Wait until nobody else writes the monitor's records, to the end of the transaction."""
    connection.execute(select(func.pg_advisory_xact_lock(monitor_id.int & (2**63 - 1))))


def new_id() -> UUID:
    """For a monitor that does not exist yet."""
    return uuid4()


def find_monitor(database: Engine, name: str, *, tenant: str = "default") -> Monitor:
    """The monitor of this name. Raises MonitorNotFoundError."""
    with database.connect() as connection:
        row = connection.execute(
            select(MonitorRow.__table__).where(MonitorRow.tenant == tenant, MonitorRow.name == name)
        ).one_or_none()
    if row is None:
        raise MonitorNotFoundError(f"no monitor is named {name!r}: see `pressroom monitor list`")
    return _monitor(row._mapping)


def get_monitor(database: Engine, monitor_id: UUID) -> Monitor:
    """The monitor of this id. Raises MonitorNotFoundError."""
    with database.connect() as connection:
        row = connection.execute(
            select(MonitorRow.__table__).where(MonitorRow.id == monitor_id)
        ).one_or_none()
    if row is None:
        raise MonitorNotFoundError(f"no monitor has the id {monitor_id}: see `pressroom monitor list`")
    return _monitor(row._mapping)


def list_monitors(database: Engine, *, tenant: str = "default") -> list[Monitor]:
    """All monitors of a tenant, by name."""
    with database.connect() as connection:
        rows = connection.execute(
            select(MonitorRow.__table__).where(MonitorRow.tenant == tenant).order_by(MonitorRow.name)
        )
        return [_monitor(row._mapping) for row in rows]


def _monitor(row: object) -> Monitor:
    fields = dict(row)  # type: ignore[call-overload]
    return Monitor(
        id=fields["id"],
        tenant=fields["tenant"],
        name=fields["name"],
        watchlist_sha256=fields["watchlist_sha256"],
        num_entities=fields["num_entities"],
        policy=Policy.model_validate(fields["policy"]),
        sources=_SOURCES.validate_python(fields["sources"]["sources"]),
        targets=_TARGETS.validate_python(fields["targets"]["targets"]),
        settings=fields["settings"],
        model=fields["model"],
    )
