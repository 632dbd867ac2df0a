"""The functions of `pressroom run prompt` and `pressroom submit prompt`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.intake.files import check_input
from jobs.rejection import FileRejectedError
from kinds.prompt.payload import DEFAULT_NUM_EXAMPLES, EXAMPLES, MAX_NUM_EXAMPLES, scalar_of
from kinds.prompt.recipe import RecipeUnknownError, find_recipe, read_recipe, read_text
from pressroom.commands.kind import SubmissionOptions, parse_settings, run_command, submit_command
from pressroom.commands.options import columns_of
from pressroom.commands.session import devices_of_command, settings_of_command
from workers.settings import DEFAULT_EMBEDDER

if TYPE_CHECKING:
    from jobs.intake.dialect import FileOptions
    from workers.intake import BatchRequest

PROMPT = "prompt"

MAX_PREVIEW_ROWS = 50


def _file(text: str) -> Path:
    """Return the path of a template or a schema. A file that cannot be read is reported as wrong usage."""
    path = Path(text)
    try:
        check_input(path)
    except FileRejectedError as error:
        raise typer.BadParameter(f"{error.rejected.reason}: {path} ({error.rejected.advice})") from error
    return path


def _recipe(text: str) -> Path:
    """Return the folder of a recipe. A recipe that does not exist is reported as wrong usage."""
    try:
        return find_recipe(text)
    except RecipeUnknownError as error:
        raise typer.BadParameter(str(error)) from error


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
    recipe: Annotated[
        Path | None,
        typer.Option(
            "--with",
            parser=_recipe,
            metavar="RECIPE",
            help="Recipe: a name that `pressroom recipes list` prints, or a folder with user.jinja and, if "
            "needed, system.jinja, schema.json and recipe.toml. Other options take precedence.",
        ),
    ] = None
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=COLUMN",
            help="Column of the table that the template reads as NAME; may be repeated.",
        ),
    ] = None
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column with the right answers: the summary and the page report accuracy and macro-F1.",
        ),
    ] = None
    settings_columns: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMNS",
            help="Columns, separated by commas, that override a sampling parameter of their row.",
        ),
    ] = None
    template_argument: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Variable for the model's chat template, such as enable_thinking=true; may be repeated.",
        ),
    ] = None
    examples: Annotated[
        Path | None,
        typer.Option(
            parser=_file,
            metavar="FILE",
            help="Table with the columns of the template and the answers: its rows that are nearest to a row "
            "are put into the prompt of the row as examples.",
        ),
    ] = None
    num_examples: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_NUM_EXAMPLES,
            metavar="NUMBER",
            help=f"Number of examples in each prompt; defaults to {DEFAULT_NUM_EXAMPLES}.",
        ),
    ] = None
    embedder: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help=f"Installed model that finds the nearest examples; defaults to {DEFAULT_EMBEDDER!r}.",
        ),
    ] = None
    truncate: Annotated[
        str | None,
        typer.Option(
            metavar="end",
            help="Cut a row that is too long, instead of refusing it, at the end of its longest "
            "column or of the one in the setting truncate_column.",
        ),
    ] = None
    model_map: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODEL",
            help="Installed model that serves the lines of an OpenAI batch file with this name; may be "
            "repeated.",
        ),
    ] = None
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Keep each result under this name. Rows that have not changed since return what is kept "
            "instead of generating it again.",
        ),
    ] = None

    def request(self, kind: str, file: FileOptions) -> BatchRequest:
        """Return the request for a batch, with the model of the recipe unless another one is given."""
        # super() does not work here, because a dataclass with slots is a new class.
        request = SubmissionOptions.request(self, kind, file)
        if self.model is None and self.recipe is not None:
            request = replace(request, model=read_recipe(self.recipe).file.model or request.model)
        return request

    def kind_settings(self, kind: str) -> dict[str, object]:
        """Return the settings of the batch, with the contents of the files.

        Raises FileRejectedError, RecipeInvalidError or BadParameter.
        """
        settings = {} if self.recipe is None else dict(read_recipe(self.recipe).settings)
        settings |= self._own_settings()
        settings |= parse_settings(kind, self.settings, settings)
        if any(pair.startswith(f"{EXAMPLES}=") for pair in self.named_inputs()):
            settings.setdefault("embedder", DEFAULT_EMBEDDER)  # the batch's workers must have it
        return settings

    def resume_options(self) -> tuple[str, ...]:
        """Return the options that decide which models the workers of the batch load."""
        maps = (word for pair in self.model_map or () for word in ("--model-map", pair))
        embedder = self.kind_settings(PROMPT).get("embedder")
        others = () if embedder is None else ("--embedder", str(embedder))
        return (*SubmissionOptions.resume_options(self), *maps, *others)

    def named_inputs(self) -> list[str]:
        """Return the additional inputs, with the examples."""
        examples = [] if self.examples is None else [f"{EXAMPLES}={self.examples}"]
        return [*SubmissionOptions.named_inputs(self), *examples]

    def _own_settings(self) -> dict[str, object]:
        files = {"template": self.template, "system": self.system, "json_schema": self.schema}
        settings: dict[str, object] = {
            name: read_text(path) for name, path in files.items() if path is not None
        }
        if self.template is not None:
            settings["template_name"] = self.template.stem
        named = {
            "into": self.into,
            "settings_columns": self.settings_columns,
            "template_arguments": dict(map(_argument, self.template_argument or ())) or None,
            "truncate": self.truncate,
            "column_names": columns_of(self.column, "--column") or None,
            "labels": self.labels,
            "keep": self.keep,
            "num_examples": self.num_examples,
            "embedder": self.embedder,
            "model_map": dict(map(_mapped, self.model_map)) if self.model_map else None,
        }
        return settings | {name: value for name, value in named.items() if value is not None}


def _argument(pair: str) -> tuple[str, str | int | float | bool]:
    name, equals, value = pair.partition("=")
    if not name.strip() or not equals:
        raise typer.BadParameter(f"{pair!r} is not of the form NAME=VALUE", param_hint="--template-argument")
    return name.strip(), scalar_of(value.strip())


def _mapped(pair: str) -> tuple[str, str]:
    name, equals, model = pair.rpartition("=")
    if not name or not equals or not model:
        raise typer.BadParameter(f"{pair!r} is not of the form NAME=MODEL", param_hint="--model-map")
    return name, model


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions(PromptOptions):
    """Options of `pressroom run prompt`."""

    preview: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_PREVIEW_ROWS,
            metavar="ROWS",
            help="Run only the first rows, print their prompts and answers, and keep nothing.",
        ),
    ] = None

    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Say how many rows are new, changed and unchanged under the name of --keep, and what they "
            "will cost; run nothing.",
        ),
    ] = False

    def run_instead(
        self, request: BatchRequest, inputs: Mapping[str, Path], device: str, *, json: bool
    ) -> bool:
        """Run a preview or print a plan if it is requested, and return whether it is."""
        if self.plan:
            from kinds.prompt.plan import print_plan

            if not inputs:
                raise typer.BadParameter("a plan needs a FILE", param_hint="--plan")
            if not request.settings.get("keep"):
                raise typer.BadParameter("a plan needs --keep NAME", param_hint="--plan")
            if self.preview is not None:
                raise typer.BadParameter("choose either --plan or --preview", param_hint="--plan")
            print_plan(request, inputs, json=json)
            return True
        if self.preview is None:
            return False
        from kinds.prompt.preview import run_preview

        if not inputs or not request.settings.get("template"):
            raise typer.BadParameter("a preview needs a FILE and a template", param_hint="--preview")
        run_preview(
            request, inputs, self.preview, settings_of_command(), devices_of_command(device), json=json
        )
        return True


run_prompt = run_command(
    PROMPT,
    "Send each row of a table through a template; the results are the table with new columns.",
    options_type=RunOptions,
)
submit_prompt = submit_command(
    PROMPT,
    "Queue a job for each row of a table; print the batch's id once everything is accepted.",
    options_type=PromptOptions,
)
