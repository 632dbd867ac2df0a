"""What the command line says about a database that is not as it should be."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner, Result

from db.reports import batch_status
from jobs.errors import ConfigurationError
from pressroom.cli import app
from pressroom.embedded.services import ServiceUrls
from pressroom.run import check_kind, check_profile
from tests.factories import accept, new_batch
from workers.dispatcher import Dispatcher
from workers.settings import Profile, Settings


def pressroom(
    monkeypatch: pytest.MonkeyPatch,
    services: ServiceUrls,
    db_url: str,
    home: Path,
    *arguments: str,
    typed: str = "",
) -> Result:
    for variable, url in services.environment().items():
        monkeypatch.setenv(variable, url)
    monkeypatch.setenv("PRESSROOM_DB_URL", db_url)
    monkeypatch.setenv("PRESSROOM_HOME", str(home))
    return CliRunner().invoke(app, arguments, input=typed)


def test_a_database_without_tables_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, services: ServiceUrls, empty_database_url: str, tmp_path: Path
) -> None:
    done = pressroom(monkeypatch, services, empty_database_url, tmp_path, "batches")
    assert done.exit_code == 1
    assert "error [database_not_migrated]" in done.stderr
    assert "pressroom db upgrade" in done.stderr
    assert pressroom(monkeypatch, services, empty_database_url, tmp_path, "db", "upgrade").exit_code == 0
    assert pressroom(monkeypatch, services, empty_database_url, tmp_path, "batches").exit_code == 0


def test_older_database_is_refused_and_made_anew_when_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    services: ServiceUrls,
    database: Engine,
    database_url: str,
    tmp_path: Path,
) -> None:
    accept(database, 1)
    with database.begin() as connection:
        connection.execute(text("DELETE FROM alembic_version"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('594e3267f392')"))

    def db(*arguments: str, typed: str = "") -> Result:
        return pressroom(monkeypatch, services, database_url, tmp_path, "db", *arguments, typed=typed)

    refused = db("upgrade")
    assert refused.exit_code == 1
    assert "error [database_schema_unknown]" in refused.stderr
    assert "pressroom db reset" in refused.stderr

    for typed in ("", "n\n"):
        kept = db("reset", typed=typed)
        assert kept.exit_code == 1
        assert "batches" in kept.stderr
        assert "objects in the store are kept" in kept.stderr
        assert db("upgrade").exit_code == 1

    done = db("reset", "--yes")
    assert done.exit_code == 0
    assert "core_0001, recommendation_0001, sentiment_report_0001" in done.stdout
    assert "core_0001" in db("upgrade").stdout
    assert pressroom(monkeypatch, services, database_url, tmp_path, "batches").exit_code == 0


def test_a_database_that_does_not_answer_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, services: ServiceUrls, tmp_path: Path
) -> None:
    nowhere = "postgresql://app:the-password@127.0.0.1:1/none"
    done = pressroom(monkeypatch, services, nowhere, tmp_path, "batches")
    assert done.exit_code == 1
    assert "error [database_unavailable]" in done.stderr
    assert "the-password" not in done.output


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dispatcher_that_crashes_ends_its_command_with_a_failure(
    monkeypatch: pytest.MonkeyPatch, services: ServiceUrls, database_url: str, tmp_path: Path
) -> None:
    def crash(_: Dispatcher) -> None:
        raise ZeroDivisionError("the test makes it crash")

    monkeypatch.setattr(Dispatcher, "tick", crash)
    done = pressroom(monkeypatch, services, database_url, tmp_path, "dispatcher")
    assert done.exit_code == 1
    assert "error [dispatcher_ended]" in done.stderr


def test_an_unknown_batch_is_an_error_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, services: ServiceUrls, database_url: str, tmp_path: Path
) -> None:
    done = pressroom(monkeypatch, services, database_url, tmp_path, "status", str(uuid4()))
    assert done.exit_code == 1
    assert "error [batch_not_found]" in done.stderr


def test_going_on_with_a_batch_of_another_model_is_refused_with_what_to_give(database: Engine) -> None:
    profiles = {"a": Profile(models=("one", "two")), "b": Profile(models=("three",))}
    settings = Settings(profiles=profiles)
    report = batch_status(database, accept(database, 1, new_batch(model="one", profile="a")))
    check_profile(report, [settings.profile_of(["two"])])  # the same workers have both
    with pytest.raises(ConfigurationError, match="--model one"):
        check_profile(report, [settings.profile_of(["three"])])


def test_going_on_without_a_model_where_one_was_given_says_so(database: Engine) -> None:
    report = batch_status(database, accept(database, 1, new_batch(model="", profile="cpu")))
    with pytest.raises(ConfigurationError, match="profile 'cpu': omit --model"):
        check_profile(report, ["default"])


def test_going_on_with_a_batch_of_another_kind_is_refused_with_what_to_call(database: Engine) -> None:
    report = batch_status(database, accept(database, 1, new_batch(kind="trial")))
    check_kind(report, "trial")
    with pytest.raises(ConfigurationError, match="`pressroom kinds show trial`") as refused:
        check_kind(report, "article")
    assert refused.value.code == "batch_of_another_kind"
