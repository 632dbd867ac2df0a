"""Options shared by several sentiment commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from kinds.sentiment.options import SentimentOptions
from kinds.sentiment.payload import ReportsOf
from kinds.sentiment.series.policy import AlertRule
from kinds.sentiment.series.time_windows import WindowSize
from pressroom.commands.options import DateFormat, DeviceOption, MaxDropped, columns_of
from workers.settings import DEFAULT_CLASSIFIER, DEFAULT_EMBEDDER

Reports = Annotated[
    ReportsOf | None,
    typer.Option(
        help="Which windows get a report: latest (one per entity), all, alerts, none; defaults to the "
        "monitor's setting."
    ),
]
MaxReports = Annotated[
    int | None,
    typer.Option(
        "--max-reports",
        min=0,
        max=1_000_000,
        help="Maximum number of reports in a batch; defaults to the monitor's setting, or 500.",
    ),
]
Windows = Annotated[
    list[WindowSize] | None,
    typer.Option(help="Window size; may be repeated. The rules apply to the first one."),
]
Rules = Annotated[
    list[AlertRule] | None, typer.Option(help="Alert rule; may be repeated. Defaults to all rules.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisOptions:
    """Options for reading and analysing a file of documents."""

    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column", metavar="FIELD=COLUMN", help="Column that a field is read from; may be repeated."
        ),
    ] = None
    date_format: DateFormat = None
    max_dropped: MaxDropped = None
    window: Windows = None
    time_zone: Annotated[str | None, typer.Option(help="Time zone of days and weeks, as an IANA name.")] = (
        None
    )
    rule: Rules = None
    false_alarms: Annotated[
        float | None,
        typer.Option(
            "--false-alarms",
            min=0.001,
            max=100,
            help="Budget of false alarms per week for the whole monitor.",
        ),
    ] = None
    model: Annotated[
        str, typer.Option(help="Installed classifier that determines the mood of the documents.")
    ] = DEFAULT_CLASSIFIER
    embedder: Annotated[
        str,
        typer.Option(
            help="Embedding model that finds topics by meaning. With `none`, they are found by alias only."
        ),
    ] = DEFAULT_EMBEDDER
    device: DeviceOption = "auto"

    def submission(
        self,
        monitor: str | None,
        *,
        summarizer: str,
        reports: ReportsOf | None = None,
        max_reports: int | None = None,
    ) -> SentimentOptions:
        """Return the options with which the documents are submitted to a monitor. Raises BadParameter."""
        return SentimentOptions(
            monitor=monitor,
            windows=tuple(self.window or ()) or None,
            time_zone=self.time_zone,
            rules=tuple(self.rule or ()) or None,
            false_alarms_per_week=self.false_alarms,
            embedder=self.embedder,
            summarizer=summarizer,
            reports=reports,
            max_reports=max_reports,
            columns=columns_of(self.column, "--column"),
            date_order=self.date_format,
        )
