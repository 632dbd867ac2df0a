"""The functions of `pressroom run prompt` and `pressroom submit prompt`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from jobs.intake.files import check_input, read_input
from jobs.rejection import FileRejectedError, refuse_file
from pressroom.commands.kind import SubmissionOptions, run_command, submit_command

PROMPT = "prompt"

MAX_FILE_BYTES = 1_000_000
"""Maximum size of a template or a schema in bytes. The settings limit their characters further."""


def _file(text: str) -> Path:
    """Return the path of a template or a schema. A file that cannot be read is reported as wrong usage."""
    path = Path(text)
    try:
        check_input(path)
    except FileRejectedError as error:
        raise typer.BadParameter(f"{error.rejected.reason}: {path} ({error.rejected.advice})") from error
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptOptions(SubmissionOptions):
    """Options of the commands that make prompt batches."""

    template: Annotated[
        Path | None,
        typer.Option(
            parser=_file,
            metavar="FILE",
            help="Template in Jinja whose variables are the columns of the table.",
        ),
    ] = None
    system: Annotated[
        Path | None,
        typer.Option(parser=_file, metavar="FILE", help="Template of the system's turn."),
    ] = None
    schema: Annotated[
        Path | None,
        typer.Option(
            parser=_file,
            metavar="FILE",
            help="JSON schema of an object: each of its properties becomes a new column.",
        ),
    ] = None
    into: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Name of the new column; defaults to 'text'."),
    ] = None

    model_map: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODEL",
            help="Installed model that serves the lines of an OpenAI batch file with this name; may be "
            "repeated.",
        ),
    ] = None

    def kind_settings(self, kind: str) -> dict[str, object]:
        """Return the settings of the batch, with the contents of the files. Raises FileRejectedError."""
        # super() does not work in a dataclass with slots, which is a class made from this one.
        settings = SubmissionOptions.kind_settings(self, kind)
        if self.template is not None:
            settings |= {"template": _read(self.template), "template_name": self.template.stem}
        if self.system is not None:
            settings["system"] = _read(self.system)
        if self.schema is not None:
            settings["json_schema"] = _read(self.schema)
        if self.into is not None:
            settings["into"] = self.into
        if self.model_map:
            settings["model_map"] = dict(map(_mapped, self.model_map))
        return settings


def _mapped(pair: str) -> tuple[str, str]:
    name, equals, model = pair.rpartition("=")
    if not name or not equals or not model:
        raise typer.BadParameter(f"{pair!r} is not of the form NAME=MODEL", param_hint="--model-map")
    return name, model


def _read(path: Path) -> str:
    """Return the text of a file. Raises FileRejectedError."""
    try:
        return read_input(path, MAX_FILE_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse_file(path, "text_invalid_unicode", "is not UTF-8", "save the file as UTF-8") from error


run_prompt = run_command(
    PROMPT,
    "Send each row of a table through a template; the results are the table with new columns.",
    options_type=PromptOptions,
)
submit_prompt = submit_command(
    PROMPT,
    "Queue a job for each row of a table; print the batch's id once everything is accepted.",
    options_type=PromptOptions,
)
