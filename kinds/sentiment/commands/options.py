"""Options shared by several sentiment commands."""

from __future__ import annotations

from typing import Annotated

import typer

from kinds.sentiment.payload import ReportsOf

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
