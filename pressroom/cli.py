"""The command line: parse -> call -> print. The commands are in pressroom/commands, loaded when called."""

from __future__ import annotations

from typing import Annotated

import typer

from pressroom.lazy import LazyCommand, lazy_group

RUN = lazy_group(
    LazyCommand(
        "articles",
        "kinds.article.commands:run_articles",
        "Write an article for each brief: submit, work, show progress, export, stop.",
    ),
    LazyCommand(
        "sentiment",
        "kinds.sentiment.commands.sentiment:run_sentiment",
        "Read documents about watched companies and topics: rows, trends, alerts and a report of each.",
    ),
    LazyCommand(
        "recommendations",
        "kinds.recommendation.commands.recommendations:run_recommendations",
        "Rank for each user and write the words, where something changed since the run before.",
    ),
)
SUBMIT = lazy_group(
    LazyCommand(
        "articles",
        "kinds.article.commands:submit_articles",
        "Queue an article for each brief; print the batch's id once everything is accepted.",
    ),
)
COMMANDS = lazy_group(
    LazyCommand(
        "status", "pressroom.commands.batches:status", "Print a batch's jobs by state, tokens and errors."
    ),
    LazyCommand("batches", "pressroom.commands.batches:list_batches", "List the newest batches."),
    LazyCommand(
        "results", "pressroom.commands.batches:results", "Write a batch's results so far into a folder."
    ),
    LazyCommand("cancel", "pressroom.commands.batches:cancel", "End a batch; what is finished stays."),
    LazyCommand(
        "retry",
        "pressroom.commands.batches:retry",
        "Queue what failed, expired or was cancelled again, and release parked jobs.",
    ),
    LazyCommand(
        "show",
        "pressroom.commands.batches:show",
        "Show how one job's artifact was made: attempts, model, engine, sampling, tokens, digests.",
    ),
    LazyCommand(
        "services",
        "pressroom.commands.machine:services",
        "Run Valkey, Postgres and S3 for this machine until Ctrl-C; print their URLs.",
    ),
    LazyCommand(
        "dispatcher",
        "pressroom.commands.machine:dispatcher",
        "Send queued jobs to the workers and repair what crashes leave, until Ctrl-C.",
    ),
    LazyCommand(
        "worker",
        "pressroom.commands.machine:worker",
        "Run one worker process for each device, its models warm, until Ctrl-C drains it.",
    ),
    LazyCommand(
        "config",
        "pressroom.commands.machine:config",
        "Print every setting with its value and source; secrets are masked.",
    ),
    LazyCommand(
        "up",
        "pressroom.commands.standing:up",
        "Run services, dispatcher, beat and workers until Ctrl-C drains them; schedules are kept.",
    ),
    LazyCommand(
        "beat",
        "pressroom.commands.standing:beat",
        "Start what is due by its schedule, and deliver alerts, until Ctrl-C; one is active, others stand "
        "by.",
    ),
    LazyCommand(
        "monitor",
        "kinds.sentiment.commands.monitor:app",
        "What is watched by itself: sources, a watch list, a schedule.",
    ),
    LazyCommand(
        "alerts", "kinds.sentiment.commands.alerts:app", "Alerts: what was raised, seen, and shall be silent."
    ),
    LazyCommand(
        "refresh",
        "kinds.recommendation.commands.refresh:app",
        "Recommendations that are kept fresh: files, rules, a schedule.",
    ),
    LazyCommand("db", "pressroom.commands.machine:db_app", "The database's schema."),
    LazyCommand("models", "pressroom.commands.models:app", "Install, calibrate, list and verify models."),
    LazyCommand("train", "kinds.classifier.commands.train:app", "Train models on your own data."),
    LazyCommand(
        "evaluate",
        "kinds.classifier.commands.evaluate:app",
        "Measure a model on labelled data, rankings on a log.",
    ),
)

app = typer.Typer(
    cls=COMMANDS,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Batch content production on your own machines: nothing lost, nothing twice, with provenance.",
)
app.add_typer(
    typer.Typer(cls=RUN, no_args_is_help=True, help="Run a batch on this machine, from file to results."),
    name="run",
)
app.add_typer(
    typer.Typer(cls=SUBMIT, no_args_is_help=True, help="Queue a batch for workers that run elsewhere."),
    name="submit",
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"pressroom {version('pressroom')}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end."),
    ] = False,
) -> None:
    """What stands before every command."""
