"""Turns a catalogue and a log of interactions into the jobs of a batch's first stage."""

from __future__ import annotations

from db.stages import NewJob
from kinds.recommendation.options import RecommendationOptions
from kinds.recommendation.recommender_runs import batch_of, first_jobs
from kinds.recommendation.recommenders import earlier_recommender, ingest_run, make_recommender, sources_of
from workers.intake import InputMissingError, IntakePlan, IntakeSource

CATALOGUE = "catalogue"
INTERACTIONS = "interactions"
SETTINGS = "settings"
"""Names of the three input files: the items, the log, and a TOML file with all other settings."""


def read_shop(source: IntakeSource) -> IntakePlan:
    """Ingest both files and plan the first stage of a run, which continues its recommender's releases.

    Items that are no longer available are removed from the published lists. Implements
    workers.intake.IntakeReader.
    """
    catalogue, interactions = source.path(CATALOGUE), source.path(INTERACTIONS)
    if catalogue is None or interactions is None:
        raise InputMissingError("recommendations need a catalogue and a log of interactions, as files")
    options = RecommendationOptions.model_validate(source.options, from_attributes=True)
    if source.request.model:
        options = options.model_copy(update={"model": source.request.model})
    database, settings_file = source.connection.engine, source.path(SETTINGS)
    file = options.over(None, settings_file=settings_file)
    name = options.recommender or file.name or catalogue.name.partition(".")[0]
    file = options.over(
        earlier_recommender(database, name), settings_file=settings_file, file=source.request.file
    )
    recommender, _ = make_recommender(database, file, name, source.settings, has_sources=False)
    ingested = ingest_run(
        database,
        source.open_store(),
        recommender,
        sources_of(catalogue, interactions),
        source.settings,
        source.on_rejected,
        lambda note: source.on_note(f"note: {note}"),
    )
    batch = batch_of(database, ingested.run, source.settings)
    inputs = ingested.run.inputs
    num_rows = 0 if inputs is None else inputs.num_items + inputs.num_interactions
    return IntakePlan(
        jobs=[
            NewJob(custom_id, payload.model_dump(mode="json"), payload.root.stage)
            for custom_id, payload in first_jobs(ingested.run, batch)
        ],
        settings=batch.settings,
        model=batch.model,
        name=batch.name,
        stages=tuple(stage.name for stage in batch.stages),
        num_records=lambda: num_rows,
    )
