"""The command line: parse -> call -> print. The commands are in pressroom/commands."""

from __future__ import annotations

from importlib.metadata import version as version_of
from typing import Annotated

import typer

from pressroom.commands import (
    alerts,
    articles,
    batches,
    evaluate,
    machine,
    models,
    monitor,
    recommendations,
    refresh,
    sentiment,
    standing,
    train,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Batch content production on your own machines: nothing lost, nothing twice, with provenance.",
)
run_app = typer.Typer(no_args_is_help=True, help="Run a batch on this machine, from file to results.")
submit_app = typer.Typer(no_args_is_help=True, help="Queue a batch for workers that run elsewhere.")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"pressroom {version_of('pressroom')}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end."),
    ] = False,
) -> None:
    """What stands before every command."""


run_app.command("articles")(articles.run_articles)
run_app.command("sentiment")(sentiment.run_sentiment)
run_app.command("recommendations")(recommendations.run_recommendations)
submit_app.command("articles")(articles.submit_articles)
monitor.app.command("backtest")(sentiment.backtest_file)
app.add_typer(run_app, name="run")
app.add_typer(submit_app, name="submit")
app.add_typer(batches.app)
app.add_typer(machine.app)
app.add_typer(standing.app)
app.add_typer(monitor.app, name="monitor")
app.add_typer(alerts.app, name="alerts")
app.add_typer(refresh.app, name="refresh")
app.add_typer(machine.db_app, name="db")
app.add_typer(models.app, name="models")
app.add_typer(train.app, name="train")
app.add_typer(evaluate.app, name="evaluate")


def main() -> None:
    """Entry point of the `pressroom` command."""
    app()
