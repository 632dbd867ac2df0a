"""Health checks tell a live process from a dead one, by what Postgres saw of it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis import Redis
from sqlalchemy import Engine, text

from db import workers
from db.session import open_database
from pressroom.health import LEADS, Role, find_fault, main
from tests.services import embedded_settings
from workers.lead import Lead
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


@pytest.mark.parametrize("role", LEADS)
def test_who_leads_or_stands_by_is_healthy_until_it_stops(
    settings: Settings, database: Engine, role: Role
) -> None:
    assert find_fault(settings, role)

    leader, standby = Lead(database, LEADS[role]), Lead(database, LEADS[role])
    assert leader.is_held()
    assert not standby.is_held()
    leader.give_up()
    assert [other for other in LEADS if find_fault(settings, other) is None] == [role]
    standby.give_up()
    assert find_fault(settings, role)


def test_services_are_unhealthy_while_valkey_takes_no_message(settings: Settings, redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        client.set("default", "no list")
    assert "WRONGTYPE" in (find_fault(settings, Role.SERVICES) or "")


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
