"""`pressroom evaluate recommendations`: measure how well methods rank the items of a log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinds.recommendation.commands.recommendations import Catalogue, ReadingOptions
from pressroom.commands.option_groups import with_option_groups
from pressroom.commands.options import Json, TableFormat, input_path
from pressroom.console import errors_reported, print_json, say

if TYPE_CHECKING:
    from kinds.recommendation.ranking.evaluation import Evaluation
    from kinds.recommendation.ranking.measures import Interval

_COLUMNS = ("ndcg", "recall", "map", "hit_rate", "novelty", "diversity")
_MAX_SAID = 5
"""Maximum number of rejected lines that are reported individually; all are counted."""


@with_option_groups
def evaluate_recommendations(
    interactions: Annotated[
        Path,
        typer.Option(
            parser=input_path,
            metavar="FILE",
            help="Log of interactions between users and items: CSV, JSONL or Parquet, also .gz.",
        ),
    ],
    catalogue: Catalogue = None,
    split: Annotated[
        str,
        typer.Option(
            metavar="HOW", help="How the log is split: random:0.2, temporal:0.2 or leave-last-one-out."
        ),
    ] = "random:0.2",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the random split.")] = 0,
    k: Annotated[int, typer.Option("--k", min=1, max=100, help="Number of items on each list.")] = 10,
    json: Json = False,
    *,
    reading: ReadingOptions,
    table_format: TableFormat,
) -> None:
    """Hold out part of a log, rank items by the rest, and print how much of that part the lists contain.

    Compares the configured blend with EASE, item-kNN and popularity on the same users, with bootstrap
    intervals. Needs no service and no model.
    """
    # Imported here because SciPy loads slowly, and every command would have to wait for it.
    from kinds.recommendation.ranking.evaluation import (
        SplitInvalidError,
        evaluate,
        parse_split,
        read_log_files,
    )
    from kinds.recommendation.recommender_file import RecommenderFile, read_recommender_file

    try:
        how = parse_split(split)
    except SplitInvalidError as error:
        raise typer.BadParameter(str(error), param_hint="--split") from error
    options = reading.intake() | table_format.options().given()
    refused: list[str] = []
    with errors_reported():
        path = reading.settings
        file = RecommenderFile() if path is None else read_recommender_file(path)
        intake = file.intake.model_copy(
            update={name: value for name, value in options.items() if value not in (None, {})}
        )
        files = read_log_files(
            interactions,
            catalogue,
            intake,
            on_rejected=lambda rejected: refused.append(str(rejected)),
            on_note=lambda note: say(f"note: {note}"),
        )
        figures = evaluate(files.log, files.items, how, seed=seed, k=k, settings=file.ranking)
    for sentence in [*refused[:_MAX_SAID], *(f"{count:,} {code}" for code, count in files.counts.items())]:
        say(sentence)
    if json:
        print_json({**figures.as_json(), "noticed": dict(files.counts)})
    else:
        _print_figures(figures)


def _print_figures(figures: Evaluation) -> None:
    """Print the figures as a table on stdout."""
    from kinds.recommendation.ranking.evaluation import COMPARED

    new = f", {figures.num_new_users:,} of them new" if figures.num_new_users else ""
    num_entries = figures.num_known + figures.num_held_out
    typer.echo(
        f"{figures.split}, seed {figures.seed}: {figures.num_held_out:,} of {num_entries:,} entries "
        f"held out, of {figures.num_users:,} users{new}; "
        f"{figures.num_items:,} items; lists of {figures.k}"
    )
    typer.echo(
        f"\n{'':15}" + "".join(f"{name:>24}" for name in _COLUMNS[:4]) + "   novelty diversity coverage"
    )
    for name, method in figures.methods.items():
        cells = "".join(f"{_interval(method.per_user[measure]):>24}" for measure in _COLUMNS[:4])
        rest = "".join(f"{method.per_user[measure].mean:10.3f}" for measure in _COLUMNS[4:])
        typer.echo(f"{name:15}{cells}{rest}{method.coverage:9.3f}")
    typer.echo("\nthe blend minus")
    for name, difference in figures.differences.items():
        cells = "".join(f"{_interval(difference[measure], signed=True):>24}" for measure in COMPARED)
        typer.echo(f"{name:15}{cells}")
    typer.echo("\nMeans over users with 95% bootstrap intervals; differences are paired.")


def _interval(value: Interval, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{value.mean:{sign}.3f} [{value.low:{sign}.3f}, {value.high:{sign}.3f}]"
