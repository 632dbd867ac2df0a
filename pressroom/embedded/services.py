"""Valkey, Postgres and S3 for one machine: real servers as child processes, unless a URL is configured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from pressroom.embedded.home import Home, HomeState, ServiceState
from pressroom.embedded.postgres import PostgresServer
from pressroom.embedded.s3 import S3Server
from pressroom.embedded.server import MAX_POLL_SECONDS, START_SECONDS, EmbeddedServer, ServerRunner
from pressroom.embedded.valkey import ValkeyServer
from workers.settings import Settings

Say = Callable[[str], None]
"""Function that prints one line for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUrls:
    """URLs of the three services; each contains a password."""

    db_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    s3_url: str = field(repr=False)

    def environment(self) -> dict[str, str]:
        """Return environment variables that make child processes use these services and start none."""
        return {
            "PRESSROOM_DB_URL": self.db_url,
            "PRESSROOM_REDIS_URL": self.redis_url,
            "PRESSROOM_S3_URL": self.s3_url,
        }


class Services:
    """Context manager that owns the embedded services of one home. Main thread only.

    If all three URLs are configured, it starts nothing and touches no folder.
    """

    def __init__(self, settings: Settings, say: Say, *, long_running: bool = False) -> None:
        """Prepare the services.

        If `long_running` is true, they run until they are stopped, and other commands may rely on them.
        """
        self._configured = _configured(settings)
        self._say = say
        self._is_long_running = long_running
        self._home = Home(settings.home)
        self._runners: dict[str, ServerRunner] = {}

    def __enter__(self) -> Self:
        """Start the services that are not configured and wait until they answer.

        Raises HomeLockedError, DiskFullError, ServiceStartError or ConfigurationError.
        """
        if len(self._configured) == len(_URL_FIELDS):
            return self
        self._home.own()
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def urls(self) -> ServiceUrls:
        """Return the URLs of all three services, configured or embedded."""
        embedded = {name: runner.url for name, runner in self._runners.items()}
        return ServiceUrls(**(self._configured | embedded))

    @property
    def pids(self) -> dict[str, int]:
        """Return the process ids of the embedded servers by the names db_url, redis_url and s3_url."""
        return {name: runner.pid for name, runner in self._runners.items() if runner.pid is not None}

    def check(self, *, ask: bool = False) -> tuple[str, ...]:
        """Restart servers that have ended, on the same port and data, and return their names.

        Call it about once a second. If `ask` is true, a server that does not answer a probe is restarted as
        well, because it may be about to end. The method waits until a restarted server answers. Raises
        ServiceStartError or DiskFullError if it does not.
        """
        restarted = tuple(
            runner.name
            for runner in self._runners.values()
            if (runner.restart_unless_serving() if ask else runner.restart_if_ended())
        )
        if restarted:
            self._publish()
            self._say(f"Started again: {', '.join(restarted)}")
        return restarted

    def _start(self) -> None:
        self._home.write_state(HomeState(owner_pid=os.getpid(), is_long_running=self._is_long_running))
        servers = self._missing_servers()
        names = ", ".join(server.name for server in servers.values())
        self._say(f"Starting {names} in {self._home.folder}")
        ports = self._home.last_ports()
        for name, server in servers.items():
            log_path = self._home.folder / "logs" / f"{server.name.lower()}.log"
            self._runners[name] = ServerRunner(server, log_path, port=ports.get(name))
            self._runners[name].spawn()
        for runner in self._runners.values():
            runner.wait_until_ready()
        self._publish()

    def _missing_servers(self) -> dict[str, EmbeddedServer]:
        """Return the servers to start, in starting order: the slowest first."""
        folder, passwords = self._home.folder, self._home.passwords()
        servers: dict[str, EmbeddedServer] = {
            "db_url": PostgresServer(folder / "postgres", passwords),
            "redis_url": ValkeyServer(folder / "valkey", passwords.valkey),
            "s3_url": S3Server(folder / "s3", passwords.s3_access_key, passwords.s3_secret_key),
        }
        return {name: server for name, server in servers.items() if name not in self._configured}

    def _publish(self) -> None:
        services = {
            name: ServiceState(url=runner.url, port=runner.port, pid=runner.pid)
            for name, runner in self._runners.items()
            if runner.pid is not None
        }
        self._home.write_state(
            HomeState(
                owner_pid=os.getpid(), is_long_running=self._is_long_running, is_ready=True, services=services
            )
        )

    def _stop(self) -> None:
        for runner in reversed(self._runners.values()):
            runner.stop()
        self._runners.clear()
        self._home.release()


def find_running(settings: Settings, *, long_running: bool = False) -> ServiceUrls | None:
    """Return the URLs of services that are configured or that another process runs; start none.

    The function waits for an owner that is just starting the services. It returns None if a service is
    neither configured nor running, or if `long_running` is requested and the services end with another
    command.
    """
    configured = _configured(settings)
    if len(configured) == len(_URL_FIELDS):
        return ServiceUrls(**configured)
    home = Home(settings.home)
    deadline = time.monotonic() + START_SECONDS
    while home.is_owned() and time.monotonic() < deadline:
        state = home.read_state()
        if state is not None and long_running and not state.is_long_running:
            return None
        if state is not None and state.is_ready:
            running = {name: service.url for name, service in state.services.items()}
            urls = running | configured
            return ServiceUrls(**urls) if urls.keys() == set(_URL_FIELDS) else None
        time.sleep(MAX_POLL_SECONDS)
    return None


@contextmanager
def embedded_services(settings: Settings, say: Say) -> Iterator[ServiceUrls]:
    """Yield the URLs of running services, or of services started for this block. Main thread only."""
    running = find_running(settings)
    if running is not None:
        yield running
        return
    with Services(settings, say) as services:
        yield services.urls


_URL_FIELDS = ("db_url", "redis_url", "s3_url")
"""Names of the URL fields, the same in Settings and in ServiceUrls."""


def _configured(settings: Settings) -> dict[str, str]:
    secrets = {"db_url": settings.db_url, "redis_url": settings.redis_url, "s3_url": settings.s3_url}
    return {name: secret.get_secret_value() for name, secret in secrets.items() if secret is not None}
