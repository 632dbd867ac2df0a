"""Turns a run of a recommender into a batch, whose files are ingested before or by its first job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import Connection, Engine

from db.batches import accept_in
from db.schedules import Schedule
from db.stages import NewJob
from jobs.batch import NewBatch
from jobs.errors import ConfigurationError
from jobs.registry import load_kind
from kinds.recommendation.catalogue.inputs import Inputs
from kinds.recommendation.payload import (
    CollectPayload,
    RecommendationPayload,
    RecommendationSettings,
    RecommenderSettings,
)
from kinds.recommendation.plan import Jobs, embed_jobs, fit_job
from kinds.recommendation.recommender import KIND, Recommender
from kinds.recommendation.store.recommenders import get_recommender
from kinds.recommendation.store.releases import get_release
from workers.intake import BatchRequest
from workers.models.manifest import model_digest
from workers.producer import Submission, new_batch
from workers.settings import Settings

STAGES = ("collect", "embed", "fit", "rank", "plan_texts", "texts", "publish")
PLAN_STAGES = STAGES[: STAGES.index("texts")]
"""Stages of a plan, which writes and publishes nothing. It only reports what a run would write; computed
results are reused."""


class RecommenderWithoutSourcesError(ConfigurationError):
    """The recommender names no files of its own; it only gets those of `run recommendations`."""

    code = "refresh_without_sources"


def profiles_of(model: str, own: RecommenderSettings, settings: Settings) -> tuple[str, ...]:
    """Return the profiles whose workers a run needs.

    Raises ConfigurationError if no profile loads the models of a stage.
    """
    kind = load_kind(KIND)
    return tuple(dict.fromkeys(settings.profile_of(kind.models(model, own, stage)) for stage in STAGES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a recommender."""

    recommender: Recommender
    as_of: datetime
    plan_only: bool = False
    inputs_sha256: str | None = None
    """Digest of inputs that are ingested already; None if the batch's first job reads the files."""
    inputs: Inputs | None = None


def batch_of(database: Engine, run: Run, settings: Settings) -> NewBatch:
    """Return the batch of a run. Raises RecommenderWithoutSourcesError and what `new_batch` raises."""
    recommender = run.recommender
    if run.inputs is None and recommender.sources is None:
        raise RecommenderWithoutSourcesError(
            f"the recommender {recommender.name!r} names no files: add them with `pressroom refresh "
            f"create`, or give them to `pressroom run recommendations --refresh {recommender.name}`"
        )
    own = RecommendationSettings.model_validate(_settings(database, run, settings))
    stages = PLAN_STAGES if run.plan_only else STAGES
    if run.inputs is not None:
        stages = stages[1 if own.embedder else 2 :]
    name = (
        f"{'plan of ' if run.plan_only else ''}{recommender.name} {run.as_of.astimezone(UTC):%Y-%m-%d %H:%M}Z"
    )
    # Runs of given files, and plans, which publish nothing, may overlap the recommender's own runs.
    schedule_id = recommender.id if run.inputs is None and not run.plan_only else None
    request = BatchRequest(
        kind=KIND,
        model=recommender.model,
        settings=own.model_dump(mode="json"),
        tenant=recommender.tenant,
        stages=stages,
    )
    return new_batch(request, settings, name=name, schedule_id=schedule_id)


def _settings(database: Engine, run: Run, settings: Settings) -> Mapping[str, object]:
    recommender = run.recommender
    previous = None
    if recommender.published_release_id is not None:
        previous = get_release(database, recommender.published_release_id).manifest_sha256
    return {
        **recommender.settings,
        "recommender": recommender.name,
        "recommender_id": recommender.id,
        "as_of": run.as_of.astimezone(UTC),
        "language_model": recommender.model or None,
        "language_model_digest": model_digest(settings.models_folder, recommender.model)
        if recommender.model
        else "",
        "sources": recommender.sources if run.inputs is None else None,
        "inputs_sha256": run.inputs_sha256,
        "previous_sha256": previous,
        "plan_only": run.plan_only,
    }


def start_run(connection: Connection, run: Run, settings: Settings) -> Submission:
    """Create the run's batch in this transaction. Raises RunUnderWayError and what `batch_of` raises."""
    batch = batch_of(connection.engine, run, settings)
    jobs = [
        NewJob(custom_id, payload.model_dump(mode="json"), payload.root.stage)
        for custom_id, payload in first_jobs(run, batch)
    ]
    return Submission(*accept_in(connection, batch, jobs, lambda: 0))


def first_jobs(run: Run, batch: NewBatch) -> Jobs:
    """Yield the jobs that a run begins with, as pairs of custom_id and payload."""
    if run.inputs is None or run.inputs_sha256 is None:
        yield "files", RecommendationPayload(CollectPayload())
    elif batch.stages[0].name == "embed":
        own = RecommendationSettings.model_validate(batch.settings)
        yield from embed_jobs(run.inputs_sha256, run.inputs.num_items, own)
    else:
        yield fit_job(run.inputs_sha256)


def start_scheduled(connection: Connection, schedule: Schedule, due_at: datetime, settings: Settings) -> UUID:
    """Start the run of a due time for the recommender of a schedule.

    Raises RecommenderNotFoundError and what `start_run` raises.
    """
    recommender = get_recommender(connection.engine, schedule.id)
    # Availability is judged by the present time, as a due time that is caught up on may be days ago.
    run = Run(recommender=recommender, as_of=max(due_at, datetime.now(UTC)))
    return start_run(connection, run, settings).batch_id
