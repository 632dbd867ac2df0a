"""Arguments and options that are shared by the commands that read a labelled file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.intake.dialect import AS_FOUND, FileOptions
from kinds.classifier.labelled import LabelColumns, LabelMapError, parse_label_map
from pressroom.commands.options import file_argument, file_option_words

LabelledPath = Annotated[
    Path,
    file_argument("Labelled: CSV, JSONL or Parquet, also .gz;"),
]
LabelOption = Annotated[str | None, typer.Option(help="Column with the label.")]
TargetOption = Annotated[str | None, typer.Option(help="Column with what the label is about.")]
TargetsOption = Annotated[
    str | None,
    typer.Option(help='Column that maps targets to labels, such as {"Acme": "positive"}.'),
]
MapOption = Annotated[
    str | None,
    typer.Option("--map", metavar="CLASS=LABEL,...", help="negative=0,neutral=2,positive=1"),
]


def label_columns(
    text: str,
    label: str | None,
    target: str | None,
    targets: str | None,
    label_map: str | None,
    file: FileOptions = AS_FOUND,
) -> LabelColumns:
    """Return the columns that the options name. Raises BadParameter."""
    if (label is None) == (targets is None) or (target is not None and targets is not None):
        raise typer.BadParameter(
            "name a label column, with or without --target, or --targets", param_hint="--label"
        )
    try:
        classes = parse_label_map(label_map) if label_map else None
    except LabelMapError as error:
        raise typer.BadParameter(str(error), param_hint="--map") from error
    return LabelColumns(text=text, label=label, target=target, targets=targets, classes=classes, file=file)


def label_options(columns: LabelColumns, label_map: str | None) -> list[str]:
    """Return the options as words of a command line, for a command that continues the batch."""
    options = {
        "--text": columns.text,
        "--label": columns.label,
        "--target": columns.target,
        "--targets": columns.targets,
        "--map": label_map,
    }
    words = [part for name, value in options.items() if value is not None for part in (name, value)]
    return words + file_option_words(columns.file)
