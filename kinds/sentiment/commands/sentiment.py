"""`pressroom run sentiment` and `pressroom monitor backtest`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.rejection import MAX_DROPPED_SHARE
from kinds.sentiment.commands.options import AnalysisOptions, MaxReports, Reports
from kinds.sentiment.monitor import KIND
from kinds.sentiment.options import NONE
from kinds.sentiment.series.policy import AlertRule
from pressroom.commands.kind import submit_command
from pressroom.commands.option_groups import with_option_groups
from pressroom.commands.options import (
    BatchOption,
    Json,
    Out,
    RetryFailed,
    TableFormat,
    columns_of,
    file_argument,
    input_path,
    is_dropped_too_much,
)
from pressroom.commands.session import devices_of_command, settings_of_command
from pressroom.console import EXIT_FAILURE, errors_reported, print_json, print_line, say
from workers.settings import DEFAULT_MODEL

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
Summarizer = Annotated[
    str, typer.Option(help="Language model that writes summaries. With `none`, they are plain sentences.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse the whole file if any record is refused.")]


@with_option_groups
def run_sentiment(
    file: Documents = None,
    watch: Watch = None,
    out: Out = Path("out"),
    monitor: MonitorName = None,
    reports: Reports = None,
    max_reports: MaxReports = None,
    summarizer: Summarizer = DEFAULT_MODEL,
    batch: BatchOption = None,
    retry_failed: RetryFailed = False,
    strict: Strict = False,
    json: Json = False,
    *,
    analysis: AnalysisOptions,
    table_format: TableFormat,
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
            model=analysis.model,
            options=analysis.submission(
                monitor, summarizer=summarizer, reports=reports, max_reports=max_reports
            ),
            file_options=table_format.options(),
            strict=strict,
            batch_id=batch,
            retry_failed=retry_failed,
            device=analysis.device,
            devices=devices_of_command(analysis.device),
        )
        result = run_file(request, out, settings, json=json)
    _print_run(result, out, analysis.max_dropped, json=json)


@with_option_groups
def backtest_file(
    file: DatedDocuments,
    watch: WatchNeeded,
    events: Events = None,
    json: Json = False,
    *,
    analysis: AnalysisOptions,
    table_format: TableFormat,
) -> None:
    """Replay a file of dated documents day by day, as if they arrived live, and report the alerts with their
    accuracy and delay."""
    from kinds.sentiment.backtest import read_events
    from kinds.sentiment.documents.watchlist_file import read_watchlist
    from kinds.sentiment.runs import FileRun, backtest_name, replay_file

    with errors_reported():
        watchlist = read_watchlist(watch).watchlist
        rules = analysis.rule or tuple(AlertRule)
        known = None if events is None else read_events(events, watchlist, rules)
        settings = settings_of_command()
        columns = columns_of(analysis.column, "--column")
        name = backtest_name(file, watch, columns, analysis.model, analysis.embedder)
        request = FileRun(
            file=file,
            watch=watch,
            model=analysis.model,
            options=analysis.submission(name, summarizer=NONE),
            file_options=table_format.options(),
            device=analysis.device,
            devices=devices_of_command(analysis.device),
        )
        result = replay_file(request, known, settings)
    _print_backtest(result, analysis.max_dropped, json=json)


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
        say(
            "Not replayed, because some documents have not been analysed yet. Repeat the command to continue."
        )
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
