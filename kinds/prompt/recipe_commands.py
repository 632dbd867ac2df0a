"""The functions of `pressroom recipes`."""

from __future__ import annotations

import json as json_module
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.errors import InputError
from jobs.shown import plural
from pressroom.commands.options import Json
from pressroom.console import EXIT_FAILURE, errors_reported, print_json, print_line

if TYPE_CHECKING:
    from kinds.prompt.recipe import Recipe

STARTING_POINT = "translation"
"""Recipe that a new recipe is a copy of, unless another one is named."""

_NAME_LINE = re.compile(r"^name\s*=.*$", re.MULTILINE)
_VERSION_LINE = re.compile(r"^version\s*=.*$", re.MULTILINE)

Name = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Name of a shipped recipe, or the folder of any recipe.")
]


class FolderNotEmptyError(InputError):
    """The folder of a new recipe already contains something."""

    code = "folder_not_empty"


def list_recipes(json: Json = False) -> None:
    """List the recipes that come with Pressroom."""
    from kinds.prompt.recipe import SHIPPED, read_recipe, recipe_names

    with errors_reported():
        recipes = [read_recipe(SHIPPED / name) for name in recipe_names()]
    if json:
        print_json({"recipes": [_listed(recipe) for recipe in recipes]})
        return
    for recipe in recipes:
        print_line(f"{recipe.identity.name:<16} {recipe.identity.version:<4} {recipe.file.description}")


def show_recipe(recipe: Name, json: Json = False) -> None:
    """Show a recipe's columns, settings and templates."""
    from kinds.prompt.recipe import find_recipe, read_recipe

    with errors_reported():
        own = read_recipe(find_recipe(recipe))
    if json:
        settings = {name: value for name, value in own.settings.items() if name != "recipe"}
        print_json({**_listed(own), "sha256": own.identity.sha256, "settings": settings})
        return
    _print(own)


def check_recipe_files(recipe: Name, json: Json = False) -> None:
    """Check a recipe's files, and make the prompts of its example rows, without a model."""
    from kinds.prompt.recipe import find_recipe
    from kinds.prompt.recipe_check import check_recipe

    with errors_reported():
        outcome = check_recipe(find_recipe(recipe))
    if json:
        print_json(outcome.as_json())
    else:
        for problem in outcome.problems:
            print_line(problem)
        if not outcome.problems:
            prompts = plural(outcome.num_examples, "example row has a prompt", "example rows have prompts")
            print_line(f"{outcome.folder} is a complete recipe: {prompts}")
    if outcome.problems:
        raise typer.Exit(EXIT_FAILURE)


def init_recipe(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", file_okay=False, help="New or empty folder.")],
    source: Annotated[
        str, typer.Option("--from", metavar="RECIPE", help="Recipe to copy: a name or a folder.")
    ] = STARTING_POINT,
    json: Json = False,
) -> None:
    """Make a recipe of your own as a copy of another one."""
    from kinds.prompt.recipe import EXAMPLES_FILE, FILES, RECIPE_FILE, find_recipe, read_recipe

    with errors_reported():
        own = read_recipe(find_recipe(source))
        if folder.exists() and any(folder.iterdir()):
            raise FolderNotEmptyError(f"{folder} is not empty: name a new or an empty folder")
        folder.mkdir(parents=True, exist_ok=True)
        names = [name for name in (*FILES.values(), EXAMPLES_FILE) if (own.folder / name).is_file()]
        for name in names:
            shutil.copyfile(own.folder / name, folder / name)
        described = own.folder / RECIPE_FILE
        text = described.read_text(encoding="utf-8") if described.is_file() else 'name = ""\n'
        text = _renamed(text, folder.resolve().name)
        (folder / RECIPE_FILE).write_text(text, encoding="utf-8")
    files = [RECIPE_FILE, *names]
    if json:
        print_json({"folder": str(folder), "from": own.identity.name, "files": files})
        return
    print_line(f"{folder} is a copy of the recipe {own.identity.name}: {', '.join(files)}")
    print_line(f"check it with `pressroom recipes check {folder}`")


def _renamed(text: str, name: str) -> str:
    """Return the text of a recipe.toml with another name and the version 1."""
    named = _NAME_LINE.sub(lambda _: f"name = {json_module.dumps(name, ensure_ascii=False)}", text, count=1)
    return _VERSION_LINE.sub('version = "1"', named, count=1)


def _listed(recipe: Recipe) -> dict[str, object]:
    """Return what `--json` prints for a recipe in the list."""
    return {
        "name": recipe.identity.name,
        "version": recipe.identity.version,
        "description": recipe.file.description,
        "model": recipe.file.model,
        "columns": recipe.file.columns,
        "new_columns": recipe.file.new_columns,
        "folder": str(recipe.folder),
    }


def _print(recipe: Recipe) -> None:
    """Print the recipe for people."""
    from kinds.prompt.recipe import FILES
    from pressroom.show import print_labelled

    print_labelled("recipe", f"{recipe.identity.name}, version {recipe.identity.version}")
    print_labelled("", recipe.file.description)
    print_labelled("folder", str(recipe.folder))
    for name, text in recipe.file.columns.items():
        print_labelled("column", f"{name}: {text}")
    for name, text in recipe.file.new_columns.items():
        print_labelled("new column", f"{name}: {text}")
    print_labelled("model", recipe.file.model or "the kind's default")
    for name, value in recipe.file.settings.items():
        print_labelled("setting", f"{name} = {json_module.dumps(value, ensure_ascii=False)}")
    for setting, file_name in FILES.items():
        if setting in recipe.settings:
            print_line("")
            print_line(f"{file_name}:")
            for line in str(recipe.settings[setting]).rstrip().splitlines():
                print_line(f"    {line}")
