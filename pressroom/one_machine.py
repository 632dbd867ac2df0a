"""One machine's process tree: services, dispatcher, beat and workers, started and stopped together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from types import TracebackType
from typing import Self

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from db.dispatch import SESSION_NAME
from db.migrate import upgrade
from db.session import open_database
from jobs.errors import PressroomError
from jobs.kind import Background
from pressroom.embedded.services import Services, ServiceUrls, find_running
from workers.background import BackgroundPlace, BackgroundServices
from workers.beat import BeatThread
from workers.devices import Device
from workers.dispatcher import Dispatcher
from workers.preflight import check_services
from workers.settings import Settings
from workers.supervisor import Supervisor


class DispatcherEndedError(PressroomError):
    """The dispatcher ended because of an internal error; outages of Postgres and Redis do not end it."""

    code = "dispatcher_ended"


class DispatcherThread:
    """A thread that dispatches jobs from its creation until `stop`; call `check` regularly."""

    def __init__(self, db_url: str, redis_url: str, settings: Settings) -> None:
        self._database = open_database(db_url, application_name=SESSION_NAME)
        self._stopping = threading.Event()
        self._error: SQLAlchemyError | None = None
        self._dispatcher = Dispatcher(self._database, redis_url, settings)
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._dispatcher.run(self._stopping)
        except SQLAlchemyError as error:
            self._error = error

    def check(self) -> None:
        """Raise DispatcherEndedError if the thread crashed, or the SQLAlchemyError that ended it."""
        if self._error is not None:
            raise self._error
        if not self._thread.is_alive():
            raise DispatcherEndedError(
                "the dispatcher ended with the error above; the batch can be continued later"
            )

    def stop(self, timeout_seconds: float | None = None) -> None:
        """Stop the thread and wait for its end, by default without a limit.

        A thread that hangs in a network call ends with the process.
        """
        self._stopping.set()
        self._thread.join(timeout_seconds)
        self._database.dispose()


DRAINING = (
    "Draining: running jobs will be finished, and the others stay queued. Press Ctrl-C again to end at once."
)
"""Sentence printed for the user after the first Ctrl-C."""

THREAD_JOIN_SECONDS = 10.0
"""Seconds to wait for the thread of the dispatcher or beat; one that hangs in a network call ends with the
process."""


def background_place(urls: ServiceUrls, settings: Settings) -> BackgroundPlace:
    """Return what services of kinds need to run alongside a command: the URLs and the settings."""
    return BackgroundPlace(
        db_url=urls.db_url, redis_url=urls.redis_url, s3_url=urls.s3_url, settings=settings
    )


class OneMachine:
    """Context manager that starts everything on entry, and drains and stops it on exit.

    Call `check` about twice a second in between. Main thread only: the kernel sends services and workers
    their death signal when the thread that started them ends.
    """

    def __init__(
        self,
        settings: Settings,
        devices: Sequence[Device],
        *,
        profiles: Sequence[str],
        say: Callable[[str], None],
        long_running: bool = False,
    ) -> None:
        """Prepare one worker per profile and device.

        If `long_running` is true, beat runs as well, and other commands may rely on the services.
        """
        self._settings = settings
        self._devices = devices
        self._profiles = profiles
        self._say = say
        self._is_long_running = long_running
        self._services: Services | None = None
        self._are_services_usable = True
        self._supervisors: list[Supervisor] = []
        self._beat: BeatThread | None = None
        self._background: BackgroundServices | None = None
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        """Start the services, migrate the database, and start the workers and the dispatcher.

        Raises the errors of each of these steps.
        """
        try:
            self.urls = self._start_services()
            self.place = background_place(self.urls, self._settings)
            self._check_services()
            self.database: Engine = open_database(self.urls.db_url)
            self._exits.callback(self.database.dispose)
            upgrade(self.database)
            self._exits.callback(self.drain)
            for profile in self._profiles:
                self._supervisors.append(self._supervisor(profile))
            self._start_dispatcher()
            if self._is_long_running:
                self._beat = BeatThread(self.place)
                self._exits.callback(self._beat.stop, THREAD_JOIN_SECONDS)
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):  # a second Ctrl-C; expired leases requeue the jobs
            for supervisor in self._supervisors:
                supervisor.stop(timeout_seconds=0)
        self._exits.close()

    def _supervisor(self, profile: str) -> Supervisor:
        environment = self.urls.environment()
        return Supervisor(self._settings, self._devices, profile=profile, environment=environment)

    def _start_services(self) -> ServiceUrls:
        running = find_running(self._settings, long_running=True)
        if running is not None:
            return running
        self._services = self._exits.enter_context(
            Services(self._settings, self._say, long_running=self._is_long_running)
        )
        return self._services.urls

    def _check_services(self) -> None:
        """Check the configured services; embedded ones were checked by their owner. Raises PressroomError."""
        configured = self._settings
        check_services(
            db_url=self.urls.db_url if configured.db_url else None,
            redis_url=self.urls.redis_url if configured.redis_url else None,
            s3_url=self.urls.s3_url if configured.s3_url else None,
            say=self._say,
        )

    def _start_dispatcher(self) -> None:
        self._dispatcher = DispatcherThread(self.urls.db_url, self.urls.redis_url, self._settings)
        self._exits.callback(self._dispatcher.stop, THREAD_JOIN_SECONDS)

    def run_beside(self, services: Sequence[tuple[str, Background]]) -> None:
        """Also run services of kinds until this context ends; each is paired with the name of its kind."""
        self._background = self._exits.enter_context(closing(BackgroundServices(services, self.place)))

    def check(self) -> None:
        """Restart workers and services that have ended.

        Raises WorkerStartError or ServiceStartError if a restart fails, and DispatcherEndedError or
        BeatEndedError if the dispatcher or beat has ended.
        """
        self._dispatcher.check()
        if self._beat is not None:
            self._beat.check()
        if self._background is not None:
            self._background.check()
        if self._services is not None:
            self._services.check()
        for supervisor in self._supervisors:
            for death in supervisor.check():
                self._say(death)

    def drain(self) -> None:
        """Make the workers finish their running jobs, give back the others, and end.

        Do not call `check` after this.
        """
        for supervisor in self._supervisors:
            supervisor.drain()
        for supervisor in self._supervisors:
            supervisor.stop(meanwhile=self._keep_services)
        self._keep_services(ask=True)  # the caller reads the results next

    def _keep_services(self, *, ask: bool = False) -> None:
        """Restart services that a signal to the whole control group ended, because the drain needs them."""
        if self._services is None or not self._are_services_usable:
            return
        try:
            self._services.check(ask=ask)
        except PressroomError as error:
            self._are_services_usable = False
            self._say(f"Draining continues although a service has ended: {error}")

    @property
    def worker_pids(self) -> list[int]:
        """Return the process ids of the workers, in the order of profiles and devices."""
        return [pid for supervisor in self._supervisors for pid in supervisor.pids]
