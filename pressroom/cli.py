"""The command line. Each command parses its arguments, calls a function and prints the result.

Pressroom's own commands are in pressroom/commands. The commands of a kind are in the kind's folder and are
declared by an entry point. The code of a command is loaded only when the command is called.
"""

from __future__ import annotations

from typing import Annotated

import typer

from pressroom.command_table import Command, CommandTable, read_commands
from pressroom.lazy import lazy_group, report_left_out

OWN = (
    Command("run", None, "Run a batch on this machine, from the input file to the results."),
    Command("submit", None, "Queue a batch for workers that are running elsewhere."),
    Command(
        "status",
        ("pressroom.commands.batches:status"),
        "Show the progress of a batch: jobs by state, tokens and errors.",
    ),
    Command("batches", "pressroom.commands.batches:list_batches", "List the newest batches."),
    Command(
        "results",
        "pressroom.commands.batches:results",
        "Write the results that a batch has so far into a folder, or as objects with readable keys.",
    ),
    Command("cancel", "pressroom.commands.batches:cancel", "Cancel a batch; its finished results are kept."),
    Command(
        "retry",
        "pressroom.commands.batches:retry",
        "Queue failed, expired and cancelled jobs again, and release parked jobs.",
    ),
    Command(
        "show",
        "pressroom.commands.batches:show",
        "Show how a job's artifact was made: attempts, model, engine, sampling, tokens and digests.",
    ),
    Command(
        "services",
        "pressroom.commands.machine:services",
        "Run Valkey, Postgres and S3 for this machine until Ctrl-C, and print their URLs.",
    ),
    Command(
        "dispatcher",
        "pressroom.commands.machine:dispatcher",
        "Send queued jobs to the workers and requeue the jobs of crashed workers, until Ctrl-C.",
    ),
    Command(
        "worker",
        "pressroom.commands.machine:worker",
        "Run one worker process per device, with its models loaded, until Ctrl-C drains it.",
    ),
    Command(
        "config",
        "pressroom.commands.machine:config",
        "Print every setting with its value and its source; secrets are masked.",
    ),
    Command(
        "up",
        "pressroom.commands.machine:up",
        "Run services, dispatcher, beat and workers until Ctrl-C drains them; due schedules are started.",
    ),
    Command(
        "beat",
        "pressroom.commands.machine:beat",
        "Start due schedules and run the services of kinds, such as deliveries, until Ctrl-C; one beat is "
        "active, and others stand by.",
    ),
    Command(
        "kinds",
        "pressroom.commands.kinds:app",
        "Show the installed kinds: their input, models and results.",
    ),
    Command(
        "schedule",
        "pressroom.commands.schedule:app",
        "Manage schedules, which run a batch repeatedly.",
    ),
    Command("store", "pressroom.commands.store:app", "Manage the objects in the store."),
    Command("db", "pressroom.commands.machine:db_app", "Manage the schema of the database."),
    Command("models", "pressroom.commands.models:app", "Install, calibrate, list and verify models."),
    Command("train", None, "Train models on your own data."),
    Command("evaluate", None, "Evaluate a model on labelled data, or rankings on a log."),
)
"""The commands that belong to no kind, and the groups to which kinds add their commands."""


def commands() -> CommandTable:
    """Return all installed commands."""
    return read_commands(OWN, report_left_out)


app = typer.Typer(
    cls=lazy_group(commands),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(
        "Batch content production on your own machines: no job is lost or done "
        "twice, and every result has its provenance."
    ),
)


def _print_version(is_requested: bool) -> None:
    if is_requested:
        from importlib.metadata import version

        typer.echo(f"pressroom {version('pressroom')}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Accept the options that precede every command."""
