"""Commands whose modules are loaded when they are called; help and completion of their group load none."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group


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
            return group
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(self.name)(target)
        command = get_command(app)
        if not isinstance(command, TyperCommand):
            raise TypeError(f"{self.module}:{self._attribute} is no command")
        return command

    def make_context(self, *args: Any, **options: Any) -> Any:
        """The context of the command itself: Typer parses, completes and calls in what this returns."""
        return self.load().make_context(*args, **options)


def lazy_group(*commands: LazyCommand) -> type[TyperGroup]:
    """The class of a group of these commands, for `typer.Typer(cls=...)`."""

    class LazyGroup(TyperGroup):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            for command in commands:
                self.add_command(command)

    return LazyGroup
