"""`pressroom run sentiment` and `pressroom monitor backtest`."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy import Engine

from db import monitors
from db.monitors import MonitorNotFoundError
from jobs.documents.watchlist_file import read_watchlist
from jobs.errors import ConfigurationError
from jobs.monitor import Monitor
from jobs.rejection import Rejected
from jobs.series.policy import Policy
from jobs.series.window import AlertRule, WindowSize
from pressroom.backtest import MONITOR_PREFIX, Backtest, backtest, lines_of, read_events
from pressroom.commands.options import DeviceOption, Json, Out
from pressroom.commands.session import devices_of_command, settings_of_command
from pressroom.console import EXIT_FAILURE, errors_reported, print_json, say
from pressroom.one_machine import OneMachine
from pressroom.run import REJECTED, RunRequest, run_batch
from pressroom.sentiment import export_sentiment
from pressroom.show import print_sentiment
from pressroom.summary import Summary
from storage import open_store
from storage.store import Store
from workers.document_producer import FILE_STAGES, DocumentsOrder, put_watchlist, submit_documents
from workers.producer import Submission
from workers.settings import DEFAULT_CLASSIFIER, DEFAULT_EMBEDDER, DEFAULT_MODEL, Settings

NONE = "none"
"""In place of a model's name: do without one."""

Column = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="FIELD=COLUMN", help="Where the file names a field otherwise."),
]
Window = Annotated[list[WindowSize] | None, typer.Option(help="Repeat; the first is judged.")]
TimeZone = Annotated[str | None, typer.Option(help="IANA name: where a day begins.")]
Rule = Annotated[list[AlertRule] | None, typer.Option(help="Repeat; unset: all four.")]
FalseAlarms = Annotated[
    float | None,
    typer.Option("--false-alarms", min=0.001, help="A week, of the whole monitor: the budget."),
]
Classifier = Annotated[str, typer.Option(help="The classifier.")]
Embedder = Annotated[str, typer.Option(help="Finds topics by meaning; none: by alias.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorOptions:
    """What the command line says of the monitor; None leaves it as it is, or takes the default."""

    name: str | None
    watch: Path | None
    model: str
    windows: tuple[WindowSize, ...] | None
    time_zone: str | None
    rules: tuple[AlertRule, ...] | None
    false_alarms_per_week: float | None


def run_sentiment(
    file: Annotated[
        Path | None,
        typer.Argument(
            exists=True,
            dir_okay=False,
            readable=True,
            help="Documents: CSV, JSONL (also .gz), Parquet, RSS or Atom.",
        ),
    ] = None,
    watch: Annotated[
        Path | None,
        typer.Option("--watch", exists=True, dir_okay=False, help="Watch list: TOML or JSON."),
    ] = None,
    out: Out = Path("out"),
    monitor: Annotated[
        str | None,
        typer.Option(help="Whose history the documents become part of; unset: the watch list's name."),
    ] = None,
    column: Column = None,
    window: Window = None,
    time_zone: TimeZone = None,
    rule: Rule = None,
    false_alarms: FalseAlarms = None,
    reports: Annotated[str, typer.Option(help="latest, alerts or none.")] = "latest",
    model: Classifier = DEFAULT_CLASSIFIER,
    embedder: Embedder = DEFAULT_EMBEDDER,
    summarizer: Annotated[str, typer.Option(help="Writes summaries; none: plain sentences.")] = DEFAULT_MODEL,
    batch: Annotated[UUID | None, typer.Option(help="Go on with this batch; no FILE then.")] = None,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="With --batch: run failed, cancelled and expired jobs again."),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse the whole file for one bad record.")
    ] = False,
    device: DeviceOption = "auto",
    json: Json = False,
) -> None:
    """Read documents about watched companies and topics: rows, trends, alerts and a report of each."""
    if (file is None) == (batch is None):
        raise typer.BadParameter("give a FILE, or --batch to go on with one", param_hint="FILE")
    if file is not None and watch is None and monitor is None:
        raise typer.BadParameter("give the watch list, or --monitor with one", param_hint="--watch")
    options = MonitorOptions(
        name=monitor,
        watch=watch,
        model=model,
        windows=tuple(window) if window else None,
        time_zone=time_zone,
        rules=tuple(rule) if rule else None,
        false_alarms_per_week=false_alarms,
    )
    own = {
        "embedder": None if embedder == NONE else embedder,
        "summarizer": None if summarizer == NONE else summarizer,
        "reports": reports,
    }
    with errors_reported():
        configured = settings_of_command()
        models = [name for name in (model, own["embedder"], own["summarizer"]) if name]
        request = RunRequest(
            profiles=(configured.profile_of(models),),
            submit=None
            if file is None
            else _submitter(file, options, own, _columns(column), strict, configured),
            batch_id=batch,
            retry_failed=retry_failed,
            out=out,
            devices=devices_of_command(device),
            go_on=(
                *("pressroom", "run", "sentiment", "--model", model, "--embedder", embedder),
                *("--summarizer", summarizer, "--device", device, "--out", str(out)),
            ),
        )
        result = run_batch(request, configured, export_sentiment)
    print_sentiment(result.summary, result.exported, out, json=json)
    counts = result.summary.report.counts
    if counts.rejected:
        say(f"The refused documents are in {out / REJECTED}.")
    if not counts.complete and (counts.failed or counts.open or counts.rejected):
        raise typer.Exit(EXIT_FAILURE)


def backtest_file(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, readable=True, help="Dated documents, as for `run`."),
    ],
    watch: Annotated[
        Path, typer.Option("--watch", exists=True, dir_okay=False, help="Watch list: TOML or JSON.")
    ],
    events: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="What happened, as JSONL, to score the alerts by."),
    ] = None,
    column: Column = None,
    window: Window = None,
    time_zone: TimeZone = None,
    rule: Rule = None,
    false_alarms: FalseAlarms = None,
    model: Classifier = DEFAULT_CLASSIFIER,
    embedder: Embedder = DEFAULT_EMBEDDER,
    device: DeviceOption = "auto",
    json: Json = False,
) -> None:
    """Replay a dated file as if live, day by day: alerts, and how right and how late they were."""
    with errors_reported(), tempfile.TemporaryDirectory(prefix="pressroom-backtest-") as folder:
        known = None if events is None else read_events(events)
        configured = settings_of_command()
        own = {"embedder": None if embedder == NONE else embedder, "summarizer": None, "reports": "none"}
        # Apart from live history, and the same for the same files: what is known is not analysed again.
        name = _backtest_name(file, watch, _columns(column), model, embedder)
        options = MonitorOptions(
            name=name,
            watch=watch,
            model=model,
            windows=tuple(window) if window else None,
            time_zone=time_zone,
            rules=tuple(rule) if rule else None,
            false_alarms_per_week=false_alarms,
        )
        request = RunRequest(
            profiles=(configured.profile_of([name for name in (model, own["embedder"]) if name]),),
            submit=_submitter(file, options, own, _columns(column), False, configured, stages=("documents",)),
            batch_id=None,
            retry_failed=False,
            out=Path(folder),
            devices=devices_of_command(device),
            go_on=("pressroom", "monitor", "backtest", str(file), "--watch", str(watch)),
        )

        def replayed(database: Engine, _store: Store, summary: Summary, _out: Path) -> Backtest | None:
            if summary.report.counts.open:
                return None  # interrupted: what is missing would look like silence
            return backtest(database, monitors.find_monitor(database, name), known)

        result = run_batch(request, configured, replayed)
    if result.exported is None:
        say("Not replayed: some documents are not analysed yet. The same command goes on.")
    elif json:
        print_json(result.exported.as_json())
    else:
        for line in lines_of(result.exported):
            typer.echo(line)
    if result.summary.report.counts.failed or result.summary.report.counts.open:
        raise typer.Exit(EXIT_FAILURE)


def _backtest_name(*parts: object) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        else:
            digest.update(repr(part).encode())
    return f"{MONITOR_PREFIX}{digest.hexdigest()[:16]}"


def _submitter(
    file: Path,
    options: MonitorOptions,
    own: dict[str, str | None],
    columns: dict[str, str],
    strict: bool,
    settings: Settings,
    *,
    stages: tuple[str, ...] = FILE_STAGES,
) -> Callable[[OneMachine, Callable[[Rejected], None]], Submission]:
    def submit(machine: OneMachine, on_rejected: Callable[[Rejected], None]) -> Submission:
        monitor = put_monitor_of(machine.database, open_store(machine.urls.s3_url), options)
        order = DocumentsOrder(monitor=monitor, settings=own, columns=columns, strict=strict, stages=stages)
        submission, intake = submit_documents(machine.database, file, order, settings, on_rejected)
        repeated = f"{intake.num_repeated} repeated in the file, " if intake.num_repeated else ""
        say(
            f"{intake.num_documents} documents to analyse, {intake.num_known} known already, "
            f"{repeated}{intake.num_rejected} refused; monitor {monitor.name}"
        )
        return submission

    return submit


def put_monitor_of(database: Engine, store: Store, options: MonitorOptions) -> Monitor:
    """The monitor that is meant, made or changed as the options say.

    One with sources is a standing one: it is used as it is, and changed by `monitor create` alone. Raises
    MonitorNotFoundError or ConfigurationError (`monitor_stands`).
    """
    watched = None if options.watch is None else read_watchlist(options.watch)
    for warning in () if watched is None else watched.warnings:
        say(f"warning: {options.watch}: {warning}")
    name = options.name or (watched.watchlist.name if watched else "")
    try:
        earlier: Monitor | None = monitors.find_monitor(database, name)
    except MonitorNotFoundError:
        earlier = None
    if earlier is not None and earlier.sources:
        return _standing(earlier, options)
    if watched is not None:
        watchlist_sha256, num_entities = put_watchlist(store, watched), len(watched.watchlist.entities)
    elif earlier is not None:
        watchlist_sha256, num_entities = earlier.watchlist_sha256, earlier.num_entities
    else:
        raise MonitorNotFoundError(f"no monitor is named {name!r}: give its watch list with --watch")
    monitor = Monitor(
        id=earlier.id if earlier else monitors.new_id(),
        tenant="default",
        name=name,
        watchlist_sha256=watchlist_sha256,
        num_entities=num_entities,
        policy=_policy(options, earlier.policy if earlier else Policy()),
        sources=(),
        targets=earlier.targets if earlier else (),
        settings=earlier.settings if earlier else {},
        model=options.model,
    )
    with database.begin() as connection:
        monitors.put_monitor(connection, monitor)
    return monitor


def _standing(monitor: Monitor, options: MonitorOptions) -> Monitor:
    given = (options.watch, options.windows, options.time_zone, options.rules, options.false_alarms_per_week)
    if any(one is not None for one in given) or options.model != monitor.model:
        raise ConfigurationError(
            f"the monitor {monitor.name!r} stands by itself, with the classifier {monitor.model}: run files "
            f"through it with --monitor {monitor.name} --model {monitor.model} and none of its other "
            "options, change it with `pressroom monitor create`, or give --monitor another name",
            code="monitor_stands",
        )
    return monitor


def _policy(options: MonitorOptions, earlier: Policy) -> Policy:
    given = {
        "windows": options.windows,
        "alert_window": options.windows[0] if options.windows else None,
        "time_zone": options.time_zone,
        "rules": options.rules,
        "false_alarms_per_week": options.false_alarms_per_week,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    try:
        return Policy.model_validate({**earlier.model_dump(), **changed})
    except ValueError as error:
        raise ConfigurationError(str(error), code="policy_invalid") from error


def _columns(given: list[str] | None) -> dict[str, str]:
    pairs = [item.partition("=") for item in given or []]
    for name, equals, column in pairs:
        if not (name and equals and column):
            raise typer.BadParameter(f"{name!r} is not FIELD=COLUMN", param_hint="--column")
    return {name: column for name, _, column in pairs}
