"""`pressroom alerts`: lists, acknowledges and mutes alerts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer

from kinds.sentiment.monitor import AlertStatus
from kinds.sentiment.series.policy import AlertRule
from pressroom.commands.options import Json
from pressroom.commands.session import connected
from pressroom.console import print_json, say

app = typer.Typer(no_args_is_help=True, help="List, acknowledge, mute and deliver alerts.")

Alert = Annotated[UUID, typer.Argument(metavar="ALERT")]


@app.command("list")
def list_alerts(
    monitor: Annotated[str | None, typer.Option(help="Only alerts of this monitor.")] = None,
    entity: Annotated[str | None, typer.Option(help="Of this entity alone.")] = None,
    status: Annotated[AlertStatus | None, typer.Option(help="Only alerts in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    json: Json = False,
) -> None:
    """List alerts, those about the newest windows first."""
    from kinds.sentiment.show_monitors import alert_json, print_alert_line
    from kinds.sentiment.store import alerts

    with connected() as (database, _, _):
        found = alerts.list_alerts(database, monitor=monitor, entity_id=entity, status=status, limit=limit)
    if json:
        print_json({"alerts": [alert_json(alert) for alert in found]})
        return
    for alert in found:
        print_alert_line(alert)


@app.command()
def show(alert: Alert, json: Json = False) -> None:
    """Show an alert: its test, the documents that drive it, and how far its deliveries are."""
    from kinds.sentiment.show_monitors import alert_json, delivery_json, print_alert
    from kinds.sentiment.store import alerts

    with connected() as (database, _, _):
        found, deliveries = alerts.get_alert(database, alert)
    if json:
        print_json(alert_json(found) | {"deliveries": [delivery_json(one) for one in deliveries]})
    else:
        print_alert(found, deliveries)


@app.command()
def ack(
    alert: Alert,
    note: Annotated[str | None, typer.Option(help="Note that is kept with the alert.")] = None,
    json: Json = False,
) -> None:
    """Say that an alert was seen."""
    from kinds.sentiment.show_monitors import alert_json, print_alert_line
    from kinds.sentiment.store import alerts

    with connected() as (database, _, _):
        found = alerts.acknowledge(database, alert, note=note)
    if json:
        print_json(alert_json(found))
    else:
        print_alert_line(found)


@app.command()
def mute(
    monitor: Annotated[str, typer.Argument(metavar="MONITOR")],
    entity: Annotated[str | None, typer.Option(help="Of this entity alone.")] = None,
    rule: Annotated[AlertRule | None, typer.Option(help="Only alerts of this rule.")] = None,
    hours: Annotated[
        float | None,
        typer.Option(min=0.01, max=100_000, help="How long the mute lasts; unset: until it is removed."),
    ] = None,
    json: Json = False,
) -> None:
    """Deliver no alerts of a monitor, an entity or a rule for a while; they are raised and kept."""
    from kinds.sentiment.intake import get_watchlist
    from kinds.sentiment.show_monitors import mute_json, print_mute
    from kinds.sentiment.store import alerts, monitors
    from storage import open_store

    until = None if hours is None else datetime.now(UTC) + timedelta(hours=hours)
    with connected() as (database, urls, _):
        found = monitors.find_monitor(database, monitor)
        if entity is not None:
            get_watchlist(open_store(urls.s3_url), found).require(entity)
        mute_id = alerts.mute(database, found.id, entity_id=entity, rule=rule, until=until)
        made = next(one for one in alerts.list_mutes(database) if one.id == mute_id)
    if json:
        print_json(mute_json(made))
    else:
        print_mute(made)


@app.command()
def mutes(json: Json = False) -> None:
    """List what is muted."""
    from kinds.sentiment.show_monitors import mute_json, print_mute
    from kinds.sentiment.store import alerts

    with connected() as (database, _, _):
        found = alerts.list_mutes(database)
    if json:
        print_json({"mutes": [mute_json(one) for one in found]})
        return
    for one in found:
        print_mute(one)


@app.command()
def unmute(
    mute: Annotated[UUID, typer.Argument(metavar="MUTE", help="Id of the mute, as `alerts mutes` lists it.")],
) -> None:
    """Deliver again what is raised from now on."""
    from kinds.sentiment.store import alerts

    with connected() as (database, _, _):
        alerts.unmute(database, mute)
    say("What is raised from now on is delivered.")
