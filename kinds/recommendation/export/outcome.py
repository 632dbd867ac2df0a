"""Writes the results of a run into the output folder and prints them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import typer
from sqlalchemy import Engine

from db.stages import stage_outputs
from jobs.outputs import OutputT
from jobs.provenance import StatementAlteredError
from jobs.shown import json_text
from kinds.recommendation.export.census import ReleaseFigures
from kinds.recommendation.export.export import export_release
from kinds.recommendation.export.show import lines_of_figures, lines_of_stages, lines_of_texts
from kinds.recommendation.export.text_plan import TextPlan, text_plan
from kinds.recommendation.outputs import CollectOutput, EmbedOutput, FitOutput, RankOutput
from kinds.recommendation.refresh import Release
from kinds.recommendation.refreshes import open_release
from kinds.recommendation.store import refreshes, releases
from pressroom.console import EXIT_FAILURE, print_json, print_line, say
from pressroom.evidence import ArtifactAlteredError, OnAltered
from pressroom.export import export_errors
from pressroom.output import replace_text
from pressroom.show import say_altered
from pressroom.summary import Altered, Summary
from storage.store import Store

SUMMARY = "summary.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Result of a batch of a refresh."""

    release: Release | None
    """Release that the batch made; None for a plan or if a stage failed."""
    figures: ReleaseFigures | None
    texts: TextPlan | None
    stages: Mapping[str, Mapping[str, int]]
    """Figures of the stages before the texts, by stage."""

    def as_json(self) -> dict[str, object]:
        """Return the result under stable names; see docs/recommendations.md."""
        return {
            "release": None if self.figures is None else self.figures.as_json(),
            "texts": None if self.texts is None else self.texts.as_json(),
            "stages": {name: dict(figures) for name, figures in self.stages.items()},
        }

    def print(self, summary: Summary, out: Path, *, json: bool) -> None:
        """Print the result; exit with a failure if there is no release or if something is missing from it."""
        say_altered(summary.altered)
        if json:
            print_json({**summary.as_json(), **self.as_json()})
        else:
            for line in self._lines(out):
                print_line(line)
        counts = summary.report.counts
        if self.release is not None and counts.failed:
            say("Run it again: the texts that failed are written, and nothing else.")
        if self.release is None or counts.failed or counts.open or summary.altered:
            raise typer.Exit(EXIT_FAILURE)

    def _lines(self, out: Path) -> Iterator[str]:
        yield from lines_of_stages(self.stages)
        if self.texts is not None:
            yield from lines_of_texts(self.texts, is_plan=self.release is None)
        if self.figures is not None:
            yield from lines_of_figures(self.figures)
            yield f"Look at {out / 'index.html'}; the rows are in {out / 'recommendations.jsonl'}."


def export_outcome(database: Engine, store: Store, summary: Summary, out: Path) -> Outcome:
    """Write the batch's release, if there is one, and summary.json.

    Results that differ from what was committed are left out and listed in `summary.altered`.
    Raises DiskFullError, ConfigurationError (`output_unwritable`) and StoreError.
    """
    outcome = outcome_of(database, store, summary, out)
    with export_errors(out, summary.batch_id):
        told = {**summary.as_json(), **outcome.as_json()}
        replace_text(out / SUMMARY, json_text(told, indent=2) + "\n")
    return outcome


def outcome_of(database: Engine, store: Store, summary: Summary, out: Path) -> Outcome:
    """Write the batch's release as `export_outcome` does, without summary.json."""
    batch_id = summary.batch_id
    release = releases.release_of_batch(database, batch_id)
    figures = None
    if release is not None:
        try:
            figures = export_standing(database, store, release, out, summary.leave_out)
        except (ArtifactAlteredError, StatementAlteredError) as error:
            what = f"release {release.number}"
            summary.leave_out(Altered(release.id, what, error.code, str(error)))
    return Outcome(
        release=release,
        figures=figures,
        texts=text_plan(database, batch_id),
        stages=_stages(database, batch_id),
    )


def export_standing(
    database: Engine, store: Store, release: Release, out: Path, on_altered: OnAltered | None = None
) -> ReleaseFigures:
    """Write a release into the folder. Raises what `open_release` and `export_errors` raise."""
    with export_errors(out, release.batch_id):
        name = refreshes.get_refresh(database, release.refresh_id).name
        return export_release(open_release(database, store, release, on_altered), out, title=name)


def _stages(database: Engine, batch_id: UUID) -> dict[str, dict[str, int]]:
    stages: dict[str, dict[str, int]] = {}
    if collected := _outputs(database, batch_id, "collect", CollectOutput):
        stages["collect"] = {
            "num_rejected": sum(output.num_rejected for output in collected),
            "num_withdrawn": sum(output.num_withdrawn for output in collected),
        }
    if embedded := _outputs(database, batch_id, "embed", EmbedOutput):
        stages["embed"] = {
            "num_embedded": sum(output.num_embedded for output in embedded),
            "num_known": sum(output.num_known for output in embedded),
        }
    if fitted := _outputs(database, batch_id, "fit", FitOutput):
        stages["fit"] = {"num_fitted": sum(not output.is_carried for output in fitted)}
    if ranked := _outputs(database, batch_id, "rank", RankOutput):
        stages["rank"] = {
            "num_users": sum(output.num_users for output in ranked),
            "num_ranked": sum(output.num_ranked for output in ranked),
        }
    return stages


def _outputs(database: Engine, batch_id: UUID, stage: str, output_type: type[OutputT]) -> list[OutputT]:
    return [output for _, output in stage_outputs(database, batch_id, stage, output_type)]
