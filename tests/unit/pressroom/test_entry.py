"""What ends a command from outside: Ctrl-C at any moment, a reader that leaves, a disk that is full."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from jobs.errors import ConfigurationError
from pressroom.__main__ import EXIT_INTERRUPTED
from pressroom.console import errors_reported
from pressroom.streams import EXIT_READER_GONE, EXIT_UNWRITABLE

MODULE = [sys.executable, "-m", "pressroom"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"PRESSROOM_HOME": str(tmp_path / "home"), "PRESSROOM_MODELS_DIR": str(tmp_path / "models")}


INTERRUPT_AT_IMPORT = """
import os, runpy, signal, sys

class Interrupting:
    def __init__(self, awaited):
        self.awaited = awaited
    def find_spec(self, name, path=None, target=None):
        if name == self.awaited:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting(sys.argv.pop(1)))
runpy.run_module("pressroom", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("pressroom.streams", ["--help"]),
        ("pressroom.cli", ["--help"]),
        ("typer", ["--help"]),
        ("pressroom.commands.machine", ["config"]),
        ("workers.settings", ["config"]),
        ("workers.models.manifest", ["models", "list"]),
        ("psycopg", ["batches"]),
    ],
    ids=lambda part: part if isinstance(part, str) else " ".join(part),
)
def test_an_interruption_during_imports_is_told_without_a_traceback(
    module: str, arguments: list[str], environment: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPT_AT_IMPORT, module, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )
    assert (done.returncode, done.stderr) == (EXIT_INTERRUPTED, "Interrupted.\n")


def test_an_error_that_an_interruption_caused_is_an_interruption() -> None:
    error = ConfigurationError("a library was in the middle of something")
    error.__context__ = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt), errors_reported():
        raise error


def test_errors_that_name_each_other_as_their_causes_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    error, consequence = ConfigurationError("it cannot be read"), ValueError()
    error.__context__, consequence.__cause__ = consequence, error
    with pytest.raises(typer.Exit), errors_reported():
        raise error
    assert "it cannot be read" in capsys.readouterr().err


def test_an_error_of_ours_is_told_with_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), errors_reported():
        raise ConfigurationError("no such thing: make one", code="thing_missing")
    assert capsys.readouterr().err == "error [thing_missing]: no such thing: make one\n"


@pytest.mark.parametrize("python", [[], ["-u"]], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["config"], ["config", "--json"]], ids=" ".join
)
def test_a_full_disk_under_standard_output_is_told(
    arguments: list[str], python: list[str], environment: dict[str, str]
) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, *python, "-m", "pressroom", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            env=environment,
        )
    assert done.returncode == EXIT_UNWRITABLE
    assert done.stderr.startswith("error [output_unwritable]: standard output cannot be written: No space")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--version"], ["config"], ["config", "--json"]], ids=" ".join)
def test_a_reader_that_leaves_ends_the_command_silently(
    arguments: list[str], environment: dict[str, str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*MODULE, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, env=environment
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (EXIT_READER_GONE, "")


@pytest.mark.parametrize("arguments", [["models", "list"], ["no-such-command"]], ids=" ".join)
def test_a_full_disk_under_standard_error_changes_no_status(
    arguments: list[str], environment: dict[str, str]
) -> None:
    with Path("/dev/full").open("wb") as full:
        lost = subprocess.run([*MODULE, *arguments], stdout=full, stderr=full, timeout=60, env=environment)
    kept = subprocess.run([*MODULE, *arguments], capture_output=True, timeout=60, env=environment)
    assert lost.returncode == kept.returncode


def test_closed_streams_are_no_traceback_and_no_file_of_somebody_else(environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", '"$0" -m pressroom config <&- >&- 2>&-; echo $?', sys.executable],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
