"""Starts a run of a monitor: its sources become the first jobs of a batch."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import Connection

from db.batches import accept_in
from db.schedules import Schedule
from db.stages import NewJob
from jobs.batch import NewBatch
from jobs.errors import ConfigurationError
from kinds.sentiment.intake import kind_settings, observed_setting
from kinds.sentiment.monitor import KIND, Monitor
from kinds.sentiment.store.monitors import get_monitor
from workers.intake import BatchRequest
from workers.producer import new_batch
from workers.settings import Settings

FIRST_STAGE = "collect"


class MonitorWithoutSourcesError(ConfigurationError):
    """The monitor has no sources, so only files can be run through it."""

    code = "monitor_without_sources"


def batch_of(monitor: Monitor, due_at: datetime, settings: Settings) -> NewBatch:
    """Return the batch that reads the monitor's sources.

    Raises MonitorWithoutSourcesError, and what `new_batch` raises.
    """
    if not monitor.sources:
        raise MonitorWithoutSourcesError(
            f"the monitor {monitor.name!r} has no sources: add some with `pressroom monitor create`, or run "
            f"files through it with `pressroom run sentiment FILE --monitor {monitor.name}`"
        )
    as_of = due_at.astimezone(UTC)
    request = BatchRequest(
        kind=KIND,
        model=monitor.model,
        settings=kind_settings(monitor, {"as_of": as_of.isoformat()}, settings),
        tenant=monitor.tenant,
    )
    return new_batch(
        request, settings, name=f"{monitor.name} {as_of:%Y-%m-%d %H:%M}Z", schedule_id=monitor.id
    )


def start_monitor(connection: Connection, monitor: Monitor, due_at: datetime, settings: Settings) -> UUID:
    """Create the monitor's batch with one job per source, in this transaction, and return its id.

    Raises what `batch_of` raises, and RunUnderWayError.
    """
    jobs = [
        NewJob(f"source-{number}", {"stage": FIRST_STAGE, "source": source.model_dump(mode="json")})
        for number, source in enumerate(monitor.sources)
    ]
    batch = batch_of(monitor, due_at, settings)
    batch = replace(batch, settings={**batch.settings, **observed_setting(connection, monitor)})
    return accept_in(connection, batch, jobs, lambda: 0)[0]


def start_scheduled(connection: Connection, schedule: Schedule, due_at: datetime, settings: Settings) -> UUID:
    """Start the monitor of a schedule, as `start_monitor` does. Raises MonitorNotFoundError, too."""
    return start_monitor(connection, get_monitor(connection.engine, schedule.id), due_at, settings)
