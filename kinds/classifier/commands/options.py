"""Arguments and options that are shared by the commands that read a labelled file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.intake.dialect import FileOptions
from kinds.classifier.labelled_texts import LabelColumns, LabelledInput, LabelMapError, parse_label_map
from pressroom.commands.options import file_argument, file_option_words

LabelledPath = Annotated[
    Path,
    file_argument("Labelled texts: CSV, JSONL or Parquet, also .gz;"),
]
LabelOption = Annotated[str | None, typer.Option(help="Column with the label.")]
TargetOption = Annotated[str | None, typer.Option(help="Column with the entity that the label is about.")]
TargetsOption = Annotated[
    str | None,
    typer.Option(help='Column with a mapping of targets to labels, such as {"Acme": "positive"}.'),
]
MapOption = Annotated[
    str | None,
    typer.Option(
        "--map",
        metavar="CLASS=LABEL,...",
        help="Labels of each class in the file, such as negative=0,neutral=2,positive=1.",
    ),
]


def labelled_input(
    path: Path,
    text: str,
    label: str | None,
    target: str | None,
    targets: str | None,
    label_map: str | None,
    options: FileOptions,
) -> LabelledInput:
    """Return the labelled file with its columns. Raises BadParameter for contradictory options."""
    if (label is None) == (targets is None) or (target is not None and targets is not None):
        raise typer.BadParameter(
            "give --label, with or without --target, or else --targets", param_hint="--label"
        )
    try:
        classes = parse_label_map(label_map) if label_map else {}
    except LabelMapError as error:
        raise typer.BadParameter(str(error), param_hint="--map") from error
    columns = LabelColumns(text=text, label=label, target=target, targets=targets, map=classes)
    return LabelledInput(path=path, columns=columns, options=options)


def label_options(source: LabelledInput, label_map: str | None) -> list[str]:
    """Return the options as command-line arguments, for the command that continues the batch."""
    columns = source.columns
    options = {
        "--text": columns.text,
        "--label": columns.label,
        "--target": columns.target,
        "--targets": columns.targets,
        "--map": label_map,
    }
    words = [part for name, value in options.items() if value is not None for part in (name, value)]
    return words + file_option_words(source.options)
