"""Recipes: folders with templates, a schema and settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.rejection import FileRejectedError
from kinds.prompt.recipe import RecipeInvalidError, read_recipe


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return folder


def test_recipe_is_its_files_and_settings(tmp_path: Path) -> None:
    write(
        tmp_path,
        user_jinja="About {{ name }}.",
        system_jinja="You sell.",
        schema_json="{}",
        recipe_toml='description = "Sells."\nmodel = "tiny"\n[settings]\ntemperature = 0.5\n',
    )
    recipe = read_recipe(tmp_path)
    assert recipe.file.model == "tiny"
    assert recipe.identity.name == tmp_path.name
    assert recipe.settings == {
        "recipe": recipe.identity.model_dump(),
        "template": "About {{ name }}.",
        "template_name": tmp_path.name,
        "system": "You sell.",
        "json_schema": "{}",
        "temperature": 0.5,
    }


def test_template_alone_is_a_recipe(tmp_path: Path) -> None:
    assert read_recipe(write(tmp_path, user_jinja="Hi")).settings["template"] == "Hi"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"recipe_toml": ""}, "needs the file user.jinja"),
        ({"user_jinja": "Hi", "recipe_toml": "= 1"}, "is not TOML"),
        ({"user_jinja": "Hi", "recipe_toml": "temperature = 1"}, "temperature is not a key of a recipe"),
        (
            {"user_jinja": "Hi", "recipe_toml": "[settings]\nsystem = 'a'"},
            "system is the file system.jinja",
        ),
        *(
            (
                {"user_jinja": "Hi", "recipe_toml": f"[settings]\n{name} = 'a'"},
                f"{name} is set by intake: remove it",
            )
            for name in ("embedder_digest", "examples_sha256", "thinking")
        ),
    ],
)
def test_folder_that_is_no_recipe_is_refused(tmp_path: Path, files: dict[str, str], reason: str) -> None:
    with pytest.raises(RecipeInvalidError, match=reason):
        read_recipe(write(tmp_path, **files))


def test_template_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "user.jinja").write_bytes(b"\xff")
    with pytest.raises(FileRejectedError, match="is not UTF-8"):
        read_recipe(tmp_path)
