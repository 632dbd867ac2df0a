"""Health checks tell a live process from a dead one, by what Postgres saw of it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from db import workers
from db.session import open_database
from pressroom.health import SESSIONS, Role, find_fault, main
from tests.services import embedded_settings
from workers.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, database_url: str, redis_url: str, s3_url: str) -> Settings:
    urls = {"db_url": database_url, "redis_url": redis_url, "s3_url": s3_url}
    return embedded_settings(tmp_path).model_copy(update={name: SecretStr(url) for name, url in urls.items()})


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    engine = open_database(database_url)
    yield engine
    engine.dispose()


def test_services_are_healthy_once_migrated(settings: Settings, empty_database_url: str) -> None:
    assert find_fault(settings, Role.SERVICES) is None

    not_migrated = settings.model_copy(update={"db_url": SecretStr(empty_database_url)})
    assert "pressroom db upgrade" in (find_fault(not_migrated, Role.SERVICES) or "")


@pytest.mark.parametrize("down", ["db_url", "redis_url", "s3_url"])
def test_services_are_unhealthy_when_one_is_down(settings: Settings, down: str) -> None:
    urls = {
        "db_url": "postgresql://app:s3cret@127.0.0.1:9/pressroom",
        "redis_url": "redis://:s3cret@127.0.0.1:9/0",
        "s3_url": "http://key:s3cret@127.0.0.1:9/bucket",
    }
    fault = find_fault(settings.model_copy(update={down: SecretStr(urls[down])}), Role.SERVICES)

    assert fault
    assert "s3cret" not in fault


def test_worker_is_healthy_from_ready_to_stopped(settings: Settings, database: Engine) -> None:
    assert find_fault(settings, Role.WORKER)

    workers.register(database, "w1", profile="default", device="cpu", host=socket.gethostname(), pid=1)
    assert find_fault(settings, Role.WORKER)

    workers.mark_ready(database, "w1", max_jobs_in_flight=4)
    assert find_fault(settings, Role.WORKER) is None

    with database.begin() as connection:
        connection.execute(text("UPDATE workers SET seen_at = now() - interval '2 minutes'"))
    assert find_fault(settings, Role.WORKER)

    workers.mark_seen(database, "w1")
    assert find_fault(settings, Role.WORKER) is None
    workers.mark_stopped(database, "w1")
    assert find_fault(settings, Role.WORKER)


def test_worker_of_another_host_does_not_count(settings: Settings, database: Engine) -> None:
    workers.register(database, "w1", profile="default", device="cpu", host="elsewhere", pid=1)
    workers.mark_ready(database, "w1", max_jobs_in_flight=4)

    assert find_fault(settings, Role.WORKER)


@pytest.mark.parametrize("role", SESSIONS)
def test_who_holds_a_session_is_healthy_while_it_is_connected(
    settings: Settings, database_url: str, role: Role
) -> None:
    assert find_fault(settings, role)

    database = open_database(database_url, application_name=SESSIONS[role])
    with database.connect():
        assert [other for other in SESSIONS if find_fault(settings, other) is None] == [role]
    database.dispose()


def test_a_missing_or_unreadable_setting_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PRESSROOM_DB_URL", raising=False)
    assert main(["worker"]) == 1
    assert "PRESSROOM_DB_URL is not set" in capsys.readouterr().err
    monkeypatch.setenv("PRESSROOM_NUM_SLOTS", "many")
    assert main(["worker"]) == 1
    assert "PRESSROOM_NUM_SLOTS" in capsys.readouterr().err


def test_unknown_role_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cook"]) == 2
    assert main(["worker", "worker"]) == 2
    assert "services, worker, dispatcher, beat" in capsys.readouterr().err
