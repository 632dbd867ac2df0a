"""One machine's process tree: services, dispatcher and one worker per device, started and stopped as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from sqlalchemy import Engine

from db.migrate import upgrade
from db.session import open_database
from pressroom.dispatching import DispatcherThread
from pressroom.embedded.services import Services, ServiceUrls, find_running
from workers.devices import Device
from workers.settings import Settings
from workers.supervisor import Supervisor

DISPATCHER_JOIN_SECONDS = 10.0
"""A dispatcher that hangs in a network call ends with the process."""


class OneMachine:
    """Enter it to start everything, call `check` about twice a second, leave it to drain and stop.

    Main thread only: the services and workers get their death signal from the thread that starts them.
    """

    def __init__(
        self,
        settings: Settings,
        devices: Sequence[Device],
        *,
        profile: str,
        say: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._devices = devices
        self._profile = profile
        self._say = say
        self._services: Services | None = None
        self._supervisor: Supervisor | None = None
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        """Start services, migrate, start workers and dispatcher. Raises what each of them raises."""
        try:
            self.urls = self._start_services()
            self.database: Engine = open_database(self.urls.db_url)
            self._exits.callback(self.database.dispose)
            upgrade(self.database)
            self._supervisor = Supervisor(
                self._settings,
                self._devices,
                profile=self._profile,
                environment=self.urls.environment(),
            )
            self._exits.callback(self._supervisor.stop)
            self._start_dispatcher()
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._supervisor is not None and isinstance(error, KeyboardInterrupt):
            self._supervisor.stop(timeout_seconds=0)  # the second Ctrl-C: leases bring the jobs back
        self._exits.close()

    def _start_services(self) -> ServiceUrls:
        running = find_running(self._settings, standing=True)
        if running is not None:
            return running
        self._services = self._exits.enter_context(Services(self._settings, self._say))
        return self._services.urls

    def _start_dispatcher(self) -> None:
        self._dispatcher = DispatcherThread(self.urls.db_url, self.urls.redis_url, self._settings)
        self._exits.callback(self._dispatcher.stop, DISPATCHER_JOIN_SECONDS)

    def check(self) -> None:
        """Start again what has died.

        Raises WorkerStartError, ServiceStartError or DispatcherEndedError if that cannot help.
        """
        self._dispatcher.check()
        if self._services is not None:
            self._services.check()
        if self._supervisor is not None:
            for death in self._supervisor.check():
                self._say(death)

    def drain(self) -> None:
        """Let the workers finish what they have begun, give the rest back, and end; `check` no more."""
        if self._supervisor is not None:
            self._supervisor.stop()

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers, in the order of the devices."""
        return [] if self._supervisor is None else self._supervisor.pids
