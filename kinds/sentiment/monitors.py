"""Creates monitors from their descriptions and runs them on demand."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID

from sqlalchemy import Engine

from db import schedules
from db.dispatch import capacity
from db.migrate import upgrade
from db.session import opened_database
from jobs.rejection import Rejected
from kinds.sentiment.alerts.delivery import export_and_deliver
from kinds.sentiment.documents.watchlist_file import read_watchlist
from kinds.sentiment.export import SentimentFigures
from kinds.sentiment.monitor import Monitor
from kinds.sentiment.monitor_file import NONE, MonitorFile
from kinds.sentiment.producer import put_watchlist
from kinds.sentiment.scheduled import batch_of, start_monitor
from kinds.sentiment.series.trading_days import with_calendar
from kinds.sentiment.store import monitors
from kinds.sentiment.store.monitors import MonitorNotFoundError
from pressroom.console import say
from pressroom.embedded.services import embedded_services, find_running
from pressroom.export import check_output
from pressroom.one_machine import OneMachine
from pressroom.run import RunRequest, RunResult, check_no_run_under_way, run_batch, watch_elsewhere
from pressroom.summary import Summary
from storage import open_store
from storage.store import Store
from workers.devices import Device
from workers.producer import Submission
from workers.settings import Settings


@dataclass(frozen=True, slots=True)
class Made:
    """A monitor that was created or changed."""

    monitor: Monitor
    is_new: bool


def make_monitor(database: Engine, store: Store, given: MonitorFile, settings: Settings) -> Made:
    """Store the watch list, the monitor and its schedule, replacing a monitor of the same name.

    An existing schedule is kept if none is given. Raises WatchlistError, and ConfigurationError or InputError
    for a monitor that no worker could run; nothing is changed in that case.
    """
    watched = read_watchlist(given.watch)
    for warning in watched.warnings:
        say(f"warning: {given.watch}: {warning}")
    policy = with_calendar(given.policy, watched.calendar, has_zone=given.has_time_zone)
    if not given.has_time_zone:
        given = given.model_copy(update={"time_zone": policy.time_zone})
    try:
        earlier: Monitor | None = monitors.find_monitor(database, given.name)
    except MonitorNotFoundError:
        earlier = None
    monitor = Monitor(
        id=earlier.id if earlier else monitors.new_id(),
        tenant="default",
        name=given.name,
        watchlist_sha256=put_watchlist(store, watched),
        num_entities=len(watched.watchlist.entities),
        policy=policy,
        sources=given.sources,
        targets=given.targets,
        settings={**given.settings, "embedder": given.embedder, "summarizer": given.summarizer},
        model=given.model,
    )
    if given.cron is not None or monitor.sources:
        batch_of(monitor, datetime.now(UTC), settings)  # what cannot run is told now, not at night
    with database.begin() as connection:
        monitor_id = monitors.put_monitor(connection, monitor)
        if given.schedule is not None:
            schedules.set_times(connection, monitor_id, given.schedule, given.catch_up)
    return Made(monitors.get_monitor(database, monitor_id), earlier is None)


def run_elsewhere(
    name: str, out: Path, settings: Settings, *, json: bool = False
) -> RunResult[SentimentFigures] | None:
    """Queue a run and watch it if long-running services have workers for it; return None if they have none.

    Alerts are delivered at the end if no beat does so. Raises RunUnderWayError, as `run_here` does, because a
    monitor has at most one run at a time.
    """
    begun_at = time.monotonic()
    urls = find_running(settings, standing=True)
    if urls is None:
        return None
    with opened_database(urls.db_url) as database:
        monitor = monitors.find_monitor(database, name)
        profiles = batch_of(monitor, datetime.now(UTC), settings).profiles
        if not all(capacity(database, profile).num_workers for profile in profiles):
            return None
        check_output(out)
        batch_id = _start_now(database, monitor, settings)
        say(f"Batch {batch_id}, by the workers that run; results will be in {out}. Ctrl-C leaves it to them.")
        report = watch_elsewhere(database, batch_id)
        elapsed_seconds = time.monotonic() - begun_at
        summary = Summary(report=report, elapsed_seconds=elapsed_seconds, startup_seconds=0)
        figures = export_and_deliver(database, open_store(urls.s3_url), summary, out, json=json)
        return RunResult(summary, figures)


def run_here(
    name: str, out: Path, settings: Settings, devices: Sequence[Device], device: str, *, json: bool = False
) -> RunResult[SentimentFigures]:
    """Run the monitor once with workers of this command, and deliver its alerts if no beat does so."""
    with embedded_services(settings, say) as urls, opened_database(urls.db_url) as database:
        upgrade(database)
        monitor = monitors.find_monitor(database, name)
        go_on = (
            *("pressroom", "run", "sentiment", "--monitor", name, "--model", monitor.model),
            *("--embedder", str(monitor.settings.get("embedder") or NONE)),
            *("--summarizer", str(monitor.settings.get("summarizer") or NONE)),
            *("--device", device, "--out", str(out)),
        )
        check_no_run_under_way(database, monitor.id, go_on)
    profiles = batch_of(monitor, datetime.now(UTC), settings).profiles

    def submit(machine: OneMachine, _: Callable[[Rejected], None]) -> Submission:
        return Submission(_start_now(machine.database, monitor, settings), True)

    request = RunRequest(
        profiles=profiles,
        submit=submit,
        batch_id=None,
        retry_failed=False,
        out=out,
        devices=tuple(devices),
        go_on=go_on,
    )
    return run_batch(request, settings, partial(export_and_deliver, json=json))


def _start_now(database: Engine, monitor: Monitor, settings: Settings) -> UUID:
    """Queue a run of the monitor now, whatever its schedule says."""
    with database.begin() as connection:
        return start_monitor(connection, monitor, datetime.now(UTC), settings)
