"""Runs of recommenders. Each run is a batch; its files are ingested beforehand or by its first job."""

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
from jobs.shown import utc_text
from kinds.recommendation.catalogue.inputs import Inputs
from kinds.recommendation.payload import (
    CollectPayload,
    RecommendationPayload,
    RecommendationSettings,
    RecommenderSettings,
)
from kinds.recommendation.plan import Jobs, embed_jobs, fit_job
from kinds.recommendation.recommender import KIND, Recommender, Release
from kinds.recommendation.store.recommenders import get_recommender
from kinds.recommendation.store.releases import get_release, list_releases
from workers.intake import BatchRequest
from workers.models.manifest import model_digest
from workers.producer import Submission, new_batch
from workers.recurring import KindSchedules, ScheduleDescription
from workers.settings import Settings

STAGES = ("collect", "embed", "fit", "rank", "plan_texts", "texts", "publish")
PLAN_STAGES = STAGES[: STAGES.index("texts")]
"""Stages of a plan, which only reports the texts that a run would write and publishes nothing. Like a run,
it reuses results that are computed already."""


class RecommenderWithoutSourcesError(ConfigurationError):
    """The recommender has no source files; it only receives those passed to `run recommendations`."""

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
    """Digest of the inputs if they are ingested already; None if the batch's first job reads the files."""
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
    # Plans, which publish nothing, and runs on submitted files may overlap the recommender's own runs.
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


class RecommenderSchedules(KindSchedules):
    """A recommender is a schedule whose runs read the recommender's files and make a release."""

    create_command = "refresh create"
    id_setting = "recommender_id"

    def start(self, connection: Connection, schedule: Schedule, due_at: datetime, settings: Settings) -> UUID:
        """Start a run of the recommender, as `start_run` does. Also raises RecommenderNotFoundError."""
        recommender = get_recommender(connection.engine, schedule.id)
        # Availability is judged at the present time, because a missed run may have been due days ago.
        run = Run(recommender=recommender, as_of=max(due_at, datetime.now(UTC)))
        return start_run(connection, run, settings).batch_id

    def describe(self, database: Engine, schedule: Schedule) -> ScheduleDescription:
        """Describe the files and the releases, the newest one first."""
        recommender = get_recommender(database, schedule.id)
        sources, published = recommender.sources, recommender.published_release_id
        every = list_releases(database, recommender.id)
        number = next((release.number for release in every if release.id == published), None)
        files = () if sources is None else sources.model_dump().items()
        return ScheduleDescription(
            remark="no release" if number is None else f"release {number}",
            lines=[
                *files,
                *(("release", _release_text(release, release.id == published)) for release in every),
            ],
            fields={
                "sources": None if sources is None else sources.model_dump(),
                "releases": [
                    {
                        "number": release.number,
                        "made_at": utc_text(release.made_at),
                        "published_at": utc_text(release.published_at),
                        "is_published": release.id == published,
                        "batch_id": str(release.batch_id),
                        "manifest_sha256": release.manifest_sha256,
                        "figures": dict(release.figures),
                    }
                    for release in every
                ],
            },
        )

    def remove(self, connection: Connection, schedule: Schedule) -> None:
        """Delete the recommender with its releases and its withdrawn items.

        Texts stay, because recommenders share them. Raises RunUnderWayError.
        """
        super().remove(connection, schedule)


def _release_text(release: Release, is_published: bool) -> str:
    figures = release.figures
    return (
        f"{release.number}{' (published)' if is_published else ''}  {release.made_at:%Y-%m-%d %H:%M}Z  "
        f"{figures.get('num_users')} users, {figures.get('num_texts_written')} texts written, "
        f"{figures.get('num_texts_carried')} carried over"
    )
