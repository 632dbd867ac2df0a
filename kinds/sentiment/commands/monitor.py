"""`pressroom monitor`: creates, shows, runs, pauses and removes monitors."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.rejection import MAX_DROPPED_SHARE, Dropped
from jobs.schedule import CatchUp
from kinds.sentiment.commands.options import MaxReports, Reports, Rules, Windows
from kinds.sentiment.commands.sentiment import backtest_file
from kinds.sentiment.monitor import KIND
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
from pressroom.commands.schedule import (
    STARTS_UNDER_UP,
    ScheduleGroup,
    add_schedule_commands,
    print_schedule,
)
from pressroom.commands.session import connected, devices_of_command, settings_of_command
from pressroom.console import EXIT_FAILURE, errors_reported, say
from workers.delivery import Target

if TYPE_CHECKING:
    from jobs.sources import Source
    from kinds.sentiment.monitor_file import MonitorFile

app = typer.Typer(no_args_is_help=True, help="Manage monitors: their sources, watch lists and schedules.")
app.command("backtest")(backtest_file)

MONITORS = ScheduleGroup("monitor", "monitor", KIND, "monitor_without_schedule")

SECRET_VARIABLE = "ALERT_WEBHOOK_SECRET"  # noqa: S105 - a name, not a secret

Name = Annotated[str, typer.Argument(metavar="NAME")]
Watch = Annotated[
    Path | None, typer.Option(parser=input_path, metavar="FILE", help="Watch list as TOML or JSON.")
]
SourceTexts = Annotated[
    list[str] | None,
    typer.Option(
        help="Source of documents: a file, a folder, s3://PREFIX, or the URL of a feed; may be repeated."
    ),
]
CatchUpOption = Annotated[
    CatchUp, typer.Option(help="Which missed runs are started later: the latest, all, or none.")
]
TargetTexts = Annotated[
    list[str] | None,
    typer.Option(
        help="Where alerts are delivered: the URL of a webhook, a file, or - for stdout; may be repeated."
    ),
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
            help="Name of the monitor, with its settings as options; or a TOML file with all settings.",
        ),
    ],
    watch: Watch = None,
    source: SourceTexts = None,
    cron: Annotated[
        str | None,
        typer.Option(
            help='Cron expression, such as "0 * * * *" for every hour; by default, runs start only on demand.'
        ),
    ] = None,
    time_zone: Annotated[
        str | None,
        typer.Option(
            help="Time zone of the schedule and of days and weeks; defaults to that of the calendar, "
            "otherwise to UTC."
        ),
    ] = None,
    catch_up: CatchUpOption = CatchUp.LATEST,
    window: Windows = None,
    rule: Rules = None,
    reports: Reports = None,
    max_reports: MaxReports = None,
    target: TargetTexts = None,
    secret_variable: SecretVariable = SECRET_VARIABLE,
    allow_private: AllowPrivate = False,
    json: Json = False,
) -> None:
    """Create a monitor, or change the existing one with the same name."""
    from db import migrate
    from db.schedules import get_schedule
    from kinds.sentiment.monitor_file import read_monitor_file, source_of, targets_of
    from kinds.sentiment.monitors import make_monitor
    from storage import open_store

    with errors_reported():
        if what.endswith(".toml"):
            if watch or source or cron or target or reports or max_reports is not None:
                raise typer.BadParameter("give either a file or options, not both", param_hint="FILE.toml")
            file = read_monitor_file(Path(what))
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
            file = _from_options(what, watch, {**times, **ends, **own}, _policy(window, rule))
    with connected() as (database, urls, settings):
        migrate.upgrade(database)
        monitor, is_new = make_monitor(database, open_store(urls.s3_url), file, settings)
        say(f"{'Created' if is_new else 'Changed'} the monitor {monitor.name}.")
        print_schedule(database, get_schedule(database, monitor.id), MONITORS.noun, json=json)
    if file.cron is not None:
        say(STARTS_UNDER_UP)


def _from_options(
    name: str, watch: Path | None, options: dict[str, Any], policy: dict[str, object]
) -> MonitorFile:
    from kinds.sentiment.monitor_file import make_monitor_file

    if watch is None:
        raise typer.BadParameter("give the watch list", param_hint="--watch")
    fields = {"name": name, "watch": watch, **options, "policy": policy}
    return make_monitor_file(fields, folder=Path.cwd(), where=name)


def _policy(windows: list[WindowSize] | None, rules: list[AlertRule] | None) -> dict[str, object]:
    of_windows: dict[str, object] = {"windows": windows, "alert_window": windows[0]} if windows else {}
    return of_windows | ({"rules": rules} if rules else {})


def _fields(ends: Iterable[Source | Target], *, allow_private: bool) -> list[dict[str, object]]:
    """Return the fields of sources or targets, which may access the user's own network only if allowed."""
    fields = [end.model_dump() for end in ends]
    return [
        each | {"allow_private": True} if allow_private and "allow_private" in each else each
        for each in fields
    ]


add_schedule_commands(app, MONITORS)


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
