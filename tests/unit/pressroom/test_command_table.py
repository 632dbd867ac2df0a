"""Commands as data: what packages declare becomes part of the command line, and what is broken is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import ConfigurationError
from pressroom.cli import OWN, commands
from pressroom.command_table import Command, CommandTable, kind_commands

POEMS = '''
import typer

from pressroom.command_table import Command

COMMANDS = (
    Command("poems", None, "Poems."),
    Command("poems list", "poems:list_poems", "List the poems."),
    Command("models rhymes", "poems:list_poems", "List the poems."),
    Command("evaluate poems", "poems:list_poems", "List the poems."),
    Command("status", "poems:list_poems", "List the poems."),
    Command("models list", "poems:list_poems", "List the poems."),
    Command("config colours", "poems:list_poems", "List the poems."),
    Command("prose list", "poems:list_poems", "List the poems."),
    Command("poems lost", "poems_that_are_lost:list_poems", "List the poems."),
    Command("poems torn", "torn:list_poems", "List the poems."),
)


def list_poems(number: int = 1) -> None:
    """List the poems."""
    typer.echo(f"{number} poems")
'''


class Installation:
    """A folder with a package of one module that declares commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, name: str, entries: str, module: str) -> None:
        (self.folder / f"{name}.py").write_text(module)
        metadata = self.folder / f"{name}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[pressroom.commands]\n{entries}\n")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, (str(self.folder), os.environ.get("PYTHONPATH"))))
        return subprocess.run(
            [sys.executable, "-m", "pressroom", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": path, "PRESSROOM_HOME": str(self.folder / "home")},
        )


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


@pytest.fixture
def poems(installation: Installation) -> Installation:
    installation.install("poems", "poems = poems:COMMANDS", POEMS)
    (installation.folder / "torn.py").write_text("a ) torn module\n")
    return installation


@pytest.mark.parametrize("path", ["poems list", "models rhymes", "evaluate poems"])
def test_a_command_of_another_package_is_called_by_its_path(poems: Installation, path: str) -> None:
    done = poems.run(*path.split(), "--number", "3")
    assert (done.returncode, done.stdout) == (0, "3 poems\n")


def test_help_lists_the_commands_of_another_package_beside_the_groups_own(poems: Installation) -> None:
    assert "Poems." in poems.run("--help").stdout
    models = poems.run("models", "--help").stdout
    assert "rhymes" in models
    assert "verify" in models


def test_a_path_that_is_declared_twice_stays_the_command_lines_own(poems: Installation) -> None:
    done = poems.run("status", "--help")
    assert done.returncode == 0
    assert "Show the progress of a batch" in done.stdout
    assert "command_doubled" in done.stderr
    assert "poems" in done.stderr


def test_a_member_of_a_loaded_group_is_not_replaced(poems: Installation) -> None:
    done = poems.run("models", "list", "--help")
    assert "List the installed models." in done.stdout
    assert "`pressroom models list` is declared twice" in done.stderr


def test_a_command_below_one_that_is_no_group_is_named_and_left_out(poems: Installation) -> None:
    done = poems.run("config", "--help")
    assert "Print every setting" in done.stdout
    assert "`pressroom config` is not a group" in done.stderr


def test_a_command_of_a_group_that_nobody_declares_is_named_and_left_out(poems: Installation) -> None:
    done = poems.run("--help")
    assert done.returncode == 0
    assert "command_without_group" in done.stderr
    assert "'prose'" in done.stderr
    assert "prose" not in done.stdout


@pytest.mark.parametrize("name", ["lost", "torn"])
def test_a_command_whose_module_cannot_be_loaded_is_an_error_with_a_name(
    poems: Installation, name: str
) -> None:
    done = poems.run("poems", name)
    assert done.returncode == 1
    assert "error [target_unknown]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("import a_module_that_is_not_there", "commands_unloadable"),
        ("raise RuntimeError('broken')", "commands_unloadable"),
        ("COMMANDS = 3", "commands_unloadable"),
        ("COMMANDS = ('poems',)", "command_invalid"),
    ],
)
def test_a_broken_package_is_named_and_leaves_the_others_their_commands(
    installation: Installation, module: str, code: str
) -> None:
    installation.install("broken", "broken = broken:COMMANDS", module)
    done = installation.run("--help")
    assert done.returncode == 0
    assert f"warning [{code}]" in done.stderr
    assert "broken" in done.stderr
    assert "monitor" in done.stdout


def test_a_package_does_not_take_the_path_of_a_kind_of_pressrooms_own(installation: Installation) -> None:
    table = 'from pressroom.command_table import Command\nCOMMANDS = (Command("monitor", "a:b", "Mine."),)'
    installation.install("aaa", "aaa = aaa:COMMANDS", table)
    done = installation.run("--help")
    assert "Mine." not in done.stdout
    assert "command_doubled" in done.stderr


def test_the_installed_packages_declare_nothing_that_is_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    table = commands()
    assert [command.path for command in table.members("train")] == ["train classifier"]
    assert capfd.readouterr().err == ""


def test_the_command_lines_own_table_names_no_kind() -> None:
    targets = [command.target for command in OWN if command.target is not None]
    assert all(isinstance(target, str) and target.startswith("pressroom.commands.") for target in targets)


@pytest.mark.parametrize("path", ["", " ", "Poems", "poems  list", "poems list ", "poems\nlist", "--help"])
def test_a_path_that_cannot_be_typed_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        CommandTable([Command(path, None, "Poems.")])
    assert refused.value.code == "command_invalid"


@pytest.mark.parametrize(
    "fields",
    [
        (3, None, "Poems."),
        ("poems", "poems.list", "Poems."),
        ("poems", 3, "Poems."),
        ("poems", None, None),
    ],
)
def test_a_command_with_a_wrong_field_is_refused(fields: tuple[Any, Any, Any]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        CommandTable([Command(*fields)])
    assert refused.value.code == "command_invalid"


def test_a_group_may_be_declared_by_each_package_that_adds_to_it() -> None:
    table = CommandTable([Command("poems", None, "Poems."), Command("poems", None, "Verse.")])
    assert [command.help for command in table.members()] == ["Poems."]


def test_members_are_removed_with_their_group() -> None:
    table = CommandTable([Command("poems old list", "a:b", "List."), Command("poems old", None, "Old.")])
    assert [error.code for error in table.remove_orphans()] == ["command_without_group"] * 2
    assert not table.members()


def test_each_kind_gets_commands_unless_another_one_makes_its_batches() -> None:
    table = CommandTable(
        [
            Command("run", None, "Run."),
            Command("submit", None, "Submit."),
            Command("run poems", "poems:run", "Write poems.", kind="poem", makes_batches=True),
            Command("rhymes", "poems:rhymes", "List rhymes.", kind="poem"),
        ]
    )
    made = {command.path: command for command in kind_commands(table, ["plain", "poem"])}

    assert made.keys() == {"run plain", "submit plain", "run poem", "submit poem"}
    assert [path for path, command in made.items() if command.is_hidden] == ["run poem", "submit poem"]
    assert "`pressroom run poems`" in made["run poem"].help
    for command in made.values():
        table.add(command)
    assert [command.path for command in table.of_kind("poem")] == ["run poems", "rhymes"]
    assert [command.path for command in table.of_kind("plain")] == ["run plain", "submit plain"]


def test_a_kind_named_like_a_command_of_its_group_leaves_it_that_command() -> None:
    table = CommandTable([Command("run", None, "Run."), Command("run poem", "poems:run", "Write poems.")])
    assert [command.path for command in kind_commands(table, ["poem"])] == ["submit poem"]


def test_a_kind_whose_name_cannot_be_typed_gets_no_command() -> None:
    table = CommandTable([Command("run", None, "Run."), Command("submit", None, "Submit.")])
    assert not list(kind_commands(table, ["Poem", "poem.verse", "two poems"]))


def test_kinds_without_commands_are_listed_with_the_reason(installation: Installation) -> None:
    module = """
from pydantic import BaseModel

from jobs.kind import Kind


class ArticlesKind(Kind[BaseModel]):
    name = "articles"
    payload_type = BaseModel

    def run(self, payload, context):
        raise NotImplementedError
"""
    installation.install("poems", "", module)
    entries = "[pressroom.kinds]\narticles = poems:ArticlesKind\nPoem.Verse = poems:ArticlesKind\n"
    (installation.folder / "poems-1.0.dist-info" / "entry_points.txt").write_text(entries)
    done = installation.run("kinds", "list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    errors = {kind["name"]: kind["error"] for kind in json.loads(done.stdout)["kinds"]}
    assert "another kind's command" in errors.pop("articles")
    assert "cannot be named 'Poem.Verse'" in errors.pop("Poem.Verse")
    assert set(errors.values()) == {None}
