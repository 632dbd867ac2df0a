"""Creates monitors from their descriptions and runs them on demand."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID

from sqlalchemy import Engine

from db import schedules
from kinds.sentiment.documents.watchlist_file import read_watchlist
from kinds.sentiment.intake import put_watchlist
from kinds.sentiment.monitor import Monitor
from kinds.sentiment.monitor_file import MonitorFile
from kinds.sentiment.monitor_runs import batch_of, start_monitor
from kinds.sentiment.options import NONE
from kinds.sentiment.series.trading_days import with_calendar
from kinds.sentiment.store import monitors
from kinds.sentiment.store.monitors import MonitorNotFoundError
from pressroom.console import say
from pressroom.run import RunOnDemand
from storage.store import Store
from workers.settings import Settings


def make_monitor(
    database: Engine, store: Store, file: MonitorFile, settings: Settings
) -> tuple[Monitor, bool]:
    """Store the watch list, the monitor and its schedule; return the monitor, and whether it is new.

    A monitor of the same name is changed; its schedule is kept if the file has none. Raises WatchlistError,
    and ConfigurationError or InputError for a monitor that no worker could run; then nothing is changed.
    """
    watched = read_watchlist(file.watch)
    for warning in watched.warnings:
        say(f"warning: {file.watch}: {warning}")
    policy = with_calendar(file.policy, watched.calendar, has_zone=file.has_time_zone)
    if not file.has_time_zone:
        file = file.model_copy(update={"time_zone": policy.time_zone})
    try:
        earlier: Monitor | None = monitors.find_monitor(database, file.name)
    except MonitorNotFoundError:
        earlier = None
    monitor = Monitor(
        id=earlier.id if earlier else monitors.new_id(),
        tenant="default",
        name=file.name,
        watchlist_sha256=put_watchlist(store, watched),
        num_entities=len(watched.watchlist.entities),
        policy=policy,
        sources=file.sources,
        targets=file.targets,
        settings={**file.settings, "embedder": file.embedder, "summarizer": file.summarizer},
        model=file.model,
    )
    if file.cron is not None or monitor.sources:
        batch_of(monitor, datetime.now(UTC), settings)  # fails now if every run would fail
    with database.begin() as connection:
        monitor_id = monitors.put_monitor(connection, monitor)
        if file.schedule is not None:
            schedules.set_times(connection, monitor_id, file.schedule, file.catch_up)
    return monitors.get_monitor(database, monitor_id), earlier is None


def monitor_run(name: str, settings: Settings, device: str, out: Path, database: Engine) -> RunOnDemand:
    """Return a run of the monitor that starts now. Raises MonitorNotFoundError."""
    monitor = monitors.find_monitor(database, name)
    return RunOnDemand(
        schedule_id=monitor.id,
        profiles=batch_of(monitor, datetime.now(UTC), settings).profiles,
        resume_command=(
            *("pressroom", "run", "sentiment", "--monitor", name, "--model", monitor.model),
            *("--embedder", str(monitor.settings.get("embedder") or NONE)),
            *("--summarizer", str(monitor.settings.get("summarizer") or NONE)),
            *("--device", device, "--out", str(out)),
        ),
        start=partial(_start_now, monitor, settings),
    )


def _start_now(monitor: Monitor, settings: Settings, database: Engine) -> UUID:
    """Queue a run of the monitor now, regardless of its schedule."""
    with database.begin() as connection:
        return start_monitor(connection, monitor, datetime.now(UTC), settings)
