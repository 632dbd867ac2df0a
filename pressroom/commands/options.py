"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from jobs.documents.instants import DateFormatError, DateOrder, parse_date_order
from jobs.dropped import Dropped, InputDroppedError, check_dropped, parse_share
from jobs.kinds.sentiment_report.payload import ReportsOf
from pressroom.console import say


def _share(text: str) -> float:
    try:
        return parse_share(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no share: write 0.05 or 5%") from error


def _date_order(text: str) -> DateOrder:
    try:
        return parse_date_order(text)
    except DateFormatError as error:
        raise typer.BadParameter(str(error)) from error


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
MaxDropped = Annotated[
    float | None,
    typer.Option(
        "--max-dropped", metavar="SHARE", parser=_share, help="Of the input that may be refused: 0.05 or 5%."
    ),
]
DateFormat = Annotated[
    DateOrder | None,
    typer.Option(
        "--date-format",
        metavar="ORDER",
        parser=_date_order,
        help="Of dates such as 12/1/2026: day-first or month-first; unset: as the whole column tells.",
    ),
]
BatchArgument = Annotated[UUID, typer.Argument(metavar="BATCH")]


def is_dropped_too_much(dropped: Dropped | None, max_dropped: float | None) -> bool:
    """Whether a command fails for what was refused of its file: for any record, unless a share is allowed.

    Says which share it was if that is above the usual bound.
    """
    if dropped is None or not dropped.num_dropped:
        return False
    try:
        check_dropped(dropped, max_dropped)
    except InputDroppedError as error:
        say(f"error [{error.code}]: {error}")
        return True
    return max_dropped is None


def columns_of(given: list[str] | None, option: str) -> dict[str, str]:
    """FIELD=COLUMN, by field."""
    pairs = [item.partition("=") for item in given or []]
    for name, equals, column in pairs:
        if not (name and equals and column):
            raise typer.BadParameter(f"{name!r} is not FIELD=COLUMN", param_hint=option)
    return {name: column for name, _, column in pairs}
