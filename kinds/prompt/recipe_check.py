"""Checks a recipe without a model: its files, its columns, and the prompts of its example rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import InputError
from jobs.intake.dialect import AS_FOUND
from jobs.rejection import quoted
from kinds.prompt.columns import check_settings, new_columns
from kinds.prompt.intake import first_rows
from kinds.prompt.parts import part_settings
from kinds.prompt.payload import PromptPayload, PromptSettings
from kinds.prompt.recipe import EXAMPLES_FILE, FILES, RECIPE_FILE, Recipe, read_recipe
from kinds.prompt.row import RowRequest, row_of, template_of

MAX_EXAMPLES = 1_000
"""Maximum number of example rows that are checked."""


@dataclass(frozen=True, slots=True)
class RecipeCheck:
    """The outcome of a check."""

    folder: Path
    num_examples: int
    """Number of example rows whose prompts could be made."""
    problems: tuple[str, ...]
    """A sentence for each problem, with the file and, in a file with keys, the key."""

    def as_json(self) -> dict[str, object]:
        """Return the outcome as JSON for scripts."""
        return {
            "folder": str(self.folder),
            "num_examples": self.num_examples,
            "problems": list(self.problems),
        }


def check_recipe(folder: Path) -> RecipeCheck:
    """Check a recipe. Problems are part of the outcome and raise nothing."""
    try:
        recipe = read_recipe(folder)
    except InputError as error:
        return RecipeCheck(folder, 0, (str(error),))
    own = recipe.batch_settings
    try:
        problems = [*_description_problems(recipe), *_column_problems(recipe, own)]
    except InputError as error:  # a template or the schema, which the message names
        return RecipeCheck(folder, 0, (f"{folder}: {error}",))
    num_examples, faults = _render_examples(folder / EXAMPLES_FILE, own)
    return RecipeCheck(folder, num_examples, (*problems, *faults))


def _description_problems(recipe: Recipe) -> Iterator[str]:
    path = recipe.folder / RECIPE_FILE
    if not path.is_file():
        yield f"{path} is missing: describe the recipe in it"
    elif not recipe.file.description.strip():
        yield f"{path}: description is missing: say in one sentence what the recipe does"


def _column_problems(recipe: Recipe, settings: PromptSettings) -> Iterator[str]:
    """Yield the differences between the described columns and those of the templates and the schema."""
    path, read, new = recipe.folder / RECIPE_FILE, _columns_read(settings), new_columns(settings)
    described, described_new = recipe.file.columns, recipe.file.new_columns
    for name in sorted(read - described.keys()):
        yield f"{path}, [columns]: {quoted(name)} is missing, although the template reads it"
    for name in sorted(described.keys() - read):
        yield f"{path}, [columns]: {quoted(name)} is read by no template: remove it"
    source = "into" if settings.json_schema is None else FILES["json_schema"]
    for name in (name for name in new if name not in described_new):
        yield f"{path}, [new_columns]: {quoted(name)} is missing, although {source} names it"
    for name in (name for name in described_new if name not in new):
        yield f"{path}, [new_columns]: {quoted(name)} is not in {source}: remove it"


def _columns_read(settings: PromptSettings) -> frozenset[str]:
    own = template_of(settings).columns
    return own if settings.map_template is None else own | template_of(part_settings(settings)).columns


def _render_examples(path: Path, settings: PromptSettings) -> tuple[int, Sequence[str]]:
    """Return the number of example rows whose prompts could be made, and the problems of the others."""
    if not path.is_file():
        return 0, [f"{path} is missing: add a table with a few example rows"]
    try:
        rows, rejected = first_rows(path, AS_FOUND, MAX_EXAMPLES)
        columns = tuple(dict.fromkeys(name for row in rows for name in row))
        own = settings.model_copy(update={"columns": columns})
        if rows:
            check_settings(own)
    except InputError as error:
        return 0, [f"{path}: {error}"]
    problems = [str(line) for line in rejected] + ([] if rows or rejected else [f"{path} has no rows"])
    for number, row in enumerate(rows, start=1):
        try:
            shown = row_of(PromptPayload.model_validate({"row": row}), own)
            for each in (own,) if own.map_template is None else (own, part_settings(own)):
                RowRequest.of(shown, each, seed=0)
        except InputError as error:
            problems.append(f"{path}, row {number}: {error}")
    return len(rows), problems
