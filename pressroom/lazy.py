"""Commands whose modules are loaded when they are called; help and completion of their group load none."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import typer
from typer._click.exceptions import ClickException
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from jobs.shown import shown_lines
from pressroom.streams import StandardOutput


class LazyCommand(TyperCommand):
    """Stands in a group for a command, or a group of commands, that a module defines."""

    def __init__(self, name: str, target: str, help: str) -> None:
        """`target` is MODULE:ATTRIBUTE, a function or a Typer; `help` is the first paragraph of its own."""
        super().__init__(name, help=help)
        self.module, _, self._attribute = target.partition(":")

    def load(self) -> TyperCommand | TyperGroup:
        """The command itself."""
        target = getattr(import_module(self.module), self._attribute)
        if isinstance(target, typer.Typer):
            group = get_group(target)
            group.name = self.name
            for member in group.commands.values():
                member.callback = _plain(member.callback)
            return group
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(self.name)(target)
        command = get_command(app)
        if not isinstance(command, TyperCommand):
            raise TypeError(f"{self.module}:{self._attribute} is no command")
        command.callback = _plain(command.callback)
        return command

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **options: Any) -> Any:
        """The context of the command itself: Typer parses, completes and calls in what this returns."""
        _check_texts(args)
        return self.load().make_context(info_name, args, *rest, **options)


def _check_texts(args: list[str]) -> None:
    """Odd bytes may be in the name of a file that is there, and in nothing else. Raises BadParameter."""
    for arg in args:
        value = arg.partition("=")[2] if arg.startswith("-") and "=" in arg else arg
        if any("\ud800" <= character <= "\udfff" for character in value) and not os.path.lexists(value):
            raise typer.BadParameter(f"The argument {ascii(arg)[:80]} holds bytes that are no UTF-8.")


def _plain(callback: Callable[..., Any] | None) -> Callable[..., Any]:
    """Escape what a command prints from the moment that it works: see `streams.StandardOutput`."""

    def call(*args: Any, **options: Any) -> Any:
        if isinstance(sys.stdout, StandardOutput):
            sys.stdout.is_styled = False
        return None if callback is None else callback(*args, **options)

    return call


@contextmanager
def _errors_shown() -> Iterator[None]:
    """Wrong usage quotes what was given, which may be a file name of anything."""
    try:
        yield
    except ClickException as error:
        error.message = shown_lines(error.message)
        raise


def lazy_group(*commands: LazyCommand) -> type[TyperGroup]:
    """The class of a group of these commands, for `typer.Typer(cls=...)`."""

    class LazyGroup(TyperGroup):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            for command in commands:
                self.add_command(command)

        def make_context(self, *args: Any, **options: Any) -> Any:
            with _errors_shown():
                return super().make_context(*args, **options)

        def invoke(self, ctx: Any) -> Any:
            with _errors_shown():
                return super().invoke(ctx)

    return LazyGroup
