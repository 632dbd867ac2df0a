"""Recipes that come with Pressroom are complete, and a faulty one is told by file and key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kinds.prompt.recipe import SHIPPED, RecipeUnknownError, find_recipe, read_recipe, recipe_names
from kinds.prompt.recipe_check import check_recipe
from pressroom.cli import app

GOOD = {
    "recipe.toml": 'description = "Sells."\n[columns]\nname = "a name"\n[new_columns]\nad = "a text"\n',
    "user.jinja": "Sell {{ name }}.",
    "examples.csv": "name\nlamp\nchair\n",
}


def write(folder: Path, **changes: str) -> Path:
    files = {**GOOD, **{name.replace("_", "."): text for name, text in changes.items()}}
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def call(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipe_is_complete_and_has_ten_examples(name: str) -> None:
    outcome = check_recipe(SHIPPED / name)
    assert (outcome.problems, outcome.num_examples) == ((), 10)
    assert read_recipe(SHIPPED / name).identity.name == name
    assert (SHIPPED / name / "README.md").is_file()


def test_own_recipe_without_problems_is_complete(tmp_path: Path) -> None:
    outcome = check_recipe(write(tmp_path))
    assert (outcome.problems, outcome.num_examples) == ((), 2)
    assert read_recipe(tmp_path).settings["into"] == "ad"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"recipe_toml": "colour = 1"}, "recipe.toml: colour is not a key of a recipe"),
        ({"recipe_toml": "[settings]\ntemprature = 1"}, "[settings]: temprature is not a setting"),
        ({"recipe_toml": "[settings]\ntemperature = 9"}, "[settings]: temperature must be at most 2"),
        ({"recipe_toml": "[settings]\ncolumns = ['a']"}, "[settings]: columns is set by intake"),
        ({"recipe_toml": "[columns]\nname = ''"}, "recipe.toml: description is missing"),
        ({"recipe_toml": "[new_columns]\na = ''\nb = ''"}, "[new_columns]: without schema.json"),
        ({"user_jinja": "Sell {{ nam }}."}, "[columns]: 'nam' is missing"),
        ({"user_jinja": "Sell."}, "[columns]: 'name' is read by no template"),
        ({"user_jinja": "{{ name.x }}"}, "it reads the attribute 'x'"),
        ({"schema_json": '{"type": "array"}'}, "the schema must describe an object"),
        ({"examples_csv": "title\nlamp\n"}, "examples.csv: template"),
        ({"examples_csv": "name,ad\nlamp,x\n"}, "already has a column 'ad'"),
        ({"user_jinja": "{% if name %}{{ name }}{% endif %}", "examples_csv": "id,name\na,\n"}, "row 1"),
    ],
)
def test_faulty_recipe_is_told_by_file_and_key(tmp_path: Path, changes: dict[str, str], problem: str) -> None:
    outcome = check_recipe(write(tmp_path, **changes))
    assert any(problem in text and str(tmp_path) in text for text in outcome.problems), outcome.problems


def test_recipe_without_examples_is_incomplete(tmp_path: Path) -> None:
    (write(tmp_path) / "examples.csv").unlink()
    assert "examples.csv is missing" in check_recipe(tmp_path).problems[0]


def test_digest_changes_with_a_template_and_not_with_the_examples(tmp_path: Path) -> None:
    before = read_recipe(write(tmp_path)).identity.sha256
    assert read_recipe(write(tmp_path, examples_csv="name\nx\n")).identity.sha256 == before
    assert read_recipe(write(tmp_path, user_jinja="Buy {{ name }}.")).identity.sha256 != before


def test_name_is_a_shipped_recipe_before_it_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("translation", "mine"):
        (tmp_path / name).mkdir()
    assert find_recipe("translation") == SHIPPED / "translation"
    assert find_recipe("./translation") == Path("translation")
    assert find_recipe("mine") == Path("mine")
    with pytest.raises(RecipeUnknownError, match="did you mean translation"):
        find_recipe("translatoin")
    with pytest.raises(RecipeUnknownError, match="no recipe and no folder"):
        find_recipe("./summary")


def test_init_copies_a_recipe_which_is_complete_under_its_own_name(tmp_path: Path) -> None:
    folder = tmp_path / "my ads"
    code, text = call("recipes", "init", folder, "--from", "extraction", "--json")
    assert (code, json.loads(text)["from"]) == (0, "extraction")
    assert check_recipe(folder).problems == ()
    assert read_recipe(folder).identity.name == "my ads"
    code, text = call("recipes", "init", folder)
    assert (code, "folder_not_empty" in text) == (1, True)


def test_commands_print_json_and_fail_for_a_faulty_recipe(tmp_path: Path) -> None:
    code, text = call("recipes", "list", "--json")
    assert [each["name"] for each in json.loads(text)["recipes"]] == list(recipe_names())
    code, text = call("recipes", "show", "extraction", "--json")
    assert code == 0
    assert "{{ text }}" in json.loads(text)["settings"]["template"]
    code, text = call("recipes", "check", write(tmp_path, user_jinja="{{ x }}"), "--json")
    assert code == 1
    assert json.loads(text)["problems"]
