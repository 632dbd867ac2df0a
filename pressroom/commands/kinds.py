"""`pressroom kinds`: lists the installed kinds, and shows what each one reads, runs and stores."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pressroom.commands.options import Json
from pressroom.console import errors_reported, print_json, print_line

if TYPE_CHECKING:
    from jobs.kind import Kind
    from pressroom.schemas import ExampleFormat

app = typer.Typer(
    no_args_is_help=True,
    help="Show the installed kinds: their input, models and results.",
)


def _example_format(text: str) -> ExampleFormat:
    from pressroom.schemas import ExampleFormat

    try:
        return ExampleFormat(text)
    except ValueError as error:
        formats = " or ".join(ExampleFormat)
        raise typer.BadParameter(f"{text!r} is not an example format: use {formats}") from error


@app.command("list")
def list_kinds(json: Json = False) -> None:
    """List the installed kinds and the commands that create their batches."""
    from jobs.registry import kind_names

    kinds = [_listed(name) for name in kind_names()]
    if json:
        print_json({"kinds": kinds})
        return
    for kind in kinds:
        print_line(f"{kind['name']:<20} {kind['command'] or '':<32} {kind['error'] or kind['summary']}")


@app.command("show")
def show_kind(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of an installed kind.")],
    example: Annotated[
        Any,
        typer.Option(
            "--example",
            metavar="FORMAT",
            parser=_example_format,
            help="Print only a small example file, csv or jsonl, that `pressroom run NAME` accepts.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show a kind's columns, settings, model, stages, tables, ports and commands."""
    from jobs.registry import load_kind
    from pressroom.schemas import example_file

    with errors_reported():
        kind = load_kind(name)
        if example is not None:
            typer.echo(example_file(kind, example), nl=False)
            return
        shown = _shown(kind)
    if json:
        print_json(shown)
    else:
        _print(kind, shown)


def _listed(name: str) -> dict[str, object]:
    """Return a kind's entry in the list, with the reason if the kind cannot be loaded or run."""
    from jobs.errors import ConfigurationError
    from jobs.registry import load_kind
    from pressroom.schemas import summary_of

    try:
        kind = load_kind(name)
    except ConfigurationError as error:
        return {
            "name": name,
            "version": None,
            "command": None,
            "summary": None,
            "error": str(error),
        }
    paths = [path for path, _ in _commands(name)]
    reason = f"`pressroom run {name}` is another kind's command, so this kind has none: give it another name"
    return {
        "name": name,
        "version": kind.version,
        "command": paths[0] if paths else None,
        "summary": summary_of(kind),
        "error": None if paths else reason,
    }


def _shown(kind: Kind[Any]) -> dict[str, object]:
    """Return what `--json` prints for a kind."""
    from pressroom.export import DEFAULT_EXPORTER
    from pressroom.schemas import KindInfo

    tables = kind.tables
    return {
        **asdict(KindInfo.of(kind)),
        "stages": [
            {"name": stage.name, "output": stage.output_type.__name__ if stage.output_type else None}
            for stage in kind.stages
        ],
        "ports": [port.type.__name__ for port in kind.ports],
        "tables": None if tables is None else {"module": tables.module, "migrations": tables.migrations},
        "exporter": kind.exporter or DEFAULT_EXPORTER,
        "describer": kind.describer,
        "recurring": kind.recurring,
        "background": [{"name": each.name, "under": sorted(each.under)} for each in kind.background],
        "commands": [{"command": path, "help": help_text} for path, help_text in _commands(kind.name)],
    }


def _print(kind: Kind[Any], shown: dict[str, Any]) -> None:
    """Print the kind for people."""
    from jobs.kind import ROWS
    from pressroom.schemas import KindInfo
    from pressroom.show import print_labelled

    info = KindInfo.of(kind)

    print_labelled("kind", f"{kind.name}, version {kind.version}")
    print_labelled("", str(shown["summary"]))
    if kind.intake is ROWS:
        print_labelled("column", 'id (string, default "line-N"): identifies a line and its results')
        for column in info.columns:
            print_labelled("column", str(column))
    elif not info.inputs:
        print_labelled("input", "none: only its own commands create batches")
    for each in info.inputs if kind.intake is not ROWS else ():
        print_labelled("input", str(each))
    for setting in info.settings:
        print_labelled("setting", str(setting))
    print_labelled("model", kind.default_model or "none by default")
    for stage in shown["stages"]:
        print_labelled("stage", stage["name"] + (f", returns {stage['output']}" if stage["output"] else ""))
    for port in shown["ports"]:
        print_labelled("port", port)
    if kind.tables is not None:
        print_labelled("tables", f"{kind.tables.module}, migrations in {kind.tables.migrations}")
    if kind.recurring is not None:
        print_labelled("recurring", kind.recurring)
    for each in shown["background"]:
        print_labelled("background", f"{each['name']}, runs under {' and '.join(each['under'])}")
    for command in shown["commands"]:
        print_labelled("command", f"pressroom {command['command']}: {command['help']}")


def _commands(kind: str) -> list[tuple[str, str]]:
    """Return the path and help of each of a kind's commands; the first one makes its batches."""
    from pressroom.cli import commands

    return [(command.path, command.help) for command in commands().of_kind(kind)]
