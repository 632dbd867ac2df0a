"""`pressroom alerts`: lists, acknowledges and mutes alerts."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from jobs.shown import minute_text, plural, utc_text
from kinds.sentiment.monitor import AlertStatus, Notification
from kinds.sentiment.series.policy import AlertRule
from pressroom.commands.options import Json
from pressroom.commands.session import connected
from pressroom.console import print_json, print_line, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kinds.sentiment.store.alerts import AlertRecord, DeliveryState, Mute

app = typer.Typer(no_args_is_help=True, help="List, acknowledge, mute and deliver alerts.")

Alert = Annotated[UUID, typer.Argument(metavar="ALERT")]


@app.command("list")
def list_alerts(
    monitor: Annotated[str | None, typer.Option(help="Only alerts of this monitor.")] = None,
    entity: Annotated[str | None, typer.Option(help="Only alerts of this entity.")] = None,
    status: Annotated[AlertStatus | None, typer.Option(help="Only alerts in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    json: Json = False,
) -> None:
    """List alerts, the newest windows first."""
    from kinds.sentiment.store import alerts

    with connected() as (database, _, _):
        records = alerts.list_alerts(database, monitor=monitor, entity_id=entity, status=status, limit=limit)
    if json:
        print_json({"alerts": [_alert_json(alert) for alert in records]})
        return
    for alert in records:
        _print_alert_line(alert)


@app.command()
def show(alert: Alert, json: Json = False) -> None:
    """Show an alert: its test, the documents behind it, and the state of its deliveries."""
    from kinds.sentiment.store import alerts

    with connected() as (database, _, _):
        record, deliveries = alerts.get_alert(database, alert)
    if json:
        print_json(_alert_json(record) | {"deliveries": [_delivery_json(each) for each in deliveries]})
    else:
        _print_alert(record, deliveries)


@app.command()
def ack(
    alert: Alert,
    note: Annotated[str | None, typer.Option(help="Note to store with the alert.")] = None,
    json: Json = False,
) -> None:
    """Acknowledge an alert, which records that someone has seen it."""
    from kinds.sentiment.store import alerts

    with connected() as (database, _, _):
        record = alerts.acknowledge(database, alert, note=note)
    if json:
        print_json(_alert_json(record))
    else:
        _print_alert_line(record)


@app.command()
def mute(
    monitor: Annotated[str, typer.Argument(metavar="MONITOR")],
    entity: Annotated[str | None, typer.Option(help="Only alerts of this entity.")] = None,
    rule: Annotated[AlertRule | None, typer.Option(help="Only alerts of this rule.")] = None,
    hours: Annotated[
        float | None,
        typer.Option(min=0.01, max=100_000, help="How long the mute lasts; by default, until it is removed."),
    ] = None,
    json: Json = False,
) -> None:
    """Mute a monitor, an entity or a rule for a while: its alerts are stored but not delivered."""
    from kinds.sentiment.intake import get_watchlist
    from kinds.sentiment.store import alerts, monitors
    from storage import open_store

    until = None if hours is None else datetime.now(UTC) + timedelta(hours=hours)
    with connected() as (database, urls, _):
        watched = monitors.find_monitor(database, monitor)
        if entity is not None:
            get_watchlist(open_store(urls.s3_url), watched).require(entity)
        mute_id = alerts.mute(database, watched.id, entity_id=entity, rule=rule, until=until)
        record = next(each for each in alerts.list_mutes(database) if each.id == mute_id)
    if json:
        print_json(_mute_json(record))
    else:
        _print_mute(record)


@app.command()
def mutes(json: Json = False) -> None:
    """List the mutes."""
    from kinds.sentiment.store import alerts

    with connected() as (database, _, _):
        listed = alerts.list_mutes(database)
    if json:
        print_json({"mutes": [_mute_json(each) for each in listed]})
        return
    for each in listed:
        _print_mute(each)


@app.command()
def unmute(
    mute: Annotated[
        UUID, typer.Argument(metavar="MUTE", help="Id of the mute, as listed by `pressroom alerts mutes`.")
    ],
) -> None:
    """Remove a mute; alerts that are raised from now on are delivered again."""
    from kinds.sentiment.store import alerts

    with connected() as (database, _, _):
        alerts.unmute(database, mute)
    say("The mute is removed; alerts that are raised from now on are delivered.")


def _alert_json(record: AlertRecord) -> dict[str, object]:
    """Return an alert as JSON with stable names."""
    return {
        **asdict(record.alert),
        "id": str(record.id),
        "monitor": record.monitor,
        "starts_at": utc_text(record.alert.starts_at),
        "status": record.status,
        "is_muted": record.is_muted,
        "raised_at": utc_text(record.raised_at),
        "acknowledged_at": utc_text(record.acknowledged_at),
        "note": record.note,
    }


def _print_alert_line(record: AlertRecord) -> None:
    """Print a line of `pressroom alerts list`."""
    alert, muted = record.alert, ", muted" if record.is_muted else ""
    print_line(
        f"{record.id}  {alert.starts_at:%Y-%m-%d %H:%M}  {record.status}{muted}  {record.monitor}/"
        f"{alert.entity_id}  {alert.rule} ({alert.size}): {alert.observed:.3g}, expected {alert.expected:.3g}"
    )


def _print_alert(record: AlertRecord, deliveries: Sequence[DeliveryState]) -> None:
    """Print all details of an alert."""
    _print_alert_line(record)
    print_line(f"  p-value   {record.alert.p_value:.2g}, below {record.alert.threshold:.2g}")
    print_line(f"  documents {', '.join(record.alert.document_ids) or 'none'}")
    if record.acknowledged_at is not None:
        print_line(f"  seen      {minute_text(record.acknowledged_at)}  {record.note or ''}")
    for delivery in deliveries:
        error = f": {delivery.error_message}" if delivery.error_message else ""
        print_line(f"  {delivery.target:<9} {_delivery_text(delivery)}{error}")


def _delivery_json(delivery: DeliveryState) -> dict[str, object]:
    """Return the state of a delivery as JSON with stable names."""
    instants = {"due_at": utc_text(delivery.due_at), "ended_at": utc_text(delivery.ended_at)}
    return asdict(delivery) | instants


def _print_mute(mute: Mute) -> None:
    """Print a line of `pressroom alerts mutes`."""
    until = f"until {minute_text(mute.until)}" if mute.until else "until unmuted"
    print_line(
        f"{mute.id}  {mute.monitor}  {mute.entity_id or 'all entities'}  {mute.rule or 'all rules'}  {until}"
    )


def _mute_json(mute: Mute) -> dict[str, object]:
    """Return a mute as JSON with stable names."""
    instants = {"until": utc_text(mute.until), "created_at": utc_text(mute.created_at)}
    return asdict(mute) | {"id": str(mute.id)} | instants


def _delivery_text(delivery: DeliveryState) -> str:
    if delivery.ended_at is None:
        tries = (
            f" after {plural(delivery.num_attempts, 'attempt', 'attempts')}" if delivery.num_attempts else ""
        )
        return f"due {minute_text(delivery.due_at)}{tries}"
    is_withdrawn = delivery.notified is Notification.WITHDRAWN
    success = "withdrawal delivered" if is_withdrawn else "delivered"
    how = success if delivery.error_code is None else f"not delivered ({delivery.error_code})"
    return f"{how} {minute_text(delivery.ended_at)}"
