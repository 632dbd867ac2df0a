"""Runs of monitors, on demand or on a schedule. A run is a batch whose first stage has a job for each
source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import Connection, Engine

from db.batches import accept_in
from db.schedules import Schedule
from db.stages import NewJob
from jobs.batch import NewBatch
from jobs.errors import ConfigurationError
from jobs.shown import utc_text
from jobs.sources import Source, WebPlace
from kinds.sentiment.backtest import is_of_backtest
from kinds.sentiment.intake import kind_settings, observed_setting
from kinds.sentiment.monitor import KIND, Monitor
from kinds.sentiment.store import deliveries, monitors
from kinds.sentiment.store.deliveries import Waiting
from kinds.sentiment.store.monitors import UnreadSource, get_monitor, lock_records
from workers.connectors.addresses import shown
from workers.intake import BatchRequest
from workers.producer import new_batch
from workers.recurring import KindSchedules, ScheduleDescription
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


class MonitorSchedules(KindSchedules):
    """Starts, describes and removes monitors, which are schedules whose runs read sources."""

    create_command = "monitor create"
    id_setting = "monitor_id"

    def start(self, connection: Connection, schedule: Schedule, due_at: datetime, settings: Settings) -> UUID:
        """Start the monitor, as `start_monitor` does. Also raises MonitorNotFoundError."""
        return start_monitor(connection, get_monitor(connection.engine, schedule.id), due_at, settings)

    def describe(self, database: Engine, schedule: Schedule) -> ScheduleDescription:
        """Describe the watch list, policy, sources, targets, unread sources and waiting deliveries.

        Parts of URLs that may be secret are left out.
        """
        monitor = get_monitor(database, schedule.id)
        tried = monitors.unread_sources(database, monitor.id)
        unread = [each for each in tried if each.source in monitor.sources]
        unobserved_since = monitors.unobserved_since(database, monitor.id)
        waiting = deliveries.waiting(database, monitor.id)
        return ScheduleDescription(
            is_hidden=is_of_backtest(monitor),
            remark=f"{len(unread)} of {len(monitor.sources)} sources not read" if unread else "",
            lines=[
                *_monitor_lines(monitor),
                *(("waiting", _waiting_text(each)) for each in waiting),
                *_unread_lines(unread, unobserved_since),
            ],
            fields={
                "watchlist_sha256": monitor.watchlist_sha256,
                "num_entities": monitor.num_entities,
                "policy": monitor.policy.model_dump(mode="json"),
                "sources": [_without_secrets(each.model_dump(mode="json")) for each in monitor.sources],
                "targets": [_without_secrets(each.model_dump(mode="json")) for each in monitor.targets],
                "unread_sources": [
                    {
                        "source": _without_secrets(each.source.model_dump(mode="json")),
                        "batch_id": str(each.batch_id),
                        "error_code": each.error_code,
                        "error_message": each.error_message,
                    }
                    for each in unread
                ],
                "unobserved_since": utc_text(unobserved_since),
                "waiting_deliveries": [asdict(each) | {"due_at": utc_text(each.due_at)} for each in waiting],
            },
        )

    def remove(self, connection: Connection, schedule: Schedule) -> None:
        """Delete the monitor with its documents, mentions, windows, alerts, mutes and deliveries.

        Classifications are kept, because they belong to texts and models. Raises RunUnderWayError.
        """
        lock_records(connection, schedule.id)  # before locking the row, as writers of records do
        super().remove(connection, schedule)


def _monitor_lines(monitor: Monitor) -> Iterator[tuple[str, str]]:
    policy = monitor.policy
    yield "watches", f"{monitor.num_entities} entities"
    yield (
        "windows",
        f"{', '.join(policy.windows)} ({policy.time_zone}); alerts by {policy.alert_window}: "
        f"{', '.join(policy.rules)}; {policy.false_alarms_per_week} false alarms a week allowed",
    )
    for source in monitor.sources:
        yield "source", f"{source.type}: {_source_text(source)}"
    for target in monitor.targets:
        yield "target", f"{target.name}: {_web_text(target) if target.type == 'webhook' else target.path}"


def _unread_lines(
    unread: Sequence[UnreadSource], unobserved_since: datetime | None
) -> Iterator[tuple[str, str]]:
    for each in unread:
        yield "not read", f"{each.error_code}: {each.error_message} (batch {each.batch_id})"
    if unread:
        sources = "it is" if len(unread) == 1 else "they are"
        yield "", f"silence alerts are suppressed until {sources} read or removed from the monitor"
    elif unobserved_since is not None:
        yield "not read", "silence alerts are suppressed until a run has analysed everything"


def _waiting_text(waiting: Waiting) -> str:
    alerts = "1 alert" if waiting.number == 1 else f"{waiting.number} alerts"
    error = f": {waiting.error_code}: {waiting.error_message}" if waiting.error_code else ""
    return f"{alerts} for {waiting.target}, due {waiting.due_at:%Y-%m-%d %H:%M}Z{error}"


def _source_text(source: Source) -> str:
    match source.type:
        case "feed":
            return _web_text(source)
        case "file":
            return source.path
        case "s3":
            return f"{source.prefix} of {source.url_variable or 'the store of Pressroom'}"
        case "query":
            return f"{source.sql[:60]} at {source.url_variable}"


def _web_text(place: WebPlace) -> str:
    return f"the URL in {place.url_variable}" if place.url is None else shown(place.url)


def _without_secrets(fields: dict[str, object]) -> dict[str, object]:
    url = fields.get("url")
    return fields | {"url": shown(url)} if isinstance(url, str) else fields
