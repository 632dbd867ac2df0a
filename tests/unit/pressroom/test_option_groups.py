"""Option groups: what Typer sees of a command with groups, and what the command receives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from pressroom.commands.option_groups import with_option_groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """A group."""

    colour: Annotated[str, typer.Option()]
    sheets: Annotated[int, typer.Option("--sheets", "-n", min=1, help="Number of sheets.")] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ColouredPaper(Paper):
    """A group that has the options of another one as well."""

    is_glossy: Annotated[bool, typer.Option("--glossy")] = False


def print_paper(
    title: str, dry: Annotated[bool, typer.Option("--dry")] = False, *, paper: ColouredPaper
) -> None:
    """Print."""
    typer.echo(f"{title} {dry} {paper}")


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(with_option_groups(print_paper))
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output


def test_command_gets_the_values_of_its_group() -> None:
    code, output = run("news", "--colour", "red", "-n", "3", "--glossy")
    assert (code, output) == (0, f"news False {ColouredPaper(colour='red', sheets=3, is_glossy=True)}\n")


def test_options_of_a_group_have_their_defaults_checks_and_help() -> None:
    assert run("news", "--colour", "red", "--dry") == (0, f"news True {ColouredPaper(colour='red')}\n")
    assert run("news")[0] == 2, "a field without a default is a required option"
    assert run("news", "--colour", "red", "--sheets", "0")[0] == 2
    code, output = run("--help")
    assert code == 0
    assert "Number of sheets." in output
    assert "--paper" not in output
