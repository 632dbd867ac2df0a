"""`pressroom run recommendations`: rank items and write texts for the users of one catalogue and log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from jobs.rejection import Rejected
from jobs.shown import plural
from kinds.recommendation.catalogue.inputs import MatchIds
from kinds.recommendation.recommender import KIND, Recommender, RecommenderSources
from kinds.recommendation.texts.text import TextScope
from pressroom.commands.kind import submit_command
from pressroom.commands.option_groups import with_option_groups
from pressroom.commands.options import (
    DateFormat,
    DeviceOption,
    Json,
    MaxDropped,
    Out,
    RetryFailed,
    TableFormat,
    columns_of,
    input_path,
)
from pressroom.commands.session import altered_named, devices_of_command, settings_of_command
from pressroom.console import errors_reported, print_json, say
from workers.settings import Settings

if TYPE_CHECKING:
    from kinds.recommendation.recommender_file import RecommenderFile
    from kinds.recommendation.recommenders import IngestedRun
    from pressroom.one_machine import OneMachine
    from workers.producer import Submission

Catalogue = Annotated[
    Path | None,
    typer.Option(parser=input_path, metavar="FILE", help="Table of items: CSV, JSONL or Parquet, also .gz."),
]
Interactions = Annotated[
    Path | None,
    typer.Option(
        parser=input_path,
        metavar="FILE",
        help="Log of interactions between users and items, in the same formats.",
    ),
]
Copy = Annotated[
    TextScope | None,
    typer.Option(
        "--copy",
        help="Audience of a text: user, segment or item. With `none`, lists are written without texts.",
    ),
]
Model = Annotated[str | None, typer.Option(help="Language model that writes the texts.")]
Embedder = Annotated[
    str | None,
    typer.Option(
        help="Embedding model that finds similar items by their texts. With `none`, attributes are compared."
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingOptions:
    """Options for reading a catalogue and a log."""

    settings: Annotated[
        Path | None,
        typer.Option(
            "--settings",
            parser=input_path,
            metavar="FILE",
            help="TOML file with the models and the tables `rules`, `copy`, `ranking` and `intake`.",
        ),
    ] = None
    catalogue_column: Annotated[
        list[str] | None,
        typer.Option(
            "--catalogue-column",
            metavar="FIELD=COLUMN",
            help="Column that a field of the catalogue is read from; may be repeated.",
        ),
    ] = None
    interaction_column: Annotated[
        list[str] | None,
        typer.Option(
            "--interaction-column",
            metavar="FIELD=COLUMN",
            help="Column that a field of the log is read from; may be repeated.",
        ),
    ] = None
    date_format: DateFormat = None
    match_ids: Annotated[
        MatchIds | None,
        typer.Option(
            "--match-ids",
            help="How ids are compared: exact, or loose, which ignores case, spaces, leading zeros and a "
            "final .0.",
        ),
    ] = None
    max_dropped: MaxDropped = None

    def intake(self) -> dict[str, object]:
        """Return the options by the names that they have in a recommender's intake settings."""
        return {
            "catalogue_columns": columns_of(self.catalogue_column, "--catalogue-column"),
            "interaction_columns": columns_of(self.interaction_column, "--interaction-column"),
            "date_order": self.date_format,
            "match_ids": self.match_ids,
            "max_dropped_share": self.max_dropped,
        }


@with_option_groups
def run_recommendations(
    catalogue: Catalogue = None,
    interactions: Interactions = None,
    out: Out = Path("out"),
    recommender: Annotated[
        str | None,
        typer.Option(
            "--refresh",
            help="Name of the recommender whose releases are continued; defaults to the catalogue's name.",
        ),
    ] = None,
    copy: Copy = None,
    model: Model = None,
    embedder: Embedder = None,
    batch: Annotated[UUID | None, typer.Option(help="Continue this batch instead of reading files.")] = None,
    retry_failed: RetryFailed = False,
    device: DeviceOption = "auto",
    json: Json = False,
    *,
    reading: ReadingOptions,
    table_format: TableFormat,
) -> None:
    """Rank items for each user, and write texts where something has changed since the last run."""
    from kinds.recommendation.export.outcome import export_outcome
    from kinds.recommendation.options import RecommendationOptions  # loads numpy
    from kinds.recommendation.recommender_file import file_of
    from kinds.recommendation.recommender_runs import profiles_of
    from kinds.recommendation.recommenders import sources_of
    from pressroom.run import RunRequest, run_batch

    if batch is None and (catalogue is None or interactions is None):
        raise typer.BadParameter("give --catalogue and --interactions, or --batch to continue a batch")
    with errors_reported():
        configured = settings_of_command()
        own = {"recommender": recommender, "copy": copy, "model": model, "embedder": embedder}
        options = RecommendationOptions.model_validate(own | reading.intake())
        over = partial(options.over, settings_file=reading.settings, file=table_format.options())
        devices = devices_of_command(device)
        submit, file = None, over(None)
        if catalogue is not None and interactions is not None:
            name = recommender or file.name or catalogue.name.partition(".")[0]
            sources = sources_of(catalogue, interactions)
            ingested = _ingest(over, name, sources, out, configured, json=json)
            if ingested is None:
                return
            submit, file = _submitter(ingested, configured), file_of(ingested.run.recommender)
        request = RunRequest(
            profiles=profiles_of(file.language_model, file.settings, configured),
            submit=submit,
            batch_id=batch,
            retry_failed=retry_failed,
            out=out,
            devices=devices,
            resume_command=("pressroom", "run", "recommendations", "--device", device, "--out", str(out)),
            is_ingested=True,
        )
        result = run_batch(request, configured, export_outcome)
    result.exported.print(result.summary, out, json=json)


def _ingest(
    over: Callable[[Recommender | None], RecommenderFile],
    name: str,
    sources: RecommenderSources,
    out: Path,
    settings: Settings,
    *,
    json: bool,
) -> IngestedRun | None:
    """Ingest the files and return the resulting run.

    If nothing has changed, export the published release, report it and return None.
    """
    from db.migrate import upgrade
    from db.session import opened_database
    from kinds.recommendation.export.outcome import export_to_folder
    from kinds.recommendation.recommenders import earlier_recommender, ingest_run, make_recommender
    from pressroom.embedded.services import embedded_services
    from pressroom.export import check_output
    from pressroom.run import REJECTED, rejected_lines
    from storage import open_store

    check_output(out)
    with embedded_services(settings, say) as urls, opened_database(urls.db_url) as database:
        upgrade(database)
        store = open_store(urls.s3_url)
        file = over(earlier_recommender(database, name))
        recommender, _ = make_recommender(database, file, name, settings, has_sources=False)
        with rejected_lines(out / REJECTED) as on_rejected:
            ingested = ingest_run(
                database,
                store,
                recommender,
                sources,
                settings,
                on_rejected,
                lambda note: say(f"note: {note}"),
            )
        _report_ingest(ingested)
        if ingested.unchanged is None:
            return ingested
        with altered_named() as on_altered:
            figures = export_to_folder(database, store, ingested.unchanged, out, on_altered)
            say(f"Nothing has changed since release {figures.number}, which is in {out}.")
            if json:
                print_json({"unchanged": True, "release": figures.as_json()})
    return None


def _report_ingest(ingested: IngestedRun) -> None:
    inputs = ingested.run.inputs
    if inputs is not None:
        say(f"{inputs.num_items} items, {inputs.num_users} users, {inputs.num_interactions} interactions")
        for name, number in sorted(inputs.counts.items()):
            if number:
                say(f"  {name}: {number}")
    if ingested.num_withdrawn:
        say(
            f"{plural(ingested.num_withdrawn, 'item is', 'items are')} no longer available, and no longer on "
            "the published lists."
        )


def _submitter(
    ingested: IngestedRun, settings: Settings
) -> Callable[[OneMachine, Callable[[Rejected], None]], Submission]:
    from kinds.recommendation.recommender_runs import start_run

    def submit(machine: OneMachine, _: Callable[[Rejected], None]) -> Submission:
        with machine.database.begin() as connection:
            return start_run(connection, ingested.run, settings)

    return submit


submit_recommendations = submit_command(
    KIND, "Queue a run over a catalogue and a log; print the batch's id once both are ingested."
)
