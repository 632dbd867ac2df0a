"""Stores recommenders in Postgres."""

from __future__ import annotations

from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, RowMapping, func, select
from sqlalchemy.dialects import postgresql

from db.schedules import RecurringBatch, put_schedule
from db.tables import ScheduleRow
from jobs.errors import PermanentError
from kinds.recommendation.recommender import KIND, Recommender, RecommenderSources, ServingPlace
from kinds.recommendation.tables import RecommenderRow


class RecommenderNotFoundError(PermanentError):
    """No recommender has this name or id."""

    code = "refresh_not_found"


def put_recommender(connection: Connection, recommender: Recommender) -> UUID:
    """Create the recommender, or update the one with the same tenant and name, and return its id.

    `recommender.id`, which comes from `new_id()`, is used only for a new recommender. The published release
    does not change.
    """
    fields = {
        "sources": None if recommender.sources is None else recommender.sources.model_dump(mode="json"),
        "serving": None if recommender.serving is None else recommender.serving.model_dump(mode="json"),
    }
    recurring = RecurringBatch(
        kind=KIND,
        tenant=recommender.tenant,
        name=recommender.name,
        model=recommender.model,
        settings=recommender.settings,
    )
    recommender_id = put_schedule(connection, recurring, new_id=recommender.id)
    connection.execute(
        postgresql.insert(RecommenderRow)
        .values(id=recommender_id, **fields)
        .on_conflict_do_update(index_elements=["id"], set_={**fields, "updated_at": func.now()})
    )
    return recommender_id


def new_id() -> UUID:
    """Return an id for a recommender that does not exist yet."""
    return uuid4()


def find_recommender(database: Engine, name: str, tenant: str = "default") -> Recommender:
    """Return the recommender with this name. Raises RecommenderNotFoundError."""
    statement = _RECOMMENDERS.where(
        ScheduleRow.kind == KIND, ScheduleRow.tenant == tenant, ScheduleRow.name == name
    )
    with database.connect() as connection:
        row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        raise RecommenderNotFoundError(f"no recommender is named {name!r}: see `pressroom refresh list`")
    return _recommender(row)


def get_recommender(database: Engine, recommender_id: UUID) -> Recommender:
    """Return the recommender with this id. Raises RecommenderNotFoundError."""
    with database.connect() as connection:
        row = (
            connection.execute(_RECOMMENDERS.where(RecommenderRow.id == recommender_id))
            .mappings()
            .one_or_none()
        )
    if row is None:
        raise RecommenderNotFoundError(
            f"no recommender has the id {recommender_id}, perhaps because it was removed: see "
            "`pressroom refresh list`"
        )
    return _recommender(row)


def list_recommenders(database: Engine) -> list[Recommender]:
    """Return all recommenders, oldest first."""
    statement = _RECOMMENDERS.order_by(ScheduleRow.created_at, ScheduleRow.name)
    with database.connect() as connection:
        return [_recommender(row) for row in connection.execute(statement).mappings()]


_RECOMMENDERS = select(
    RecommenderRow.__table__, ScheduleRow.tenant, ScheduleRow.name, ScheduleRow.settings, ScheduleRow.model
).join(ScheduleRow, ScheduleRow.id == RecommenderRow.id)


def _recommender(row: RowMapping) -> Recommender:
    return Recommender(
        id=row["id"],
        tenant=row["tenant"],
        name=row["name"],
        model=row["model"],
        settings=row["settings"],
        sources=None if row["sources"] is None else RecommenderSources.model_validate(row["sources"]),
        serving=None if row["serving"] is None else ServingPlace.model_validate(row["serving"]),
        published_release_id=row["published_release_id"],
    )
