"""The command line before it reaches any service: usage, help, configuration."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from jobs.errors import ConfigurationError
from kinds.sentiment.runs import FileRun
from pressroom.cli import app
from pressroom.console import EXIT_FAILURE, EXIT_USAGE
from pressroom.lazy import LazyCommand
from workers.settings import DEFAULT_EMBEDDER, DEFAULT_MODEL

SECRET = "a-password-that-nobody-may-see"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No service is configured and the home is empty: a command that goes on would be found out."""
    for name in ("DB_URL", "REDIS_URL", "S3_URL", "PROFILES", "NUM_SLOTS"):
        monkeypatch.delenv(f"PRESSROOM_{name}", raising=False)
    monkeypatch.setenv("PRESSROOM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def every_command() -> list[tuple[str, ...]]:
    """Paths of all commands and groups."""
    found: list[tuple[str, ...]] = [()]

    def walk(command: object, path: tuple[str, ...]) -> None:
        loaded = command.load() if isinstance(command, LazyCommand) else command
        for name, child in getattr(loaded, "commands", {}).items():
            found.append((*path, name))
            walk(child, (*path, name))

    walk(get_command(app), ())
    return found


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*path, "--help"])
    assert done.exit_code == 0
    assert "Usage:" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["run", "articles"],
        ["run", "articles", "no-such-file.csv"],
        ["run", "articles", "briefs.csv", "--batch", str(uuid4())],
        ["run", "articles", "briefs.csv", "--set", "no-value"],
        ["run", "articles", "briefs.csv", "--deadline", "0"],
        ["run", "articles", "--batch", "not-an-id"],
        ["submit", "articles"],
        ["submit", "articles", "briefs.csv", "--priority", "101"],
        ["status"],
        ["status", "not-an-id"],
        ["results", "not-an-id"],
        ["cancel"],
        ["batches", "--limit", "0"],
        ["show"],
        ["config", "--no-such-option"],
        ["monitor", "create"],
        ["monitor", "create", "steel"],
        ["monitor", "create", "steel.toml", "--cron", "0 * * * *"],
        ["monitor", "create", "steel", "--watch", "briefs.csv", "--window", "fortnight"],
        ["monitor", "create", "steel", "--watch", "briefs.csv", "--reports", "some"],
        ["run", "sentiment", "briefs.csv", "--watch", "briefs.csv", "--reports", "some"],
        ["monitor", "show"],
        ["alerts", "list", "--status", "lost"],
        ["alerts", "show", "not-an-id"],
        ["alerts", "mute"],
        ["alerts", "unmute", "not-an-id"],
        ["up", "--device", "abacus", "--profile", "cpu"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2_and_says_so_on_stderr(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "briefs.csv").write_text("title\nOne\n")
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == EXIT_USAGE
    assert done.stdout == ""
    assert done.stderr
    assert not (tmp_path / "home").exists()  # nothing was started for it


@pytest.mark.parametrize(
    ("arguments", "sentences"),
    [
        (["status", "nope"], ["for 'BATCH'", "pressroom batches"]),
        (["run", "articles", "--batch", "nope"], ["for '--batch'", "pressroom batches"]),
        (
            ["submit", "articles", "a.csv", "--set", "colour=red"],
            ["colour is not a setting", "temperature"],
        ),
        (
            ["submit", "trial", "a.csv", "--set", "colour=red"],
            ["colour is not a setting", "the kind has no settings"],
        ),
        (
            ["schedule", "create", "trial", "daily", "a.csv", "--cron", "0 6 * * *", "--time-zone", "Mars"],
            ["for --time-zone", "Europe/Berlin"],
        ),
    ],
)
def test_what_is_wrong_on_the_command_line_is_named(
    arguments: list[str], sentences: list[str], tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("text\nOne\n")
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == EXIT_USAGE
    assert [each for each in sentences if each not in done.stderr] == []


@pytest.mark.parametrize(
    ("lines", "code"),
    [("", "file_empty"), ("a,b\n1,2\n", "missing_column"), ("text,date\n", "file_header_only")],
)
@pytest.mark.parametrize("command", [["run", "sentiment"], ["monitor", "backtest"]], ids=" ".join)
def test_a_file_without_documents_makes_no_monitor(
    command: list[str], lines: str, code: str, tmp_path: Path
) -> None:
    (tmp_path / "news.csv").write_text(lines)
    (tmp_path / "watch.toml").write_text('[[company]]\nname = "Acme Steel"\n')
    done = CliRunner().invoke(app, [*command, "news.csv", "--watch", "watch.toml"])
    assert done.exit_code == EXIT_FAILURE
    assert f"error [{code}]" in done.stderr
    assert not (tmp_path / "home").exists()  # nothing was started for it


def test_the_version_is_that_of_the_installed_package(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert done.stdout == f"pressroom {version('pressroom')}\n"
    assert not (tmp_path / "home").exists()


def test_the_configuration_is_printed_with_its_sources_and_without_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PRESSROOM_DB_URL", f"postgresql://app:{SECRET}@host/db")
    monkeypatch.setenv("PRESSROOM_S3_URL", f"http://key:{SECRET}@host/bucket")
    monkeypatch.setenv("PRESSROOM_NUM_SLOTS", "7")
    for arguments in (["config"], ["config", "--json"]):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0
        assert SECRET not in done.output
    printed = json.loads(done.stdout)
    assert printed["PRESSROOM_NUM_SLOTS"] == {"value": 7, "source": "environment"}
    assert printed["PRESSROOM_LEASE_SECONDS"] == {"value": 30.0, "source": "default"}
    assert printed["PRESSROOM_DB_URL"] == {"value": "**********", "source": "environment"}
    assert printed["PRESSROOM_REDIS_URL"]["value"] is None


@pytest.mark.parametrize(
    ("variable", "value"), [("NUM_SLOTS", SECRET), ("PROFILES", "{not json"), ("LEASE_SECONDS", "-1")]
)
def test_a_setting_that_cannot_be_read_is_named_and_its_value_is_not(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(f"PRESSROOM_{variable}", value)
    done = CliRunner().invoke(app, ["config"])
    assert done.exit_code == EXIT_FAILURE
    assert "setting_invalid" in done.stderr
    assert f"PRESSROOM_{variable}" in done.stderr
    assert SECRET not in done.output


def test_a_misspelt_variable_is_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRESSROOM_NUM_SLOT", "7")
    done = CliRunner().invoke(app, ["config"])
    assert "PRESSROOM_NUM_SLOT" in done.output


@pytest.mark.parametrize("device", ["gpu", "cuda:0,cuda:0"])
def test_an_unknown_device_is_refused_before_anything_is_started(device: str, tmp_path: Path) -> None:
    (tmp_path / "briefs.csv").write_text("title\nOne\n")
    done = CliRunner().invoke(app, ["run", "articles", str(tmp_path / "briefs.csv"), "--device", device])
    assert done.exit_code == EXIT_USAGE
    assert "--device" in done.stderr


def test_a_model_that_is_not_installed_is_said_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PRESSROOM_MODELS_DIR", str(tmp_path / "none"))
    (tmp_path / "briefs.csv").write_text("title\nOne\n")
    done = CliRunner().invoke(app, ["run", "articles", "briefs.csv", "--device", "cpu"])
    assert done.exit_code == EXIT_FAILURE
    assert "error [model_not_installed]" in done.stderr
    assert not (tmp_path / "home" / "postgres").exists()


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ((), {}),
        (("--reports", "all"), {"reports": "all"}),
        (("--reports", "all", "--max-reports", "0"), {"reports": "all", "max_reports": 0}),
    ],
)
def test_reports_and_their_limit_are_the_monitors_unless_an_option_says_them(
    options: tuple[str, ...], settings: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[FileRun] = []

    def run_file(run: FileRun, *_: object, **__: object) -> None:
        asked.append(run)
        raise ConfigurationError("this is as far as it goes")

    monkeypatch.setattr("kinds.sentiment.runs.run_file", run_file)
    for name in ("feed.jsonl", "watch.toml"):
        (tmp_path / name).touch()

    done = CliRunner().invoke(
        app, ["run", "sentiment", "feed.jsonl", "--watch", "watch.toml", "--device", "cpu", *options]
    )

    assert "as far as it goes" in done.output
    (run,) = asked
    models = {"embedder": DEFAULT_EMBEDDER, "summarizer": DEFAULT_MODEL}
    assert run.options.own_settings == {**models, **settings}
