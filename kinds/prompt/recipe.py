"""Recipes: folders with templates, a schema and settings, which commands take with `--with`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.errors import InputError
from jobs.intake.files import TOML_ERRORS, read_input, read_toml
from jobs.provenance import payload_digest, sha256_hex
from jobs.rejection import quoted, refuse_file
from jobs.validation import describe_first
from kinds.prompt.payload import DEFAULT_COLUMN, SET_BY_INTAKE, PromptSettings, RecipeIdentity

RECIPE_FILE = "recipe.toml"
EXAMPLES_FILE = "examples.csv"
README_FILE = "README.md"

FILES: Mapping[str, str] = {
    "template": "user.jinja",
    "system": "system.jinja",
    "json_schema": "schema.json",
    "map_template": "map.jinja",
}
"""Files of a recipe by the settings that contain them. Only `user.jinja` is required."""

_SET_ELSEWHERE = {
    **dict.fromkeys(SET_BY_INTAKE, "intake"),
    "template_name": "the key name",
    "recipe": "the keys name and version",
    "column_names": "the option --column",
    "model_map": "the option --model-map",
    "batch_seed": "the option --seed",
}
"""Settings that a recipe cannot have, by what sets them instead."""

MAX_FILE_BYTES = 1_000_000
"""Maximum size of a template or a schema in bytes. The settings limit their characters further."""

SHIPPED = Path(__file__).with_name("recipes")
"""Folder of the recipes that come with Pressroom."""


class RecipeInvalidError(InputError):
    """The folder is no recipe."""

    code = "recipe_invalid"


class RecipeUnknownError(InputError):
    """There is neither a recipe nor a folder of this name."""

    code = "recipe_unknown"


class RecipeFile(BaseModel):
    """The content of `recipe.toml`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    name: str | None = Field(default=None, min_length=1, max_length=100)
    """Name of the recipe; None for the name of its folder."""
    version: str = Field(default="1", min_length=1, max_length=50)
    """Version of the recipe. Increase it when the recipe gives different texts."""
    description: str = Field(default="", max_length=2_000)
    """What the recipe does, in one sentence."""
    model: str | None = Field(default=None, min_length=1, max_length=200)
    """Model of the batch; None for the default of the kind."""
    columns: dict[str, str] = Field(default_factory=dict, max_length=1_000)
    """Columns that the templates read, each with a description."""
    new_columns: dict[str, str] = Field(default_factory=dict, max_length=1_000)
    """New columns, each with a description. If there is no schema, the only one is the setting `into`."""
    settings: dict[str, object] = Field(default_factory=dict)
    """Settings of the batch, as PromptSettings names them. Options of commands take precedence."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe: a model, and the settings of a batch with the contents of the folder's files."""

    folder: Path
    identity: RecipeIdentity
    file: RecipeFile
    settings: Mapping[str, object]
    """Values for PromptSettings, which accepts them."""

    @property
    def batch_settings(self) -> PromptSettings:
        """The settings of a batch without options."""
        return PromptSettings.model_validate(self.settings)


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes that come with Pressroom."""
    return tuple(sorted(path.parent.name for path in SHIPPED.glob(f"*/{RECIPE_FILE}")))


def find_recipe(text: str) -> Path:
    """Return the folder of a recipe, which is named by its path or by the name of a shipped recipe.

    A text with a slash is a path. Any other text is the name of a shipped recipe if there is one, or else the
    path of a folder. Raises RecipeUnknownError.
    """
    names, path = recipe_names(), Path(text)
    if "/" not in text and text in names:
        return SHIPPED / text
    if path.is_dir():
        return path
    near = difflib.get_close_matches(text, names, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise RecipeUnknownError(
        f"there is no recipe and no folder named {quoted(text)}{hint}: the recipes are {', '.join(names)}"
    )


def read_recipe(folder: Path) -> Recipe:
    """Read a recipe from a folder. Raises RecipeInvalidError or FileRejectedError."""
    template = folder / FILES["template"]
    if not template.is_file():
        raise RecipeInvalidError(f"{folder} is no recipe: it needs the file {template.name}")
    file = _read_file(folder / RECIPE_FILE)
    contents = {
        setting: read_text(folder / file_name)
        for setting, file_name in FILES.items()
        if (folder / file_name).is_file()
    }
    identity = RecipeIdentity(
        name=file.name or folder.resolve().name, version=file.version, sha256=_digest(folder)
    )
    settings = {
        **_into(folder / RECIPE_FILE, file, has_schema="json_schema" in contents),
        **file.settings,
        **contents,
        "template_name": identity.name,
        "recipe": identity.model_dump(),
    }
    try:
        PromptSettings.model_validate(settings)
    except ValidationError as error:
        fault = describe_first(error, noun="setting")
        raise RecipeInvalidError(f"{folder / RECIPE_FILE}, [settings]: {fault}") from error
    return Recipe(folder, identity, file, settings)


def _into(path: Path, file: RecipeFile, *, has_schema: bool) -> dict[str, object]:
    """Return the setting that names the new column of a recipe without a schema."""
    if has_schema or not file.new_columns or "into" in file.settings:
        return {}
    if len(file.new_columns) > 1:
        raise RecipeInvalidError(
            f"{path}, [new_columns]: without {FILES['json_schema']} there is one new column, but this names "
            f"{len(file.new_columns)}: remove the others, or add the file"
        )
    return {"into": next(iter(file.new_columns), DEFAULT_COLUMN)}


def _digest(folder: Path) -> str:
    """Return the digest of the files that affect results, as canonical JSON of the digest of each."""
    names = (RECIPE_FILE, *FILES.values())
    return payload_digest(
        {
            name: sha256_hex(read_input(folder / name, MAX_FILE_BYTES))
            for name in names
            if (folder / name).is_file()
        }
    )


def _read_file(path: Path) -> RecipeFile:
    if not path.is_file():
        return RecipeFile()
    try:
        file = RecipeFile.model_validate(read_toml(path))
    except ValidationError as error:
        raise RecipeInvalidError(f"{path}: {describe_first(error, noun='key of a recipe')}") from error
    except TOML_ERRORS as error:
        raise RecipeInvalidError(f"{path} is not TOML: {error}") from error
    if both := sorted(FILES.keys() & file.settings.keys()):
        raise RecipeInvalidError(
            f"{path}, [settings]: {both[0]} is the file {FILES[both[0]]}: remove it from the settings"
        )
    if others := sorted(_SET_ELSEWHERE.keys() & file.settings.keys()):
        raise RecipeInvalidError(
            f"{path}, [settings]: {others[0]} is set by {_SET_ELSEWHERE[others[0]]}: remove it"
        )
    return file


def read_text(path: Path) -> str:
    """Return the text of a template or a schema. Raises FileRejectedError."""
    try:
        return read_input(path, MAX_FILE_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse_file(path, "text_invalid_unicode", "is not UTF-8", "save the file as UTF-8") from error
