"""The commands of the command line as data: path, help, and the target that a call loads.

A package declares its commands under the entry point group `pressroom.commands`. Each entry names a sequence
of `Command` in a module that imports nothing but this one, because help and completion load it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points

from jobs.errors import ConfigurationError
from jobs.registry import NAME, kind_names

ENTRY_POINTS = "pressroom.commands"

OWN_DISTRIBUTION = "pressroom"

PATH = re.compile(r"[a-z0-9][a-z0-9_-]*( [a-z0-9][a-z0-9_-]*)*")


@dataclass(frozen=True, slots=True)
class Command:
    """A command or a group of commands."""

    path: str
    """Words after `pressroom`, such as "status" or "models add". A group, such as "models", must be declared
    as well."""
    target: str | Callable[[], object] | None
    """MODULE:ATTRIBUTE of the command's function or Typer app, or a function that returns the function or
    app; None for a group whose members are declared."""
    help: str
    """Help text: the first paragraph of the target's own help."""

    def is_valid(self) -> bool:
        """Return whether the fields, which another package may have set, have valid types and values."""
        target = self.target
        return (
            isinstance(self.path, str)
            and PATH.fullmatch(self.path) is not None
            and isinstance(self.help, str)
            and (target is None or callable(target) or (isinstance(target, str) and ":" in target))
        )

    kind: str | None = None
    """Kind that the command belongs to, if any."""
    makes_batches: bool = False
    """Whether the command makes the kind's batches, instead of the one that every kind gets by default."""
    is_hidden: bool = False
    """Whether help omits the command; it then accepts any options, and names the command to use instead."""


class CommandTable:
    """Table of commands by path, in the order in which they were added."""

    def __init__(self, commands: Iterable[Command] = ()) -> None:
        self._commands: dict[str, Command] = {}
        for command in commands:
            self.add(command)

    def __contains__(self, path: str) -> bool:
        return path in self._commands

    def add(self, command: Command) -> None:
        """Add a command; a group may be added twice.

        Raises ConfigurationError if the command is invalid, or if its path is declared twice.
        """
        if not isinstance(command, Command) or not command.is_valid():
            raise ConfigurationError(
                f"{command!r} is not a command: declare a pressroom.command_table.Command with a path of "
                "words in lower-case letters, digits and hyphens, MODULE:ATTRIBUTE as its target, and a "
                "help text",
                code="command_invalid",
            )
        earlier = self._commands.setdefault(command.path, command)
        if earlier != command and (earlier.target, command.target) != (None, None):
            raise ConfigurationError(
                f"`pressroom {command.path}` is declared twice, as {earlier.target or 'a group'} and as "
                f"{command.target or 'a group'}; the first one is used: rename the other",
                code="command_doubled",
            )

    def members(self, group: str = "") -> list[Command]:
        """Return the commands directly below a group, by default those directly below `pressroom`."""
        return [command for path, command in self._commands.items() if path.rpartition(" ")[0] == group]

    def of_kind(self, kind: str) -> list[Command]:
        """Return those commands of a kind that help lists, starting with the one that makes the kind's
        batches."""
        own = [each for each in self._commands.values() if each.kind == kind and not each.is_hidden]
        return sorted(own, key=lambda command: not command.makes_batches)

    def remove_orphans(self) -> list[ConfigurationError]:
        """Remove commands whose group is not declared; return an error for each of them."""
        errors = []
        for path in sorted(self._commands):  # a group comes before its members
            group = path.rpartition(" ")[0]
            if group and group not in self._commands:
                del self._commands[path]
                errors.append(
                    ConfigurationError(
                        f"`pressroom {path}` is in a group that is not declared: declare a Command with the "
                        f"path {group!r} as well",
                        code="command_without_group",
                    )
                )
        return errors


def read_commands(own: Iterable[Command], report: Callable[[ConfigurationError], None]) -> CommandTable:
    """Return the command line's own commands and those of all packages.

    A package that cannot be loaded or a command that cannot be used is reported and left out, so that one
    broken package does not disable the commands of others. If a path is declared twice, the command line's
    own command wins, then a command of one of Pressroom's own kinds, then that of the first entry point by
    name.
    """
    table = CommandTable(own)
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=_rank):
        for command in _declared(entry, report):
            try:
                table.add(command)
            except ConfigurationError as error:
                report(_left_out(f"a command of {_named(entry)} is", error))
    for command in list(kind_commands(table, kind_names())):
        try:
            table.add(command)
        except ConfigurationError as error:
            report(error)
    for orphan in table.remove_orphans():
        report(orphan)
    return table


def kind_commands(table: CommandTable, kinds: Iterable[str]) -> Iterator[Command]:
    """Yield `run` and `submit` for each kind; if a kind has a command of its own, they refer users to it.

    A kind whose name is not a valid word of the command line gets none; `pressroom kinds list` shows why.
    """
    for kind in filter(NAME.fullmatch, kinds):
        own = next((command for command in table.of_kind(kind) if command.makes_batches), None)
        for verb, text in _KIND_COMMANDS.items():
            if (path := f"{verb} {kind}") in table:
                continue
            if own is None:
                summary = text.format(kind=kind)
                yield Command(
                    path, partial(_generic, verb, kind, summary), summary, kind=kind, makes_batches=True
                )
            else:
                summary = f"Batches of kind {kind} are made by `pressroom {own.path}`."
                yield Command(
                    path, partial(_refused, kind, own.path, summary), summary, kind=kind, is_hidden=True
                )


def _generic(verb: str, kind: str, summary: str) -> object:
    from pressroom.commands import kind as commands

    return (commands.run_command if verb == "run" else commands.submit_command)(kind, summary)


def _refused(kind: str, path: str, summary: str) -> object:
    from pressroom.commands.kind import refused_command

    return refused_command(kind, path, summary)


_KIND_COMMANDS = {
    "run": "Run a batch of kind {kind} on this machine, and write the results.",
    "submit": "Queue a batch of kind {kind}, and print its id.",
}


def _rank(entry: EntryPoint) -> tuple[bool, str, str]:
    distribution = entry.dist.name if entry.dist is not None else ""
    return distribution != OWN_DISTRIBUTION, entry.name, distribution


def _declared(entry: EntryPoint, report: Callable[[ConfigurationError], None]) -> list[Command]:
    try:
        return list(entry.load())
    except Exception as error:  # noqa: BLE001 - importing another package's module may raise anything
        reason = (
            f"their module cannot be loaded ({type(error).__name__}: {error}): install the package again, or "
            "remove it"
        )
        fault = ConfigurationError(reason, code="commands_unloadable")
        report(_left_out(f"the commands {_named(entry)} are", fault))
        return []


def _named(entry: EntryPoint) -> str:
    """Return the name of the entry point, with its package and its target."""
    package = f" of {entry.dist.name}" if entry.dist is not None else ""
    return f"{entry.name!r}{package} ({entry.value})"


def _left_out(subject: str, error: ConfigurationError) -> ConfigurationError:
    """Return the error, preceded by what is left out because of it; `subject` ends with "is" or "are"."""
    return ConfigurationError(f"{subject} left out: {error}; the other commands work", code=error.code)
