"""Arguments and options that are shared by the commands that read a labelled file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from kinds.classifier.labelled_texts import LabelColumns, LabelledInput, LabelMapError, parse_label_map
from pressroom.commands.options import TextFormat, file_argument, option_words
from pressroom.commands.session import devices_of_command

if TYPE_CHECKING:
    from pressroom.run import RunRequest, Submit

LABELLED_FILE = file_argument("Labelled texts: CSV, JSONL or Parquet, also .gz;")

BatchOfFile = Annotated[
    UUID | None,
    typer.Option("--batch", help="Continue this batch, which was made from FILE."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOptions(TextFormat):
    """Options for the columns of a labelled file and for its format."""

    label: Annotated[str | None, typer.Option(help="Column with the label.")] = None
    target: Annotated[str | None, typer.Option(help="Column with the entity that the label is about.")] = None
    targets: Annotated[
        str | None,
        typer.Option(help='Column with a mapping of targets to labels, such as {"Acme": "positive"}.'),
    ] = None
    label_map: Annotated[
        str | None,
        typer.Option(
            "--map",
            metavar="CLASS=LABEL,...",
            help="Labels of each class in the file, such as negative=0,neutral=2,positive=1.",
        ),
    ] = None

    def input(self, path: Path, text: str) -> LabelledInput:
        """Return the labelled file with its columns; `text` is the column with the text.

        Raises BadParameter for contradictory options.
        """
        is_contradictory = self.target is not None and self.targets is not None
        if (self.label is None) == (self.targets is None) or is_contradictory:
            raise typer.BadParameter(
                "give --label, with or without --target, or else --targets", param_hint="--label"
            )
        try:
            classes = parse_label_map(self.label_map) if self.label_map else {}
        except LabelMapError as error:
            raise typer.BadParameter(str(error), param_hint="--map") from error
        columns = LabelColumns(
            text=text, label=self.label, target=self.target, targets=self.targets, map=classes
        )
        return LabelledInput(path=path, columns=columns, options=self.options())

    def words(self, source: LabelledInput) -> list[str]:
        """Return the options as words of a command line, for the command that continues the batch."""
        return option_words(
            {
                "text": source.columns.text,
                "label": self.label,
                "target": self.target,
                "targets": self.targets,
                "map": self.label_map,
                **source.options.given(),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRun:
    """One run of a command that classifies the texts of a labelled file with an installed model."""

    model: str
    source: LabelledInput
    labels: LabelOptions
    batch: UUID | None
    device: str

    def request(
        self, submit: Submit, command: Sequence[str], options: Sequence[str], *, out: Path | None = None
    ) -> RunRequest:
        """Return the request for the batch; `command` and its own `options` are the words to continue it."""
        from kinds.classifier.evaluate import PROFILE
        from pressroom.run import RunRequest

        words = [*self.labels.words(self.source), "--device", self.device, *options]
        return RunRequest(
            profiles=(PROFILE,),
            submit=submit,
            batch_id=self.batch,
            retry_failed=self.batch is not None,
            out=out,
            devices=devices_of_command(self.device),
            resume_command=("pressroom", *command, str(self.source.path), *words),
        )
