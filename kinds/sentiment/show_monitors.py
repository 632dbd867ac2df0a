"""Shows monitors, their schedules and alerts, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from db.schedules import ScheduleRun, Timing
from jobs.sources import Source, WebPlace
from kinds.sentiment.monitor import Monitor, Notification
from kinds.sentiment.store.alerts import DeliveryState, Mute, StoredAlert
from kinds.sentiment.store.deliveries import Waiting
from kinds.sentiment.store.source_reports import UnreadSource
from pressroom.console import print_line
from workers.connectors.addresses import shown


@dataclass(frozen=True, slots=True)
class MonitorState:
    """A monitor with its schedule, latest runs and pending deliveries."""

    monitor: Monitor
    timing: Timing | None
    """None if the monitor runs on demand only."""
    runs: Sequence[ScheduleRun]
    """Latest runs, the newest first."""
    unread: Sequence[UnreadSource] = ()
    """Sources that the latest run could not read."""
    unobserved_since: datetime | None = None
    """Silence alerts are suppressed since this instant; None if all sources were read."""
    waiting: Sequence[Waiting] = ()
    """Pending deliveries."""

    def as_json(self) -> dict[str, object]:
        """Return the state with stable names, without the parts of URLs that may be secret."""
        monitor, timing = self.monitor, self.timing
        return {
            "name": monitor.name,
            "id": str(monitor.id),
            "model": monitor.model,
            "watchlist_sha256": monitor.watchlist_sha256,
            "num_entities": monitor.num_entities,
            "policy": monitor.policy.model_dump(mode="json"),
            "sources": [_without_secrets(source.model_dump(mode="json")) for source in monitor.sources],
            "targets": [_without_secrets(target.model_dump(mode="json")) for target in monitor.targets],
            "unread_sources": [
                {
                    "source": _without_secrets(one.source.model_dump(mode="json")),
                    "batch_id": str(one.batch_id),
                    "error_code": one.error_code,
                    "error_message": one.error_message,
                }
                for one in self.unread
            ],
            "unobserved_since": _instant(self.unobserved_since),
            "waiting_deliveries": [asdict(one) | {"due_at": _instant(one.due_at)} for one in self.waiting],
            "settings": monitor.settings,
            "schedule": None
            if timing is None
            else {
                "cron": timing.cron.expression,
                "time_zone": timing.cron.time_zone,
                "catch_up": timing.catch_up,
                "paused_at": _instant(timing.paused_at),
                "next_due_at": _instant(timing.next_due_at),
            },
            "runs": [
                asdict(run) | {"due_at": _instant(run.due_at), "batch_id": run.batch_id and str(run.batch_id)}
                for run in self.runs
            ],
        }


def print_monitor_line(state: MonitorState) -> None:
    """Print a line of `pressroom monitor list`."""
    timing = state.timing
    if timing is None:
        when = "on demand"
    elif timing.paused_at is not None:
        when = f"{timing.cron.expression} ({timing.cron.time_zone}), paused"
    else:
        when = f"{timing.cron.expression} ({timing.cron.time_zone}), next {_short(timing.next_due_at)}"
    last = f"; last {_short(state.runs[0].due_at)} {state.runs[0].outcome}" if state.runs else ""
    unread = f"; {len(state.unread)} of {len(state.monitor.sources)} sources not read" if state.unread else ""
    print_line(f"{state.monitor.name}  {when}{last}{unread}")


def print_monitor(state: MonitorState) -> None:
    """Print all details of a monitor."""
    monitor = state.monitor
    print_monitor_line(state)
    print_line(f"  watches   {monitor.num_entities} entities, by {monitor.model}")
    policy = monitor.policy
    print_line(
        f"  windows   {', '.join(policy.windows)} ({policy.time_zone}); alerts by {policy.alert_window}: "
        f"{', '.join(policy.rules)}; {policy.false_alarms_per_week} false alarms a week allowed"
    )
    for source in monitor.sources:
        print_line(f"  source    {source.type}: {_source_text(source)}")
    for target in monitor.targets:
        where = _web_text(target) if target.type == "webhook" else target.path
        print_line(f"  target    {target.name}: {where}")
    for one in state.waiting:
        print_line(f"  waiting   {_waiting_text(one)}")
    for unread in state.unread:
        print_line(f"  not read  {unread.error_code}: {unread.error_message} (batch {unread.batch_id})")
    if state.unread:
        print_line("            silence alerts are suppressed until it is read or removed from the monitor")
    elif state.unobserved_since is not None:
        print_line("  not read  silence alerts are suppressed until a run has analysed everything")
    for run in state.runs:
        error = f"  {run.error_code}: {run.error_message}" if run.error_code else ""
        print_line(f"  run       {_short(run.due_at)}  {run.outcome:<10}  {run.batch_id or ''}{error}")


def alert_json(alert: StoredAlert) -> dict[str, object]:
    """Return an alert as JSON with stable names."""
    instants = ("starts_at", "raised_at", "acknowledged_at")
    return asdict(alert) | {"id": str(alert.id)} | {name: _instant(getattr(alert, name)) for name in instants}


def print_alert_line(alert: StoredAlert) -> None:
    """Print a line of `pressroom alerts list`."""
    muted = ", muted" if alert.is_muted else ""
    print_line(
        f"{alert.id}  {alert.starts_at:%Y-%m-%d %H:%M}  {alert.status}{muted}  {alert.monitor}/"
        f"{alert.entity_id}  {alert.rule} ({alert.size}): {alert.observed:.3g}, expected {alert.expected:.3g}"
    )


def print_alert(alert: StoredAlert, deliveries: Sequence[DeliveryState]) -> None:
    """Print all details of an alert."""
    print_alert_line(alert)
    print_line(f"  p-value   {alert.p_value:.2g}, below {alert.threshold:.2g}")
    print_line(f"  documents {', '.join(alert.document_ids)}")
    if alert.acknowledged_at is not None:
        print_line(f"  seen      {_short(alert.acknowledged_at)}  {alert.note or ''}")
    for delivery in deliveries:
        error = f": {delivery.error_message}" if delivery.error_message else ""
        print_line(f"  {delivery.target:<9} {_delivery_text(delivery)}{error}")


def delivery_json(delivery: DeliveryState) -> dict[str, object]:
    """Return the state of a delivery as JSON with stable names."""
    instants = {"due_at": _instant(delivery.due_at), "ended_at": _instant(delivery.ended_at)}
    return asdict(delivery) | instants


def print_mute(mute: Mute) -> None:
    """Print a line of `pressroom alerts mutes`."""
    until = f"until {_short(mute.until)}" if mute.until else "until unmuted"
    print_line(
        f"{mute.id}  {mute.monitor}  {mute.entity_id or 'all entities'}  {mute.rule or 'all rules'}  {until}"
    )


def mute_json(mute: Mute) -> dict[str, object]:
    """Return a mute as JSON with stable names."""
    instants = {"until": _instant(mute.until), "created_at": _instant(mute.created_at)}
    return asdict(mute) | {"id": str(mute.id)} | instants


def _waiting_text(waiting: Waiting) -> str:
    alerts = "1 alert" if waiting.number == 1 else f"{waiting.number} alerts"
    error = f": {waiting.error_code}: {waiting.error_message}" if waiting.error_code else ""
    return f"{alerts} for {waiting.target}, tried from {_short(waiting.due_at)} on{error}"


def _delivery_text(delivery: DeliveryState) -> str:
    if delivery.ended_at is None:
        tries = f" after {delivery.num_attempts} attempts" if delivery.num_attempts else ""
        return f"due {_short(delivery.due_at)}{tries}"
    is_withdrawn = delivery.notified is Notification.WITHDRAWN
    success = "withdrawal delivered" if is_withdrawn else "delivered"
    how = success if delivery.error_code is None else f"not delivered ({delivery.error_code})"
    return f"{how} {_short(delivery.ended_at)}"


def _source_text(source: Source) -> str:
    match source.type:
        case "feed":
            return _web_text(source)
        case "file":
            return source.path
        case "s3":
            return f"{source.prefix} of {source.url_variable or 'the own store'}"
        case "query":
            return f"{source.sql[:60]} at {source.url_variable}"


def _web_text(place: WebPlace) -> str:
    return f"the URL in {place.url_variable}" if place.url is None else shown(place.url)


def _without_secrets(fields: dict[str, object]) -> dict[str, object]:
    url = fields.get("url")
    return fields | {"url": shown(url)} if isinstance(url, str) else fields


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _short(at: datetime | None) -> str:
    if at is None:
        return "never"
    utc = at.astimezone(UTC)
    return f"{utc:%Y-%m-%d %H:%M:%SZ}" if utc.second else f"{utc:%Y-%m-%d %H:%MZ}"
