"""Options that several commands about sentiment share."""

from __future__ import annotations

from typing import Annotated

import typer

from kinds.sentiment.payload import ReportsOf

Reports = Annotated[
    ReportsOf | None,
    typer.Option(help="latest (a window for each entity), all, alerts or none; unset: the monitor's own."),
]
MaxReports = Annotated[
    int | None,
    typer.Option(
        "--max-reports", min=0, max=1_000_000, help="In one batch; unset: the monitor's own, or 500."
    ),
]
