"""Embedded services inside their owner: secrets, ports, restarts, and every way in which a start may fail."""

from __future__ import annotations

import http.client
import logging
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
from pydantic import SecretStr
from redis import Redis
from redis.exceptions import AuthenticationError

from jobs.errors import ConfigurationError, DiskFullError
from pressroom.embedded import server as server_module
from pressroom.embedded.home import MIN_FREE_MB
from pressroom.embedded.process import Command, NotReadyError, ServerProcess, ServiceStartError
from pressroom.embedded.server import ServerRunner
from pressroom.embedded.services import Services, ServiceUrls, find_running
from storage import open_store
from tests.services import embedded_settings


def answers(urls: ServiceUrls) -> bool:
    """Whether all three serve us."""
    with psycopg.connect(urls.db_url) as connection:
        connection.execute("SELECT 1")
    with Redis.from_url(urls.redis_url) as client:
        client.ping()
    return not open_store(urls.s3_url).exists("a/missing")


def test_services_refuse_whoever_has_no_password(services: ServiceUrls) -> None:
    database, valkey, s3 = (urlsplit(url) for url in (services.db_url, services.redis_url, services.s3_url))
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(
            host="127.0.0.1", port=database.port, user="app", password="wrong", dbname="pressroom"
        )
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(host="127.0.0.1", port=database.port, user="app", dbname="pressroom")
    with Redis(host="127.0.0.1", port=valkey.port or 0) as client, pytest.raises(AuthenticationError):
        client.ping()
    connection = http.client.HTTPConnection("127.0.0.1", s3.port)
    connection.request("GET", "/pressroom")
    assert connection.getresponse().status in (http.HTTPStatus.BAD_REQUEST, http.HTTPStatus.FORBIDDEN)
    connection.close()


def test_postgres_is_durable_and_takes_two_hundred_connections(services: ServiceUrls) -> None:
    expected = {
        "fsync": "on",
        "synchronous_commit": "on",
        "max_connections": "200",
        "server_encoding": "UTF8",
    }
    with psycopg.connect(services.db_url) as connection:
        shown = {name: connection.execute(f"SHOW {name}".encode()).fetchone() for name in expected}
    assert shown == {name: (value,) for name, value in expected.items()}


def test_valkey_keeps_what_it_accepts(services: ServiceUrls) -> None:
    with Redis.from_url(services.redis_url) as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_secrets_stay_between_the_owner_and_its_files(tmp_path: Path) -> None:
    with Services(embedded_settings(tmp_path), print) as services:
        urls = services.urls
        passwords = [urlsplit(url).password or "" for url in urls.environment().values()]
        command_lines = [" ".join(psutil.Process(pid).cmdline()) for pid in services.pids.values()]
        assert all(len(password) >= 40 for password in passwords)
        assert not [line for line in command_lines for password in passwords if password in line]
        assert not [password for password in passwords if password in repr(urls)]
        for path in tmp_path.rglob("*"):
            if path.is_file() and any(password.encode() in path.read_bytes() for password in passwords):
                assert path.stat().st_mode & 0o077 == 0, path
        logs = b"".join(path.read_bytes() for path in (tmp_path / "logs").iterdir())
        assert not [password for password in passwords if password.encode() in logs]


@pytest.mark.parametrize("name", ["a long name " * 15, "späce 'quoted' \"twice\" 100%"])
def test_home_path_may_be_long_or_strange(tmp_path: Path, name: str) -> None:
    with Services(embedded_settings(tmp_path / name.strip()), print) as services:
        assert answers(services.urls)


def test_killed_services_are_started_again_with_the_same_data_and_address(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = embedded_settings(tmp_path)
    with Services(settings, print) as services:
        before, pids = services.urls, services.pids
        with Redis.from_url(before.redis_url) as client:
            client.set("kept", 1)
        assert services.check() == ()

        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
            psutil.wait_procs([psutil.Process(pid)])
        with caplog.at_level(logging.WARNING):
            assert services.check() == ("Postgres", "Valkey", "S3")

        assert [record.action for record in caplog.records] == ["service_restarted"] * 3  # type: ignore[attr-defined]
        assert services.check() == ()
        assert services.urls == before
        assert not set(services.pids.values()) & set(pids.values())
        assert find_running(settings) == before
        assert answers(before)
        with Redis.from_url(before.redis_url) as client:
            assert client.get("kept") == b"1"


def test_port_taken_between_choice_and_use_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        taken_port = taken.getsockname()[1]
        choose = server_module._free_port
        choices: Iterator[int] = iter([taken_port] * 3)
        monkeypatch.setattr(server_module, "_free_port", lambda: next(choices, None) or choose())

        with Services(embedded_settings(tmp_path), print) as services:
            ports = {urlsplit(url).port for url in services.urls.environment().values()}
            assert next(choices, None) is None
            assert taken_port not in ports
            assert len(ports) == 3
            assert answers(services.urls)


def test_port_of_last_time_is_left_to_whoever_has_it_now(tmp_path: Path) -> None:
    with Services(embedded_settings(tmp_path), print) as services:
        first = services.urls
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", urlsplit(first.redis_url).port))
        taken.listen()
        with Services(embedded_settings(tmp_path), print) as services:
            assert services.urls.redis_url != first.redis_url
            assert services.urls.db_url == first.db_url
            assert answers(services.urls)


def test_configured_services_are_not_started(services: ServiceUrls, tmp_path: Path) -> None:
    home = tmp_path / "untouched"
    settings = embedded_settings(home).model_copy(
        update={
            name.removeprefix("PRESSROOM_").lower(): SecretStr(url)
            for name, url in services.environment().items()
        }
    )
    with Services(settings, print) as configured:
        assert configured.urls == services
        assert configured.pids == {}
        assert find_running(settings) == services
    assert not home.exists()


def test_only_what_is_not_configured_is_started(services: ServiceUrls, tmp_path: Path) -> None:
    settings = embedded_settings(tmp_path).model_copy(update={"db_url": SecretStr(services.db_url)})
    with Services(settings, print) as partly:
        assert partly.pids.keys() == {"redis_url", "s3_url"}
        assert partly.urls.db_url == services.db_url
        assert find_running(settings) == partly.urls
        assert answers(partly.urls)
    assert not (tmp_path / "postgres").exists()


def test_full_disk_is_said_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=MIN_FREE_MB * 1_000_000 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    with pytest.raises(DiskFullError, match=f"need {MIN_FREE_MB} MB.*PRESSROOM_HOME") as refusal:
        Services(embedded_settings(tmp_path), print).__enter__()

    assert refusal.value.code == "disk_full"
    assert not (tmp_path / "postgres").exists()


@dataclass(frozen=True, slots=True)
class DiskFiller:
    """A server whose disk is full: it writes to /dev/full and dies of it."""

    folder: Path
    name: str = "Filler"

    def prepare(self) -> None:
        return None

    def command(self, port: int) -> Command:
        return Command(
            argv=(sys.executable, "-c", "print('x', file=open('/dev/full', 'w', buffering=1))"),
            folder=self.folder,
        )

    def probe(self, port: int) -> None:
        raise NotReadyError("never")

    def is_ending(self) -> bool:
        return False

    def url(self, port: int) -> str:
        return ""


def test_disk_that_fills_up_while_starting_is_named(tmp_path: Path) -> None:
    runner = ServerRunner(DiskFiller(tmp_path), tmp_path / "filler.log", port=None)
    runner.spawn()

    with pytest.raises(DiskFullError, match=r"Filler ended while starting: the disk is full[^$]*Errno 28"):
        runner.wait_until_ready()


def test_failed_start_shows_the_end_of_the_log_and_leaves_nothing_running(tmp_path: Path) -> None:
    with Services(embedded_settings(tmp_path), print):
        pass
    (tmp_path / "postgres" / "data" / "global" / "pg_control").write_bytes(b"damaged")

    with pytest.raises(ServiceStartError, match=r"Postgres ended while starting[^$]*pg_control") as refusal:
        Services(embedded_settings(tmp_path), print).__enter__()

    assert refusal.value.code == "service_start_failed"
    assert not [child for child in psutil.Process().children() if str(tmp_path) in " ".join(child.cmdline())]
    assert find_running(embedded_settings(tmp_path)) is None


def test_lost_passwords_are_said_instead_of_waited_for(tmp_path: Path) -> None:
    with Services(embedded_settings(tmp_path), print):
        pass
    (tmp_path / "secrets.json").unlink()

    with pytest.raises(ServiceStartError, match=r"rejects the password in secrets\.json"):
        Services(embedded_settings(tmp_path), print).__enter__()


def test_damaged_state_file_is_named_without_its_secrets(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text('{"postgres": "s3cret", "color": "blue"}', encoding="utf-8")

    with pytest.raises(ConfigurationError, match=r"secrets\.json is damaged") as refusal:
        Services(embedded_settings(tmp_path), print).__enter__()

    assert refusal.value.code == "home_damaged"
    assert "s3cret" not in str(refusal.value)


def test_home_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="PRESSROOM_HOME") as refusal:
        Services(embedded_settings(tmp_path / "file"), print).__enter__()

    assert refusal.value.code == "home_unusable"


def test_server_is_not_spawned_from_a_thread_that_may_end_before_it(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def spawn() -> None:
        try:
            ServerProcess(Command(argv=("/bin/true",), folder=tmp_path), tmp_path / "log")
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=spawn)
    thread.start()
    thread.join()

    assert "main thread" in str(errors[0])
