"""`pressroom run sentiment` and `pressroom monitor backtest`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.rejection import MAX_DROPPED_SHARE
from kinds.sentiment.commands.options import MaxReports, Reports
from kinds.sentiment.monitor import KIND
from kinds.sentiment.options import NONE, SentimentOptions
from kinds.sentiment.series.policy import AlertRule
from kinds.sentiment.series.time_windows import WindowSize
from pressroom.commands.kind import submit_command
from pressroom.commands.options import (
    BatchOption,
    DateFormat,
    Decimal,
    Delimiter,
    DeviceOption,
    Encoding,
    Json,
    MaxDropped,
    Out,
    RetryFailed,
    columns_of,
    file_argument,
    file_options,
    input_path,
    is_dropped_too_much,
)
from pressroom.commands.session import devices_of_command, settings_of_command
from pressroom.console import EXIT_FAILURE, errors_reported, print_json, print_line, say
from workers.settings import DEFAULT_CLASSIFIER, DEFAULT_EMBEDDER, DEFAULT_MODEL

if TYPE_CHECKING:
    from kinds.sentiment.backtest import Backtest
    from kinds.sentiment.export_files import SentimentFigures
    from pressroom.run import RunResult

Documents = Annotated[
    Path | None,
    file_argument("Documents: CSV, JSONL, Parquet, RSS or Atom, also .gz;"),
]
DatedDocuments = Annotated[
    Path,
    file_argument("Dated documents, as for `run`;"),
]
_WATCH = typer.Option("--watch", parser=input_path, metavar="FILE", help="Watch list as TOML or JSON.")
Watch = Annotated[Path | None, _WATCH]
WatchNeeded = Annotated[Path, _WATCH]
Events = Annotated[
    Path | None,
    typer.Option(
        parser=input_path,
        metavar="FILE",
        help="JSONL file of known events against which the alerts are scored.",
    ),
]
MonitorName = Annotated[
    str | None,
    typer.Option(
        help="Monitor to whose history the documents are added; defaults to the name of the watch list."
    ),
]
Column = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="FIELD=COLUMN", help="Column that a field is read from; may be repeated."
    ),
]
Window = Annotated[
    list[WindowSize] | None,
    typer.Option(help="Window size; may be repeated. The rules apply to the first one."),
]
TimeZone = Annotated[str | None, typer.Option(help="Time zone of days and weeks, as an IANA name.")]
Rule = Annotated[
    list[AlertRule] | None, typer.Option(help="Alert rule; may be repeated. Defaults to all rules.")
]
FalseAlarms = Annotated[
    float | None,
    typer.Option(
        "--false-alarms",
        min=0.001,
        max=100,
        help="Budget of false alarms per week for the whole monitor.",
    ),
]
Classifier = Annotated[str, typer.Option(help="Classifier of the documents.")]
Embedder = Annotated[
    str,
    typer.Option(
        help="Embedding model that finds topics by meaning. With `none`, they are found by alias only."
    ),
]
Summarizer = Annotated[
    str, typer.Option(help="Language model that writes summaries. With `none`, they are plain sentences.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse the whole file if any record is refused.")]


def run_sentiment(
    file: Documents = None,
    watch: Watch = None,
    out: Out = Path("out"),
    monitor: MonitorName = None,
    column: Column = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    decimal: Decimal = None,
    window: Window = None,
    time_zone: TimeZone = None,
    rule: Rule = None,
    false_alarms: FalseAlarms = None,
    reports: Reports = None,
    max_reports: MaxReports = None,
    model: Classifier = DEFAULT_CLASSIFIER,
    embedder: Embedder = DEFAULT_EMBEDDER,
    summarizer: Summarizer = DEFAULT_MODEL,
    batch: BatchOption = None,
    retry_failed: RetryFailed = False,
    date_format: DateFormat = None,
    max_dropped: MaxDropped = None,
    strict: Strict = False,
    device: DeviceOption = "auto",
    json: Json = False,
) -> None:
    """Analyse documents about watched companies and topics: rows, trends, alerts and a report of each."""
    from kinds.sentiment.runs import FileRun, run_file

    if (file is None) == (batch is None):
        raise typer.BadParameter("give a FILE, or --batch to continue a batch", param_hint="FILE")
    if file is not None and watch is None and monitor is None:
        raise typer.BadParameter("give a watch list, or a --monitor that has one", param_hint="--watch")
    with errors_reported():
        settings = settings_of_command()
        request = FileRun(
            file=file,
            watch=watch,
            model=model,
            options=SentimentOptions(
                monitor=monitor,
                windows=tuple(window or ()) or None,
                time_zone=time_zone,
                rules=tuple(rule or ()) or None,
                false_alarms_per_week=false_alarms,
                embedder=embedder,
                summarizer=summarizer,
                reports=reports,
                max_reports=max_reports,
                columns=columns_of(column, "--column"),
                date_order=date_format,
            ),
            file_options=file_options(delimiter, encoding, decimal),
            strict=strict,
            batch_id=batch,
            retry_failed=retry_failed,
            device=device,
            devices=devices_of_command(device),
        )
        result = run_file(request, out, settings, json=json)
    _print_run(result, out, max_dropped, json=json)


def backtest_file(
    file: DatedDocuments,
    watch: WatchNeeded,
    events: Events = None,
    column: Column = None,
    date_format: DateFormat = None,
    max_dropped: MaxDropped = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    decimal: Decimal = None,
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
    from kinds.sentiment.backtest import read_events
    from kinds.sentiment.documents.watchlist_file import read_watchlist
    from kinds.sentiment.runs import FileRun, backtest_name, replay_file

    with errors_reported():
        watchlist = read_watchlist(watch).watchlist
        known = None if events is None else read_events(events, watchlist, rule or tuple(AlertRule))
        settings = settings_of_command()
        columns = columns_of(column, "--column")
        name = backtest_name(file, watch, columns, model, embedder)
        request = FileRun(
            file=file,
            watch=watch,
            model=model,
            options=SentimentOptions(
                monitor=name,
                windows=tuple(window or ()) or None,
                time_zone=time_zone,
                rules=tuple(rule or ()) or None,
                false_alarms_per_week=false_alarms,
                embedder=embedder,
                summarizer=NONE,
                columns=columns,
                date_order=date_format,
            ),
            file_options=file_options(delimiter, encoding, decimal),
            device=device,
            devices=devices_of_command(device),
        )
        result = replay_file(request, known, settings)
    _print_backtest(result, max_dropped, json=json)


def _print_run(
    result: RunResult[SentimentFigures], out: Path, max_dropped: float | None, *, json: bool
) -> None:
    """Print the outcome of a run; fail if jobs are unfinished or documents were refused."""
    from jobs.batch import BatchStatus
    from pressroom.run import REJECTED

    result.exported.print(result.summary, out, json=json)
    counts = result.summary.report.counts
    if counts.rejected:
        say(f"The refused documents are in {out / REJECTED}.")
    is_dropped = is_dropped_too_much(result.dropped, max_dropped)
    if result.dropped is None:  # the batch was submitted earlier
        is_dropped = counts.rejected > 0
    is_complete = not (counts.failed or counts.open or result.exported.documents.num_refused)
    is_complete &= result.summary.report.status is not BatchStatus.FAILED
    if not is_complete or is_dropped or result.summary.altered:
        raise typer.Exit(EXIT_FAILURE)


def _print_backtest(result: RunResult[Backtest | None], max_dropped: float | None, *, json: bool) -> None:
    from kinds.sentiment.backtest import lines_of

    counts = result.summary.report.counts
    if result.exported is None:
        say("Not replayed: some documents are not analysed yet. Repeat the command to continue.")
    elif json:
        print_json(result.exported.as_json())
    else:
        for line in lines_of(result.exported):
            print_line(line)
    bound = MAX_DROPPED_SHARE if max_dropped is None else max_dropped
    if is_dropped_too_much(result.dropped, bound) or counts.failed or counts.open:
        raise typer.Exit(EXIT_FAILURE)


submit_sentiment = submit_command(
    KIND, "Queue the documents that are not known yet; print the batch's id once they are accepted."
)
