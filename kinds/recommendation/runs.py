"""A run of a recommender on demand."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID

from sqlalchemy import Engine

from kinds.recommendation.payload import RecommenderSettings
from kinds.recommendation.recommender import Recommender
from kinds.recommendation.scheduled import Run, profiles_of, start_run
from kinds.recommendation.store import recommenders
from pressroom.run import RunOnDemand
from workers.settings import Settings


def recommender_run(
    name: str, settings: Settings, device: str, out: Path | None, database: Engine
) -> RunOnDemand:
    """Return a run of the recommender that starts now; without `out`, a plan that publishes nothing."""
    recommender = recommenders.find_recommender(database, name)
    plan_only = out is None
    folder = "out" if out is None else str(out)
    own = RecommenderSettings.model_validate(recommender.settings)
    return RunOnDemand(
        schedule_id=None if plan_only else recommender.id,
        profiles=profiles_of(recommender.model, own, settings),
        resume_command=("pressroom", "run", "recommendations", "--device", device, "--out", folder),
        start=partial(_start_now, recommender, settings, plan_only),
    )


def _start_now(recommender: Recommender, settings: Settings, plan_only: bool, database: Engine) -> UUID:
    """Queue a run now, regardless of the schedule."""
    with database.begin() as connection:
        run = Run(recommender=recommender, as_of=datetime.now(UTC), plan_only=plan_only)
        return start_run(connection, run, settings).batch_id
