"""`pressroom monitor`: creates, shows, runs and pauses monitors."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.errors import ConfigurationError
from jobs.rejection import MAX_DROPPED_SHARE, Dropped
from jobs.schedule import CatchUp
from kinds.sentiment.commands.options import MaxReports, Reports
from kinds.sentiment.commands.sentiment import backtest_file
from kinds.sentiment.monitor import Monitor
from kinds.sentiment.series.policy import AlertRule
from kinds.sentiment.series.time_windows import WindowSize
from pressroom.commands.options import (
    DeviceOption,
    Json,
    MaxDropped,
    Out,
    input_path,
    is_dropped_too_much,
)
from pressroom.commands.session import connected, devices_of_command, settings_of_command
from pressroom.console import EXIT_FAILURE, errors_reported, print_json, say
from workers.delivery import Target

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from db.schedules import Schedule
    from jobs.sources import Source
    from kinds.sentiment.monitor_file import MonitorFile
    from kinds.sentiment.show_monitors import MonitorState

app = typer.Typer(no_args_is_help=True, help="Manage monitors: their sources, watch lists and schedules.")
app.command("backtest")(backtest_file)

NUM_RUNS_SHOWN = 10

SECRET_VARIABLE = "ALERT_WEBHOOK_SECRET"  # noqa: S105 - a name, not a secret

Name = Annotated[str, typer.Argument(metavar="NAME")]
Watch = Annotated[
    Path | None, typer.Option(parser=input_path, metavar="FILE", help="Watch list as TOML or JSON.")
]
SourceTexts = Annotated[
    list[str] | None,
    typer.Option(help="Source of documents: a file, a folder, s3://PREFIX, or the URL of a feed; repeat."),
]
CatchUpOption = Annotated[
    CatchUp, typer.Option(help="Which missed runs are caught up: the latest, all, or none.")
]
TargetTexts = Annotated[
    list[str] | None,
    typer.Option(help="Where alerts are delivered: the URL of a webhook, a file, or - for stdout; repeat."),
]
SecretVariable = Annotated[
    str, typer.Option(help="Environment variable that holds the signing secret of the webhooks.")
]
AllowPrivate = Annotated[
    bool, typer.Option("--allow-private", help="Allow feeds and webhooks in your own network.")
]


@app.command()
def create(
    what: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE.toml",
            help="A name, together with options, or a TOML file that sets everything.",
        ),
    ],
    watch: Watch = None,
    source: SourceTexts = None,
    cron: Annotated[
        str | None,
        typer.Option(help='When it runs, such as "0 * * * *" for every hour; unset: only by command.'),
    ] = None,
    time_zone: Annotated[
        str | None,
        typer.Option(help="Time zone of the schedule, days and weeks; defaults to the calendar's, else UTC."),
    ] = None,
    catch_up: CatchUpOption = CatchUp.LATEST,
    window: Annotated[
        list[WindowSize] | None,
        typer.Option(help="Window size; repeat. The first one is judged by the rules."),
    ] = None,
    rule: Annotated[
        list[AlertRule] | None, typer.Option(help="Alert rule; repeat. Unset: all of them.")
    ] = None,
    reports: Reports = None,
    max_reports: MaxReports = None,
    target: TargetTexts = None,
    secret_variable: SecretVariable = SECRET_VARIABLE,
    allow_private: AllowPrivate = False,
    json: Json = False,
) -> None:
    """Make a monitor, or change the one of this name."""
    from db import migrate
    from kinds.sentiment.monitor_file import read_monitor_file, source_of, targets_of
    from kinds.sentiment.monitors import make_monitor
    from storage import open_store

    with errors_reported():
        if what.endswith(".toml"):
            if watch or source or cron or target or reports or max_reports is not None:
                raise typer.BadParameter("give a file or options, not both", param_hint="FILE.toml")
            given = read_monitor_file(Path(what))
        else:
            times = {"cron": cron, "catch_up": catch_up}
            if time_zone is not None:
                times["time_zone"] = time_zone
            sources = [source_of(text) for text in source or ()]
            targets = targets_of(target or (), secret_variable=secret_variable)
            ends = {
                "source": _fields(sources, allow_private=allow_private),
                "target": _fields(targets, allow_private=allow_private),
            }
            limits = {"reports": reports, "max_reports": max_reports}
            own = {"settings": {name: value for name, value in limits.items() if value is not None}}
            given = _from_options(what, watch, {**times, **ends, **own}, _policy(window, rule))
    with connected() as (database, urls, settings):
        migrate.upgrade(database)
        made = make_monitor(database, open_store(urls.s3_url), given, settings)
        say(f"{'Made' if made.is_new else 'Changed'} the monitor {made.monitor.name}.")
        _print(database, made.monitor, json=json)
    if given.cron is not None:
        say("It runs while `pressroom up`, or `pressroom beat` with dispatcher and workers, does.")


def _from_options(
    name: str, watch: Path | None, given: dict[str, Any], policy: dict[str, object]
) -> MonitorFile:
    from kinds.sentiment.monitor_file import make_monitor_file

    if watch is None:
        raise typer.BadParameter("give the watch list", param_hint="--watch")
    fields = {"name": name, "watch": watch, **given, "policy": policy}
    return make_monitor_file(fields, folder=Path.cwd(), where=name)


def _policy(windows: list[WindowSize] | None, rules: list[AlertRule] | None) -> dict[str, object]:
    of_windows: dict[str, object] = {"windows": windows, "alert_window": windows[0]} if windows else {}
    return of_windows | ({"rules": rules} if rules else {})


def _fields(ends: Iterable[Source | Target], *, allow_private: bool) -> list[dict[str, object]]:
    """Return the fields of sources or targets, which reach the user's own network only if allowed."""
    fields = [end.model_dump() for end in ends]
    return [
        one | {"allow_private": True} if allow_private and "allow_private" in one else one for one in fields
    ]


@app.command("list")
def list_monitors(
    all_: Annotated[bool, typer.Option("--all", help="Include the monitors that backtests made.")] = False,
    json: Json = False,
) -> None:
    """List the monitors: when each runs, and how it went last."""
    from kinds.sentiment.backtest import is_of_backtest
    from kinds.sentiment.show_monitors import print_monitor_line
    from kinds.sentiment.store import monitors

    with connected() as (database, _, _):
        listed = [one for one in monitors.list_monitors(database) if all_ or not is_of_backtest(one)]
        states = [_state(database, monitor, num_runs=1) for monitor in listed]
    if json:
        print_json({"monitors": [state.as_json() for state in states]})
        return
    for state in states:
        print_monitor_line(state)


@app.command()
def show(name: Name, json: Json = False) -> None:
    """Show a monitor: sources, targets, windows and rules, and what came of the latest due times."""
    from kinds.sentiment.store import monitors

    with connected() as (database, _, _):
        _print(database, monitors.find_monitor(database, name), json=json)


@app.command()
def run(
    name: Name,
    out: Out = Path("out"),
    max_dropped: MaxDropped = None,
    device: DeviceOption = "auto",
    json: Json = False,
) -> None:
    """Run a monitor once, now. Uses running workers if there are any; otherwise starts its own."""
    from kinds.sentiment.alerts.delivery import export_and_deliver
    from kinds.sentiment.monitors import monitor_run
    from pressroom.run import run_on_demand

    with errors_reported():
        settings = settings_of_command()
        find = partial(monitor_run, name, settings, device, out)
        devices = partial(devices_of_command, device)
        result = run_on_demand(find, out, settings, devices, partial(export_and_deliver, json=json))
    result.exported.print(result.summary, out, json=json)
    figures, counts = result.exported, result.summary.report.counts
    num_read = figures.documents.num_documents + figures.documents.num_known + figures.num_rejected
    dropped = Dropped(f"the sources of {name}", num_read, {"refused": figures.num_rejected})
    bound = MAX_DROPPED_SHARE if max_dropped is None else max_dropped
    is_incomplete = (not counts.complete and counts.total > 0) or result.summary.altered
    if is_dropped_too_much(dropped, bound) or is_incomplete or figures.documents.num_refused:
        raise typer.Exit(EXIT_FAILURE)


@app.command()
def pause(name: Name) -> None:
    """Start a monitor by itself no more; a run under way goes on."""
    from db import schedules

    with connected() as (database, _, _):
        schedules.pause(database, _scheduled(database, name).id)
    say(f"{name} is paused; `pressroom monitor run {name}` runs it all the same.")


@app.command()
def resume(name: Name) -> None:
    """Start a paused monitor by itself again, from its next due time on; what passed is not caught up."""
    from db import schedules
    from kinds.sentiment.show_monitors import print_monitor_line
    from kinds.sentiment.store import monitors

    with connected() as (database, _, _):
        schedules.resume(database, _scheduled(database, name).id)
        state = _state(database, monitors.find_monitor(database, name), num_runs=0)
    print_monitor_line(state)


def _scheduled(database: Engine, name: str) -> Schedule:
    from db import schedules
    from kinds.sentiment.store import monitors

    schedule = schedules.get_schedule(database, monitors.find_monitor(database, name).id)
    if schedule.timing is None:
        raise ConfigurationError(
            f"the monitor {name!r} has no schedule: give it one with `pressroom monitor create --cron`",
            code="monitor_without_schedule",
        )
    return schedule


def _state(database: Engine, monitor: Monitor, *, num_runs: int) -> MonitorState:
    from db import schedules
    from kinds.sentiment.show_monitors import MonitorState
    from kinds.sentiment.store import deliveries, source_reports

    timing = schedules.get_schedule(database, monitor.id).timing
    runs = schedules.list_runs(database, monitor.id, limit=num_runs) if num_runs else []
    tried = source_reports.unread_sources(database, monitor.id) if num_runs else []
    unread = [one for one in tried if one.source in monitor.sources]
    unobserved_since = source_reports.unobserved_since(database, monitor.id) if num_runs else None
    waiting = deliveries.waiting(database, monitor.id) if num_runs else []
    return MonitorState(monitor, timing, runs, unread, unobserved_since, waiting)


def _print(database: Engine, monitor: Monitor, *, json: bool) -> None:
    from kinds.sentiment.show_monitors import print_monitor

    state = _state(database, monitor, num_runs=NUM_RUNS_SHOWN)
    if json:
        print_json(state.as_json())
    else:
        print_monitor(state)
