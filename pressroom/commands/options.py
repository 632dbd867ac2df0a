"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from jobs.kinds.sentiment_report.payload import ReportsOf

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Out = Annotated[Path, typer.Option("--out", "-o", file_okay=False, help="Folder for the results.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda:N, or several with commas.")]
BatchOption = Annotated[UUID | None, typer.Option("--batch", help="Go on with this batch; no FILE then.")]
RetryFailed = Annotated[
    bool,
    typer.Option("--retry-failed", help="With --batch: run failed, cancelled and expired jobs again."),
]
Reports = Annotated[
    ReportsOf | None,
    typer.Option(help="latest (a window for each entity), all, alerts or none; unset: the monitor's own."),
]
MaxReports = Annotated[
    int | None,
    typer.Option("--max-reports", min=0, help="In one batch; unset: the monitor's own, or 500."),
]
BatchArgument = Annotated[UUID, typer.Argument(metavar="BATCH")]


def columns_of(given: list[str] | None, option: str) -> dict[str, str]:
    """FIELD=COLUMN, by field."""
    pairs = [item.partition("=") for item in given or []]
    for name, equals, column in pairs:
        if not (name and equals and column):
            raise typer.BadParameter(f"{name!r} is not FIELD=COLUMN", param_hint=option)
    return {name: column for name, _, column in pairs}
