"""`pressroom store`: manages the objects in the store."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

import typer

from pressroom.commands.options import Json
from pressroom.commands.session import connected
from pressroom.console import EXIT_FAILURE, print_json, print_line

app = typer.Typer(no_args_is_help=True, help="Manage the objects in the store.")

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

_AGE = re.compile(r"([0-9]{1,4})([mhdw])")


def _age(text: str) -> timedelta:
    match = _AGE.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not an age: write it as 12h, 1d or 2w")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


@app.callback()
def _group() -> None:
    """Manage the objects in the store."""


@app.command()
def sweep(
    older_than: Annotated[
        timedelta,
        typer.Option(
            metavar="AGE",
            parser=_age,
            help="Minimum age of the packs to delete or rewrite, such as 12h, 1d or 2w; at least 1h.",
        ),
    ] = "1d",  # type: ignore[assignment]  # typer parses the default, too
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only count the packs that would be deleted or rewritten; change nothing."
        ),
    ] = False,
    may_empty: Annotated[
        bool, typer.Option("--all", help="Sweep even if the database references none of the packs.")
    ] = False,
    json: Json = False,
) -> None:
    """Delete packs that no result references, and rewrite packs of which little is left."""
    from pressroom.show import say_altered
    from pressroom.sweep import Sweep, check_age
    from storage import open_store

    with connected() as (database, urls, _):
        min_age = check_age(older_than)
        store = open_store(urls.s3_url)
        report = Sweep(database, store, min_age=min_age, is_dry=dry_run, may_empty=may_empty).run()
    if json:
        print_json({**report.as_json(), "dry_run": dry_run})
    else:
        would = "would be " if dry_run else ""
        print_line(
            f"packs: {report.num_packs:,}, {would}deleted: {report.num_deleted:,}, {would}rewritten: "
            f"{report.num_rewritten:,}, bytes {would}freed: {report.bytes_freed:,}"
        )
    if report.altered:
        say_altered(report.altered)
        raise typer.Exit(EXIT_FAILURE)
