"""Output for people: results on stdout, everything else on stderr, errors with a code and an exit status."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Self

import typer
from rich.console import Console

from jobs.errors import PressroomError
from jobs.shown import json_text, shown, shown_lines

EXIT_FAILURE = 1
EXIT_USAGE = 2

console = Console(stderr=True)


def say(sentence: str) -> None:
    """Print a line of progress on stderr, escaped so that foreign text cannot control the terminal."""
    console.print(shown_lines(sentence), markup=False, highlight=False, soft_wrap=True)


def print_line(line: str) -> None:
    """Print a line of a command's result on stdout, escaped so that foreign text cannot start a new line."""
    sys.stdout.write(shown(line) + "\n")


def print_json(value: Mapping[str, object]) -> None:
    """Print one JSON object on stdout."""
    sys.stdout.write(json_text(value) + "\n")


@contextmanager
def errors_reported() -> Iterator[None]:
    """Turn known errors in the block into a line on stderr and exit status 1, without a traceback."""
    try:
        yield
    except Exception as error:
        if _comes_of_an_interruption(error):
            raise KeyboardInterrupt from error
        sentence = _sentence_of(error)
        if sentence is None:
            raise
        say(sentence)
        raise typer.Exit(EXIT_FAILURE) from error


def _comes_of_an_interruption(error: BaseException | None) -> bool:
    """Return whether Ctrl-C caused the error; libraries may wrap a KeyboardInterrupt in their own errors."""
    seen: set[int] = set()  # chains of causes may have cycles
    while error is not None and id(error) not in seen and not isinstance(error, KeyboardInterrupt):
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return isinstance(error, KeyboardInterrupt)


def _sentence_of(error: Exception) -> str | None:
    """Return the line to print for an error; None if the error is unknown to Pressroom."""
    if isinstance(error, PressroomError):
        return f"error [{error.code}]: {error}"
    if isinstance(error, OSError):
        code = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "file_unusable"
        place = "" if error.filename is None else f"{error.filename}: "
        return f"error [{code}]: {place}{error.strerror or error}"
    return _database_failure(error)


def _database_failure(error: Exception) -> str | None:
    """Return the line to print for a database error; None for other errors, or if no database was used."""
    if "sqlalchemy.exc" not in sys.modules:
        return None
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    from db.faults import DatabaseFault, fault_of, named

    if not isinstance(error, SQLAlchemyError):
        return None
    known = named(error)
    if known is not None:
        return f"error [{known.code}]: {known}"
    reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
    match fault_of(error):
        case DatabaseFault.CONFLICT:
            return f"error [database_conflict]: another process was faster; try again: {reason}"
        case DatabaseFault.MISUSE if isinstance(error, DBAPIError):
            return f"error [database_refuses]: Postgres refuses a statement of Pressroom: {reason}"
    return None


class Interruption:
    """Context manager for Ctrl-C and SIGTERM: while work can be drained, the first signal is only counted."""

    def __init__(self, *, counting: bool = True) -> None:
        self.count = 0
        """Number of counted interruptions, 0 or 1; a second one raises KeyboardInterrupt."""
        self._counting = counting

    def __enter__(self) -> Self:
        self._before = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the first interruption within the block, instead of raising KeyboardInterrupt."""
        self._counting = True
        try:
            yield
        finally:
            self._counting = False

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        if not self._counting or self.count:
            raise KeyboardInterrupt
        self.count += 1
