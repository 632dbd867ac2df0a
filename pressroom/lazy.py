"""Commands whose modules are loaded on the first call; a group's help and completion load none of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer._click.core import Command as ClickCommand
from typer._click.exceptions import ClickException
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from jobs.errors import ConfigurationError
from jobs.registry import load_target
from jobs.shown import shown_lines
from pressroom.command_table import Command, CommandTable
from pressroom.streams import StandardOutput

EXIT_FAILURE = 1
"""Exit status of a failure, as in pressroom.console, which is not imported because help does not need it."""


class LazyCommand(TyperCommand):
    """Placeholder for a command, or a group of commands, whose module is loaded when it is called."""

    def __init__(self, command: Command, table: CommandTable) -> None:
        super().__init__(command.path.rpartition(" ")[2], help=command.help, hidden=command.is_hidden)
        self.path, self.target = command.path, command.target
        self._table = table

    def load(self) -> TyperCommand | TyperGroup:
        """Load and return the command itself. Raises ConfigurationError."""
        target = self.target
        loaded: Any = load_target(target) if isinstance(target, str) else target and target()
        members = self._table.members(self.path)
        if isinstance(loaded, typer.Typer):
            return self._group(loaded, members)
        for member in members:
            report_left_out(_error(f"`pressroom {member.path}`: `pressroom {self.path}` is not a group"))
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(self.name, context_settings={"ignore_unknown_options": self.hidden})(loaded)
        command = get_command(app)
        if not isinstance(command, TyperCommand):
            raise _error(f"{target} is not a command")
        command.callback = _plain(command.callback)
        return command

    def _group(self, app: typer.Typer, members: list[Command]) -> TyperGroup:
        """Return the group that the module defines, with the members that the command table adds to it."""
        group = get_group(app)
        group.name = self.name
        for own in group.commands.values():
            own.callback = _plain(own.callback)
        for member in members:
            stand_in = stand_in_for(member, self._table)
            if stand_in.name in group.commands:
                report_left_out(_error(f"`pressroom {member.path}` is declared twice"))
            else:
                group.add_command(stand_in)
        return group

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **options: Any) -> Any:
        """Load the command and return its context, with which Typer parses, completes and calls it."""
        _check_texts(args)
        try:
            command = self.load()
        except ConfigurationError as error:
            sys.stderr.write(shown_lines(f"error [{error.code}]: {error}\n"))
            raise typer.Exit(EXIT_FAILURE) from error
        return command.make_context(info_name, args, *rest, **options)


def _error(problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"{problem}: correct the table of commands that declares it", code="command_invalid"
    )


def report_left_out(error: ConfigurationError) -> None:
    """Print a warning on stderr about a command of another package that is left out."""
    sys.stderr.write(shown_lines(f"warning [{error.code}]: {error}\n"))


def _check_texts(args: list[str]) -> None:
    """Raise BadParameter for arguments with invalid UTF-8 that do not name an existing file."""
    for arg in args:
        value = arg.partition("=")[2] if arg.startswith("-") and "=" in arg else arg
        if any("\ud800" <= character <= "\udfff" for character in value) and not os.path.lexists(value):
            raise typer.BadParameter(
                f"The argument {ascii(arg)[:80]} contains bytes that are not valid UTF-8."
            )


def _plain(callback: Callable[..., Any] | None) -> Callable[..., Any]:
    """Wrap a callback so that output is escaped as soon as the callback runs: see
    `streams.StandardOutput`."""

    def call(*args: Any, **options: Any) -> Any:
        if isinstance(sys.stdout, StandardOutput):
            sys.stdout.is_styled = False
        return None if callback is None else callback(*args, **options)

    return call


@contextmanager
def _errors_shown() -> Iterator[None]:
    """Escape messages about wrong usage, since they quote arguments such as arbitrary file names."""
    try:
        yield
    except ClickException as error:
        error.message = shown_lines(error.message)
        raise


def stand_in_for(command: Command, table: CommandTable) -> ClickCommand:
    """Return the stand-in for a command in its group: a group of its members, or a lazily loaded command."""
    if command.target is not None:
        return LazyCommand(command, table)
    name = command.path.rpartition(" ")[2]
    return get_group(
        typer.Typer(
            name=name, cls=lazy_group(lambda: table, command.path), no_args_is_help=True, help=command.help
        )
    )


def lazy_group(table: Callable[[], CommandTable], path: str = "") -> type[TyperGroup]:
    """Return a class for the group at this path of the table, for `typer.Typer(cls=...)`.

    `table` is called when the group is created, which is when the command line runs and not at import.
    """

    class LazyGroup(TyperGroup):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            commands = table()
            for command in commands.members(path):
                self.add_command(stand_in_for(command, commands))

        def make_context(self, *args: Any, **options: Any) -> Any:
            with _errors_shown():
                return super().make_context(*args, **options)

        def invoke(self, ctx: Any) -> Any:
            with _errors_shown():
                return super().invoke(ctx)

    return LazyGroup
