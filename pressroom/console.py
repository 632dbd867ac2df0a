"""What a person sees: results on stdout, everything else on stderr; errors with a code and an exit status."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

import typer
from psycopg.errors import UndefinedColumn, UndefinedTable
from rich.console import Console
from sqlalchemy.exc import OperationalError, ProgrammingError

from jobs.errors import PressroomError
from workers.settings import Settings

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells count."""

console = Console(stderr=True)


def say(sentence: str) -> None:
    """A line of progress on stderr."""
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def print_json(value: Mapping[str, object]) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")


@contextmanager
def errors_reported() -> Iterator[None]:
    """An error that Pressroom can name becomes a line on stderr and exit status 1, without a traceback."""
    try:
        yield
    except PressroomError as error:
        say(f"error [{error.code}]: {error}")
        raise typer.Exit(EXIT_FAILURE) from error
    except OperationalError as error:
        say(f"error [database_unavailable]: Postgres cannot be reached: {str(error.orig).splitlines()[0]}")
        raise typer.Exit(EXIT_FAILURE) from error
    except ProgrammingError as error:
        if not isinstance(error.orig, UndefinedTable | UndefinedColumn):
            raise
        say("error [database_not_migrated]: the database has another schema: run `pressroom db upgrade`")
        raise typer.Exit(EXIT_FAILURE) from error


def set_up_logging(settings: Settings) -> None:
    """Warnings and worse on stderr; the workers have log files of their own."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("pressroom").setLevel(settings.log_level)


class Interruption:
    """Counts Ctrl-C and SIGTERM instead of raising: the first one drains, the second one ends at once."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Interruption:
        self._before = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            raise KeyboardInterrupt
