"""Reading the state of a batch again and again: an outage is waited out, and a refusal is not."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from itertools import islice

import psycopg
import pytest
from psycopg.errors import UndefinedTable
from rich.console import Console
from sqlalchemy.exc import DBAPIError, OperationalError

from db.faults import DatabaseAwayError
from pressroom import watch
from pressroom.watch import IntakeProgress, poll


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.0)


def reader(*results: object) -> Callable[[], object]:
    """Return the results one after the other; errors are raised."""
    left: Iterator[object] = iter(results)

    def read() -> object:
        result = next(left)
        if isinstance(result, Exception):
            raise result
        return result

    return read


def test_records_read_are_a_line_that_is_updated_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(watch, "console", terminal)
    with IntakeProgress() as progress:
        progress.show(1_234_000)
    assert isinstance(terminal.file, io.StringIO)
    assert "1,234,000 records read" in terminal.file.getvalue()


def test_records_read_are_at_most_a_line_a_minute_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with IntakeProgress() as progress:
        for seconds in (1, 59, 60, 61, 119, 121):
            now[0] = float(seconds)
            progress.show(seconds * 1_000)
    assert capsys.readouterr().err == "60,000 records read\n121,000 records read\n"


AWAY = OperationalError("SELECT 1", None, psycopg.OperationalError("the connection is lost"))


@pytest.mark.parametrize("error", [AWAY, DatabaseAwayError("Postgres cannot be reached")])
def test_an_outage_is_waited_out_and_reported_once(error: Exception) -> None:
    lines: list[str] = []
    states = poll(reader(1, error, error, 2), say=lines.append)
    assert list(islice(states, 4)) == [1, None, None, 2]
    assert lines == ["Postgres is unavailable; waiting for it.", "Postgres answers again."]


def test_a_refused_query_ends_the_watch() -> None:
    states = poll(reader(1, DBAPIError("SELECT 1", None, UndefinedTable())))
    assert next(states) == 1
    with pytest.raises(DBAPIError):
        next(states)
