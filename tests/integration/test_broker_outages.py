"""Error states of Valkey are outages: workers keep their process, and with it their warm models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import Engine

from pressroom.embedded.server import ServerRunner
from pressroom.embedded.services import ServiceUrls
from pressroom.embedded.valkey import ValkeyServer
from tests.factories import accept, job_ids, statuses, wait_until
from tests.workers import PROFILE, START_SECONDS, supervised, wait_until_ready
from workers.broker import BROKER_ERRORS, require_queue, require_writable
from workers.celery import RUN_SHARD, make_app
from workers.dispatcher import Dispatcher
from workers.settings import Settings

PASSWORD = "secret"

AWAY = "Valkey is unavailable; the worker waits and keeps its models"
BACK = "Valkey answers again."


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ServerRunner]:
    """A server that a test may put into any state."""
    runner = ServerRunner(ValkeyServer(tmp_path / "valkey", PASSWORD), tmp_path / "valkey.log", port=None)
    runner.spawn()
    runner.wait_until_ready()
    yield runner
    runner.stop()


@pytest.fixture
def client(valkey: ServerRunner) -> Iterator[Redis]:
    """It stays connected, whatever happens to the password."""
    with Redis.from_url(valkey.url, single_connection_client=True) as client:
        yield client


def execute(client: Any, *command: str) -> None:
    client.execute_command(*command)  # untyped in redis-py


def disconnect_others(client: Redis) -> None:
    execute(client, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def set_password(client: Redis, password: str) -> None:
    client.config_set("requirepass", password)
    disconnect_others(client)


def set_max_memory(client: Redis, num_bytes: int) -> None:
    client.config_set("maxmemory", num_bytes)
    disconnect_others(client)


def set_max_clients(client: Redis, number: int) -> None:
    client.config_set("maxclients", number)
    disconnect_others(client)


ERROR_STATES: Mapping[str, tuple[Callable[[Redis], object], Callable[[Redis], object]]] = {
    "read-only": (
        lambda client: execute(client, "REPLICAOF", "127.0.0.1", "1"),
        lambda client: execute(client, "REPLICAOF", "NO", "ONE"),
    ),
    "memory full": (lambda client: set_max_memory(client, 1), lambda client: set_max_memory(client, 0)),
    "password rotated": (
        lambda client: set_password(client, "other"),
        lambda client: set_password(client, PASSWORD),
    ),
    "no permission": (
        lambda client: execute(client, "ACL", "SETUSER", "default", "-@write"),
        lambda client: execute(client, "ACL", "SETUSER", "default", "+@all"),
    ),
    "too many clients": (
        lambda client: set_max_clients(client, 1),
        lambda client: set_max_clients(client, 1000),
    ),
}


@contextmanager
def error_state(client: Redis, name: str) -> Iterator[None]:
    begin, end = ERROR_STATES[name]
    begin(client)
    try:
        yield
    finally:
        end(client)


def test_a_worker_outlives_every_error_state_of_valkey_with_the_same_process(
    database: Engine,
    services: ServiceUrls,
    database_url: str,
    valkey: ServerRunner,
    client: Redis,
    tmp_path: Path,
) -> None:
    urls = ServiceUrls(db_url=database_url, redis_url=valkey.url, s3_url=services.s3_url)
    with supervised(tmp_path, urls) as supervisor:
        wait_until_ready(database, supervisor)
        pids = supervisor.pids
        (log_path,) = (tmp_path / "logs").glob("worker-*.log")
        for number, name in enumerate(ERROR_STATES, start=1):
            with error_state(client, name):
                wait_until(lambda: log_path.read_text().count(AWAY) == number, f"{name} is told")  # noqa: B023
            wait_until(lambda: log_path.read_text().count(BACK) == number, f"{name} is over")  # noqa: B023
        client.config_set("maxclients", 1000)
        ids = job_ids(database, accept(database, 2))
        Dispatcher(database, valkey.url, Settings(home=tmp_path)).tick()
        wait_until(lambda: set(statuses(database, ids)) == {"succeeded"}, "the jobs", seconds=START_SECONDS)
        assert supervisor.check() == []
        assert supervisor.pids == pids
    assert "Unrecoverable error" not in log_path.read_text()


@pytest.mark.parametrize("name", ERROR_STATES)
def test_the_dispatcher_names_an_error_state_once_and_sends_when_it_is_over(
    database: Engine, valkey: ServerRunner, client: Redis, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher = Dispatcher(database, valkey.url, Settings())
    job_ids(database, accept(database, 3))
    with error_state(client, name):
        for _ in range(3):
            dispatcher.tick()
    wait_until(dispatcher.tick, "the jobs are sent")
    assert client.llen(PROFILE) > 0
    assert caplog.messages.count("Valkey is unavailable; queued jobs wait in Postgres.") == 1
    assert caplog.messages.count("Valkey answers again.") == 1


def test_a_replica_is_not_usable_although_it_answers(client: Redis) -> None:
    with error_state(client, "read-only"):
        assert client.ping()
        with pytest.raises(BROKER_ERRORS):
            require_writable(client, PROFILE)
    require_writable(client, PROFILE)
    assert client.keys("*") == []


@pytest.mark.attack("remote control of workers")
def test_keys_of_a_wrong_type_are_moved_aside_and_stop_no_worker(
    database: Engine, services: ServiceUrls, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    urls = ServiceUrls(db_url=database_url, redis_url=redis_url, s3_url=services.s3_url)
    dispatcher = Dispatcher(database, redis_url, Settings(home=tmp_path))
    with Redis.from_url(redis_url) as client:
        client.set(PROFILE, "no list")
        for key in ("unacked", "unacked_index", f"_kombu.binding.{PROFILE}"):
            client.rpush(key, "of another type")
        with supervised(tmp_path, urls) as supervisor:
            wait_until_ready(database, supervisor)
            pids = supervisor.pids
            for value in ("before the first message", "while messages are consumed"):
                ids = job_ids(database, accept(database, 2))

                def all_done(ids: list[object] = ids) -> bool:  # type: ignore[assignment]
                    dispatcher.tick()
                    return set(statuses(database, ids)) == {"succeeded"}  # type: ignore[arg-type]

                wait_until(all_done, value, seconds=START_SECONDS)
                client.delete(PROFILE)
                client.set(PROFILE, value)
            assert supervisor.check() == []
            assert supervisor.pids == pids
        aside = client.keys(f"{PROFILE}.set-aside-*")
        assert sorted(client.mget(aside))[-1] == b"no list"
    (log_path,) = (tmp_path / "logs").glob("worker-*.log")
    assert f"was renamed. key={PROFILE} type=string" in log_path.read_text()


def test_a_key_of_the_right_type_is_left_alone(redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        client.rpush(PROFILE, "a message")
        require_queue(client, PROFILE)
        assert client.lrange(PROFILE, 0, -1) == [b"a message"]


@pytest.mark.attack("remote control of workers")
def test_celerys_own_tasks_and_remote_control_are_off_unless_asked_for(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_app(lambda: redis_url) as app:
        assert not [name for name in app.tasks if name.startswith("celery.")]
        assert not app.conf.worker_enable_remote_control
    monkeypatch.setenv("PRESSROOM_REMOTE_CONTROL", "true")
    with make_app(lambda: redis_url) as app:
        assert "celery.map" in app.tasks
        assert app.conf.worker_enable_remote_control


@pytest.mark.attack("remote control of workers")
def test_a_worker_answers_no_remote_control(
    database: Engine, services: ServiceUrls, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    urls = ServiceUrls(db_url=database_url, redis_url=redis_url, s3_url=services.s3_url)
    with supervised(tmp_path, urls) as supervisor, make_app(lambda: redis_url) as app:
        wait_until_ready(database, supervisor)
        app.control.broadcast("shutdown")
        assert app.control.inspect(timeout=0.3).ping() is None
        app.send_task("celery.map", ({"task": RUN_SHARD}, [[[]]]), queue=PROFILE)
        (log_path,) = (tmp_path / "logs").glob("worker-*.log")
        wait_until(lambda: "unregistered task of type 'celery.map'" in log_path.read_text(), "it is refused")
        assert supervisor.check() == []
