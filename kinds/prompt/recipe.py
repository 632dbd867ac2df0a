"""Recipes: folders with templates, a schema and settings, which commands take with `--with`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.errors import InputError
from jobs.intake.files import TOML_ERRORS, read_input, read_toml
from jobs.rejection import refuse_file
from jobs.validation import describe_first

RECIPE_FILE = "recipe.toml"

FILES: Mapping[str, str] = {
    "template": "user.jinja",
    "system": "system.jinja",
    "json_schema": "schema.json",
}
"""Files of a recipe by the settings that contain them. Only `user.jinja` is required."""

MAX_FILE_BYTES = 1_000_000
"""Maximum size of a template or a schema in bytes. The settings limit their characters further."""


class RecipeInvalidError(InputError):
    """The folder is no recipe."""

    code = "recipe_invalid"


class RecipeFile(BaseModel):
    """The content of `recipe.toml`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    description: str = Field(default="", max_length=2_000)
    model: str | None = None
    """Model of the batch; None for the default of the kind."""
    settings: dict[str, object] = {}
    """Settings of the batch, as PromptSettings names them."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe: a model, and the settings of a batch with the contents of the folder's files."""

    name: str
    file: RecipeFile
    settings: Mapping[str, object]


def read_recipe(folder: Path) -> Recipe:
    """Read a recipe from a folder. Raises RecipeInvalidError or FileRejectedError."""
    template = folder / FILES["template"]
    if not template.is_file():
        raise RecipeInvalidError(f"{folder} is no recipe: it needs the file {template.name}")
    file = _read_file(folder / RECIPE_FILE)
    if both := sorted(FILES.keys() & file.settings.keys()):
        raise RecipeInvalidError(
            f"{folder / RECIPE_FILE}: the setting {both[0]!r} is the file {FILES[both[0]]}: remove it"
        )
    name = folder.resolve().name
    contents = {
        setting: read_text(folder / file_name)
        for setting, file_name in FILES.items()
        if (folder / file_name).is_file()
    }
    return Recipe(name, file, {**file.settings, **contents, "template_name": name})


def _read_file(path: Path) -> RecipeFile:
    if not path.is_file():
        return RecipeFile()
    try:
        return RecipeFile.model_validate(read_toml(path))
    except ValidationError as error:
        raise RecipeInvalidError(f"{path}: {describe_first(error, noun='setting of a recipe')}") from error
    except TOML_ERRORS as error:
        raise RecipeInvalidError(f"{path} is not TOML: {error}") from error


def read_text(path: Path) -> str:
    """Return the text of a template or a schema. Raises FileRejectedError."""
    try:
        return read_input(path, MAX_FILE_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse_file(path, "text_invalid_unicode", "is not UTF-8", "save the file as UTF-8") from error
