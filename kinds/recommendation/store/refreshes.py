"""Stores refreshes in Postgres."""

from __future__ import annotations

from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, RowMapping, func, select
from sqlalchemy.dialects import postgresql

from db.schedules import Recurring, put_schedule
from db.tables import ScheduleRow
from jobs.errors import PermanentError
from kinds.recommendation.refresh import KIND, Refresh, RefreshSources, ServingPlace
from kinds.recommendation.tables import RefreshRow


class RefreshNotFoundError(PermanentError):
    """No refresh has this name or id."""

    code = "refresh_not_found"


def put_refresh(connection: Connection, refresh: Refresh) -> UUID:
    """Create the refresh, or update the one with its tenant and name, and return its id.

    `refresh.id`, from `new_id()`, is used for a new refresh only. The published release does not change.
    """
    fields = {
        "sources": None if refresh.sources is None else refresh.sources.model_dump(mode="json"),
        "serving": None if refresh.serving is None else refresh.serving.model_dump(mode="json"),
    }
    recurring = Recurring(
        kind=KIND,
        tenant=refresh.tenant,
        name=refresh.name,
        model=refresh.model,
        settings=refresh.settings,
    )
    refresh_id = put_schedule(connection, recurring, new_id=refresh.id)
    connection.execute(
        postgresql.insert(RefreshRow)
        .values(id=refresh_id, **fields)
        .on_conflict_do_update(index_elements=["id"], set_={**fields, "updated_at": func.now()})
    )
    return refresh_id


def new_id() -> UUID:
    """Return an id for a refresh that does not exist yet."""
    return uuid4()


def find_refresh(database: Engine, name: str, tenant: str = "default") -> Refresh:
    """Return the refresh with this name. Raises RefreshNotFoundError."""
    statement = _REFRESHES.where(
        ScheduleRow.kind == KIND, ScheduleRow.tenant == tenant, ScheduleRow.name == name
    )
    with database.connect() as connection:
        row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        raise RefreshNotFoundError(f"no refresh is named {name!r}: see `pressroom refresh list`")
    return _refresh(row)


def get_refresh(database: Engine, refresh_id: UUID) -> Refresh:
    """Return the refresh with this id. Raises RefreshNotFoundError."""
    with database.connect() as connection:
        row = connection.execute(_REFRESHES.where(RefreshRow.id == refresh_id)).mappings().one_or_none()
    if row is None:
        raise RefreshNotFoundError(f"no refresh has the id {refresh_id}: see `pressroom refresh list`")
    return _refresh(row)


def list_refreshes(database: Engine) -> list[Refresh]:
    """Return all refreshes, oldest first."""
    statement = _REFRESHES.order_by(ScheduleRow.created_at, ScheduleRow.name)
    with database.connect() as connection:
        return [_refresh(row) for row in connection.execute(statement).mappings()]


_REFRESHES = select(
    RefreshRow.__table__, ScheduleRow.tenant, ScheduleRow.name, ScheduleRow.settings, ScheduleRow.model
).join(ScheduleRow, ScheduleRow.id == RefreshRow.id)


def _refresh(row: RowMapping) -> Refresh:
    return Refresh(
        id=row["id"],
        tenant=row["tenant"],
        name=row["name"],
        model=row["model"],
        settings=row["settings"],
        sources=None if row["sources"] is None else RefreshSources.model_validate(row["sources"]),
        serving=None if row["serving"] is None else ServingPlace.model_validate(row["serving"]),
        published_release_id=row["published_release_id"],
    )
