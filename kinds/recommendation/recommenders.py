"""Operations on recommenders for commands: create, ingest files, run, open a release, and roll back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID

from sqlalchemy import Engine

from db import schedules
from db.kept import find_kept
from jobs.documents.reading import OnNote
from jobs.errors import ConfigurationError
from jobs.kept import KeptResult
from jobs.provenance import sha256_hex
from jobs.rejection import Rejected
from kinds.recommendation.catalogue.inputs import Inputs
from kinds.recommendation.collect import gone_items, ingest_files
from kinds.recommendation.materials import load_catalogue
from kinds.recommendation.payload import RecommenderSettings
from kinds.recommendation.recommender import KIND, Recommender, RecommenderSources, Release
from kinds.recommendation.recommender_file import RecommenderFile
from kinds.recommendation.recommender_runs import Run, batch_of, profiles_of, start_run
from kinds.recommendation.release import ReleaseManifest, ReleaseReader, read_manifest
from kinds.recommendation.store import recommenders, releases
from kinds.recommendation.store.recommenders import RecommenderNotFoundError
from kinds.recommendation.texts.text import Text
from kinds.recommendation.texts.write import text_bytes
from kinds.recommendation.versions import code_digest
from pressroom.results import OnAltered, ResultReader
from pressroom.run import RunOnDemand
from storage.store import Store
from workers.models.manifest import model_digest
from workers.ports import StoredResources
from workers.settings import Settings

MAX_CHECKED_TEXTS = 100_000
"""Maximum number of texts that are remembered as checked; they take about 20 MB."""


def make_recommender(
    database: Engine, file: RecommenderFile, name: str, settings: Settings, *, has_sources: bool
) -> tuple[Recommender, bool]:
    """Create the recommender, or update the one with this name; return it and whether it is new.

    With `has_sources`, which only `refresh create` sets, the recommender's own runs read the files that
    `file` names. Otherwise, a recommender that has sources is not updated: it is returned with the settings
    of `file` for a single run. Raises ConfigurationError for models that no profile has, and CronError.
    """
    earlier = earlier_recommender(database, name)
    sources = None if earlier is None else earlier.sources
    if has_sources:
        sources = RecommenderSources(catalogue=str(file.catalogue), interactions=str(file.interactions))
    recommender = Recommender(
        id=earlier.id if earlier else recommenders.new_id(),
        tenant="default",
        name=name,
        model=file.language_model,
        settings=file.settings.model_dump(mode="json"),
        sources=sources,
        serving=file.serving if has_sources or earlier is None else earlier.serving,
    )
    if has_sources:
        run = Run(recommender=recommender, as_of=datetime.now(UTC))
        batch_of(database, run, settings)  # fails now if every run would fail
    if earlier is not None and earlier.sources is not None and not has_sources:
        return replace(earlier, model=recommender.model, settings=recommender.settings), False
    with database.begin() as connection:
        recommender_id = recommenders.put_recommender(connection, recommender)
        if file.schedule is not None:
            schedules.set_times(connection, recommender_id, file.schedule, file.catch_up)
        elif has_sources:
            schedules.clear_times(connection, recommender_id)
    return recommenders.get_recommender(database, recommender_id), earlier is None


def earlier_recommender(database: Engine, name: str) -> Recommender | None:
    """Return the recommender of this name, or None."""
    try:
        return recommenders.find_recommender(database, name)
    except RecommenderNotFoundError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestedRun:
    """A run whose files are ingested, and the effect of these files on the published release."""

    run: Run
    num_withdrawn: int
    """Number of items that were withdrawn from the published lists."""
    unchanged: Release | None
    """The published release if the run would only reproduce it, and None otherwise."""


def ingest_run(
    database: Engine,
    store: Store,
    recommender: Recommender,
    sources: RecommenderSources,
    settings: Settings,
    on_rejected: Callable[[Rejected], None],
    on_note: OnNote | None = None,
) -> IngestedRun:
    """Read the files in this process, and withdraw unavailable items from the published lists.

    Raises what ingest_files raises.
    """
    now = datetime.now(UTC)
    resources = StoredResources(store)
    published = published_release(database, recommender)
    previous = None if published is None else read_manifest(resources.read(published.manifest_sha256))
    own = RecommenderSettings.model_validate(recommender.settings)
    inputs_sha256, inputs = ingest_files(
        sources, own.intake, previous, resources, on_rejected, now=now, on_note=on_note
    )
    gone = gone_items(resources, previous, inputs_sha256, now)
    releases.withdraw(database, recommender.id, gone)
    run = Run(recommender=recommender, as_of=now, inputs_sha256=inputs_sha256, inputs=inputs)
    is_same = previous is not None and _is_same(previous, run, own, inputs, resources, settings)
    items = load_catalogue(resources, inputs_sha256).by_id
    withdrawn = releases.withdrawn_items(database, recommender.id)
    if any(name in items and items[name].is_available(now) for name in withdrawn):
        is_same = False  # withdrawn by hand or only temporarily, so this run has to decide again
    return IngestedRun(run=run, num_withdrawn=len(gone), unchanged=published if is_same else None)


def _is_same(
    previous: ReleaseManifest,
    run: Run,
    own: RecommenderSettings,
    inputs: Inputs,
    resources: StoredResources,
    settings: Settings,
) -> bool:
    """Return whether the run would only reproduce the published release."""
    model = run.recommender.model
    is_same = (
        previous.catalogue_sha256 == inputs.catalogue_sha256
        and tuple(block.interactions_sha256 for block in previous.blocks) == inputs.blocks
        and previous.rules == own.rules
        and previous.ranking == own.ranking
        and previous.text_policy == own.text_policy
        and previous.embedder == own.embedder
        and previous.language_model == (model or None)
        and previous.language_model_digest == (model_digest(settings.models_folder, model) if model else "")
        and previous.code == code_digest(own.text_policy)
        and previous.counts.num_texts_failed == 0
    )
    if not is_same:
        return False
    items = load_catalogue(resources, previous.inputs_sha256).items
    return all(item.is_available(previous.as_of) == item.is_available(run.as_of) for item in items)


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


def published_release(database: Engine, recommender: Recommender) -> Release | None:
    """Return the published release, or None."""
    if recommender.published_release_id is None:
        return None
    return releases.get_release(database, recommender.published_release_id)


def require_release(database: Engine, recommender: Recommender, number: int | None = None) -> Release:
    """Return the release with this number, or the published one by default.

    Raises ReleaseNotFoundError, or ConfigurationError if no release is published.
    """
    if number is not None:
        return releases.find_release(database, recommender.id, number)
    release = published_release(database, recommender)
    if release is None:
        raise ConfigurationError(
            f"the recommender {recommender.name!r} has no release yet: run it with `pressroom refresh run "
            f"{recommender.name}`",
            code="release_not_found",
        )
    return release


def open_release(
    database: Engine, store: Store, release: Release, on_altered: OnAltered | None = None
) -> ReleaseReader:
    """Return a reader of the release, without the items that have become unavailable since it was made.

    The manifest is checked against the statement of the job that made it; everything else but the texts is
    checked against a digest in the manifest. A text that differs from its job's statement is passed to
    `on_altered` and left out; without `on_altered` it is an error. Raises ArtifactAlteredError,
    StatementAlteredError or ResourceMissingError.
    """
    checker = ResultReader(database, store, on_altered)
    checker.check_digest(release.id, release.manifest_sha256, f"release {release.number}")
    resources = StoredResources(store)
    manifest = read_manifest(resources.read(release.manifest_sha256))
    now = datetime.now(UTC)
    items = load_catalogue(resources, manifest.inputs_sha256).items
    expired = {item.id for item in items if not item.is_available(now)}
    withdrawn = releases.withdrawn_items(database, release.recommender_id)
    return ReleaseReader(
        manifest=manifest,
        number=release.number,
        read=resources.read,
        texts=CheckedTexts(checker).find,
        withdrawn=frozenset(withdrawn) | expired,
    )


class CheckedTexts:
    """The texts in Postgres, each checked against the statement of its job. It is not thread-safe."""

    def __init__(self, source: ResultReader) -> None:
        self._source = source
        self._checked: set[tuple[UUID, str]] = set()
        """Checked pairs of job id and text digest, kept because a release is read more than once."""

    def find(self, keys: Collection[str]) -> Mapping[str, Text]:
        """Return the stored texts of these keys, without those that differ from what was committed."""
        if len(self._checked) > MAX_CHECKED_TEXTS:
            self._checked.clear()
        kept = find_kept(self._source.database, KIND, keys)
        texts = {key: Text.model_validate(row.value) for key, row in kept.items()}
        named = {key: (row.job_id, _text_digest(row, texts[key])) for key, row in kept.items()}
        self._check([pair for pair in named.values() if pair not in self._checked])
        return {key: text for key, text in texts.items() if named[key] in self._checked}

    def _check(self, pairs: Sequence[tuple[UUID, str]]) -> None:
        are_named = self._source.names_digests([pair[0] for pair in pairs], [pair[1] for pair in pairs])
        self._checked.update(pair for pair, is_named in zip(pairs, are_named, strict=True) if is_named)


def _text_digest(row: KeptResult, text: Text) -> str:
    # Fields that were introduced after the text was written are not in its artifact
    return sha256_hex(text_bytes(row.key, row.subject, text.model_dump(exclude_unset=True)))


def rollback(database: Engine, store: Store, recommender: Recommender, number: int | None) -> Release:
    """Publish a release again; without a number, the latest earlier release that has ever been published.

    Items that have become unavailable stay off the lists. Raises ReleaseNotFoundError or
    ConfigurationError.
    """
    published = published_release(database, recommender)
    every = releases.list_releases(database, recommender.id)
    if number is None:
        before = [
            release
            for release in every
            if published and release.number < published.number and release.published_at
        ]
        if not before:
            raise ConfigurationError(
                f"the recommender {recommender.name!r} has no release before the published one",
                code="release_not_found",
            )
        number = before[0].number
    release = releases.find_release(database, recommender.id, number)
    resources = StoredResources(store)
    newest_inputs = max(every, key=lambda each: each.submitted_at)
    newest = read_manifest(resources.read(newest_inputs.manifest_sha256))
    manifest = read_manifest(resources.read(release.manifest_sha256))
    gone = gone_items(resources, manifest, newest.inputs_sha256, datetime.now(UTC))
    releases.withdraw(database, recommender.id, gone)
    return releases.publish(database, recommender.id, release.number)


def sources_of(catalogue: Path, interactions: Path) -> RecommenderSources:
    """Return the sources of a recommender from the paths of its two files."""
    return RecommenderSources(catalogue=str(catalogue), interactions=str(interactions))
