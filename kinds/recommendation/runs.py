"""Runs a recommender on demand, with running workers or with workers that the command starts."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from sqlalchemy import Engine

from db.dispatch import capacity
from db.migrate import upgrade
from db.session import opened_database
from jobs.rejection import Rejected
from kinds.recommendation.export.outcome import Outcome, export_outcome
from kinds.recommendation.payload import RecommenderSettings
from kinds.recommendation.recommender import Recommender
from kinds.recommendation.scheduled import Run, profiles_of, start_run
from kinds.recommendation.store import recommenders
from pressroom.console import say
from pressroom.embedded.services import embedded_services, find_running
from pressroom.export import check_output
from pressroom.one_machine import OneMachine
from pressroom.run import RunRequest, RunResult, check_no_run_under_way, run_batch, watch_elsewhere
from pressroom.summary import Summary
from storage import open_store
from workers.devices import Device
from workers.producer import Submission
from workers.settings import Settings


def run_elsewhere(
    name: str, out: Path, settings: Settings, *, plan_only: bool = False
) -> RunResult[Outcome] | None:
    """Queue a run and watch it, if running services have workers for it; return None if there are none."""
    begun_at = time.monotonic()
    urls = find_running(settings, standing=True)
    if urls is None:
        return None
    with opened_database(urls.db_url) as database:
        recommender = recommenders.find_recommender(database, name)
        if not all(capacity(database, profile).num_workers for profile in _profiles(recommender, settings)):
            return None
        with _folder(out, plan_only=plan_only) as folder:
            batch_id = _start_now(database, recommender, settings, plan_only=plan_only)
            say(f"Batch {batch_id}, by the workers that run. Ctrl-C leaves it to them.")
            report = watch_elsewhere(database, batch_id)
            elapsed_seconds = time.monotonic() - begun_at
            summary = Summary(report=report, elapsed_seconds=elapsed_seconds, startup_seconds=0)
            outcome = export_outcome(database, open_store(urls.s3_url), summary, folder)
        return RunResult(summary, outcome)


def run_here(
    name: str,
    out: Path,
    settings: Settings,
    devices: Sequence[Device],
    device: str,
    *,
    plan_only: bool = False,
) -> RunResult[Outcome]:
    """Run the recommender once, with workers that this command starts."""
    with embedded_services(settings, say) as urls, opened_database(urls.db_url) as database:
        upgrade(database)
        recommender = recommenders.find_recommender(database, name)
        go_on = ("pressroom", "run", "recommendations", "--device", device, "--out", str(out))
        if not plan_only:
            check_no_run_under_way(database, recommender.id, go_on)

    def submit(machine: OneMachine, _: Callable[[Rejected], None]) -> Submission:
        return Submission(_start_now(machine.database, recommender, settings, plan_only=plan_only), True)

    with _folder(out, plan_only=plan_only) as folder:
        request = RunRequest(
            profiles=_profiles(recommender, settings),
            submit=submit,
            batch_id=None,
            retry_failed=False,
            out=folder,
            devices=tuple(devices),
            go_on=go_on,
        )
        return run_batch(request, settings, export_outcome)


@contextmanager
def _folder(out: Path, *, plan_only: bool) -> Iterator[Path]:
    """Provide the folder for the results; a plan gets a temporary one, since it leaves no results."""
    if not plan_only:
        check_output(out)
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="pressroom-plan-") as name:
        yield Path(name)


def _profiles(recommender: Recommender, settings: Settings) -> tuple[str, ...]:
    return profiles_of(recommender.model, RecommenderSettings.model_validate(recommender.settings), settings)


def _start_now(database: Engine, recommender: Recommender, settings: Settings, *, plan_only: bool) -> UUID:
    """Queue a run now, regardless of the schedule."""
    with database.begin() as connection:
        run = Run(recommender=recommender, as_of=datetime.now(UTC), plan_only=plan_only)
        return start_run(connection, run, settings).batch_id
