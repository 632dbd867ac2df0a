"""`pressroom train classifier`: trains a model on a user's own labelled texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from jobs.errors import InputError
from jobs.shown import plural
from jobs.validation import describe_first
from kinds.classifier.labelled_texts import parse_label_map
from kinds.classifier.training_spec import LabelledFile, Recipe
from pressroom.commands.option_groups import with_option_groups
from pressroom.commands.options import Json, TextFormat, file_argument
from pressroom.commands.session import settings_of_command
from pressroom.console import EXIT_FAILURE, EXIT_USAGE, errors_reported, print_json, print_line, say
from workers.settings import DEFAULT_EMBEDDER, Settings

if TYPE_CHECKING:
    from kinds.classifier.train import PreparedTraining, TrainingResult
    from kinds.classifier.training_spec import Plan


@with_option_groups
def train_classifier(
    file: Annotated[
        Path,
        file_argument("Labelled texts: CSV, JSONL or Parquet, also .gz; or a TOML plan;"),
    ],
    out: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the new model.")] = None,
    base: Annotated[str, typer.Option(help="Installed encoder to fine-tune.")] = DEFAULT_EMBEDDER,
    text: Annotated[str, typer.Option(metavar="COLUMN", help="Column with the text.")] = "text",
    label: Annotated[str, typer.Option(metavar="COLUMN", help="Column with the label.")] = "label",
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column with the entity that the label is about.")
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column with a mapping of entities to labels; replaces --label."),
    ] = None,
    map_: Annotated[
        str | None, typer.Option("--map", help="Labels in the file, such as negative=0,neutral=2,positive=1.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, max=100, help="Maximum number of epochs.")] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=2**31 - 1, help="Seed of the split, of the order of examples and of dropout."
        ),
    ] = 0,
    data: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder that contains the files named in a TOML plan."),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Folder that also receives the adapter, the recipe, the evaluation and the model card.",
        ),
    ] = None,
    json: Json = False,
    *,
    text_format: TextFormat,
) -> None:
    """Fine-tune, calibrate, evaluate and install a classifier; repeat to continue after Ctrl-C."""
    from kinds.classifier.train import train

    with errors_reported():
        settings = settings_of_command()
        dialect = text_format.options()
        columns = {"text": text, "label": None if targets else label, "target": target, "targets": targets}
        columns |= {"delimiter": dialect.delimiter, "encoding": dialect.encoding}
        prepared = _Options(file, out, base, columns, map_, epochs, seed, data).prepared(settings)
        _say_data(prepared)
        trained = train(prepared, settings, keep=keep)
    if trained is None:
        raise typer.Exit(EXIT_FAILURE)
    _print(trained, json=json)


@dataclass(frozen=True, slots=True)
class _Options:
    """The command-line options, which define a training plan or name its file."""

    file: Path
    out: str | None
    base: str
    columns: Mapping[str, str | None]
    map: str | None
    epochs: int | None
    seed: int
    data: Path | None

    def prepared(self, settings: Settings) -> PreparedTraining:
        """Return the plan with its data; for an error in the plan or the data, exit with EXIT_USAGE."""
        from kinds.classifier.train import (
            PLAN_SUFFIX,
            TrainingDataMissingError,
            check_model_name,
            check_size,
            prepare,
            read_plan,
        )

        try:
            if self.file.suffix == PLAN_SUFFIX:
                plan, folder = self._changed(read_plan(self.file)), self.data or self.file.parent
            else:
                plan, folder = self._plan(), self.file.parent
            prepared = prepare(plan, folder, settings.models_folder)
            check_size(prepared)
        except (InputError, TrainingDataMissingError) as error:
            say(f"error [{error.code}]: {error}")
            raise typer.Exit(EXIT_USAGE) from error
        check_model_name(plan.model, settings.models_folder)
        return prepared

    def _changed(self, plan: Plan) -> Plan:
        """Return the plan with the model name and the number of epochs from the command line, if given."""
        changed = {} if self.epochs is None else {"epochs": self.epochs}
        recipe = plan.recipe.model_copy(update=changed)
        return plan.model_copy(update={"model": self.out or plan.model, "recipe": recipe})

    def _plan(self) -> Plan:
        from jobs.intake.files import digest_of
        from kinds.classifier.training_spec import Plan

        if self.out is None:
            raise typer.BadParameter("name the new model", param_hint="--out")
        try:
            labelled = LabelledFile.model_validate(
                {
                    "name": self.file.name,
                    "sha256": digest_of(self.file),
                    "map": parse_label_map(self.map) if self.map else {},
                    **self.columns,
                }
            )
        except ValidationError as error:
            raise InputError(describe_first(error), code="training_plan_invalid") from error
        recipe = Recipe() if self.epochs is None else Recipe(epochs=self.epochs)
        return Plan(model=self.out, base=self.base, seed=self.seed, files=(labelled,), recipe=recipe)


def _say_data(prepared: PreparedTraining) -> None:
    for file, data in zip(prepared.spec.files, prepared.data, strict=True):
        skipped_lines = plural(len(data.skipped), "line", "lines")
        say(f"{file.name}: {plural(len(data.examples), 'example', 'examples')}, {skipped_lines} skipped")
        for skipped in data.skipped[:5]:
            say(f"  line {skipped.line}, {skipped.reason}")


def _print(trained: TrainingResult, *, json: bool) -> None:
    manifest = trained.installed.manifest
    if json:
        record: dict[str, Any] = {
            "model": manifest.name,
            "folder": str(trained.installed.folder),
            "weights_sha256": manifest.weights_sha256,
            "batch_id": str(trained.batch_id),
            "job_id": str(trained.job_id),
            "elapsed_seconds": round(trained.seconds, 1),
            "evaluation": trained.evaluation,
        }
        print_json(record)
        return
    print_line(f"{manifest.name}: installed in {trained.installed.folder}")
    print_line("Results on held-out texts (near-duplicates were held out together):")
    for name, subsets in trained.evaluation["test"].items():
        for subset, figures in subsets.items():
            print_line(
                f"  {name}, {subset.replace('_', ' ')}: macro-F1 {figures['macro_f1']:.3f}, accuracy "
                f"{figures['accuracy']:.3f}, calibration error {figures['calibration_error']:.3f} "
                f"({figures['num_examples']} examples)"
            )
