"""Services of kinds that run alongside the commands `pressroom beat`, `pressroom up` and `pressroom run`."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from jobs.errors import PressroomError
from jobs.kind import Background, Kind
from jobs.registry import load_kinds, load_target
from workers.settings import Settings

logger = logging.getLogger(__name__)

BEAT = "beat"
UP = "up"
RUN = "run"

RESTART_SECONDS = 30.0
"""Seconds to wait before a service that ended, or failed to start, is started again."""


class BackgroundEndedError(PressroomError):
    """A service of a kind has crashed; it will be restarted."""

    code = "background_ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundPlace:
    """The URLs and settings that a service may use in the process where it runs."""

    db_url: str = field(repr=False)
    redis_url: str | None = field(repr=False)
    s3_url: str | None = field(repr=False)
    """URL of the store. Under `beat`, which itself needs only the database, this URL and `redis_url` are None
    unless the environment sets them; under `up` and `run`, all three URLs are set."""
    settings: Settings


class BackgroundService(Protocol):
    """A running service of a kind."""

    def check(self) -> None:
        """Check that the service still runs; called about once a second. Raises an error if the service has
        ended."""
        ...


BackgroundOpener = Callable[[BackgroundPlace], AbstractContextManager[BackgroundService]]
"""Starts a service; leaving the context stops it. The context is entered and left in one thread."""


@dataclass(slots=True)
class _Entry:
    """A service that should run, and its current state."""

    kind: str
    background: Background
    stack: ExitStack = field(default_factory=ExitStack)
    service: BackgroundService | None = None
    start_at: float = 0.0
    """Earliest time at which the service may start, on time.monotonic()."""


class BackgroundServices:
    """All services of kinds that run alongside one command.

    A service that fails is logged and started again later. Call `check` about once a second and `close` at
    the end, all from one thread; the first `check` starts the services.
    """

    def __init__(self, services: Sequence[tuple[str, Background]], place: BackgroundPlace) -> None:
        """Prepare the services. `services` pairs the name of each service's kind with the service."""
        self._entries = [_Entry(kind, background) for kind, background in services]
        self._place = place

    def check(self) -> None:
        """Start the services that are due, and notice those that have ended."""
        for entry in self._entries:
            if entry.service is None:
                if time.monotonic() >= entry.start_at:
                    self._start(entry)
                continue
            try:
                entry.service.check()
            except Exception as error:  # noqa: BLE001 - a kind must not end the command
                self._note(entry, "A kind's background service has ended.", error)
                self._close(entry)

    def close(self) -> None:
        """Stop the services; a second call does nothing."""
        for entry in reversed(self._entries):
            entry.start_at = math.inf
            self._close(entry)

    def _start(self, entry: _Entry) -> None:
        try:
            opener: BackgroundOpener = load_target(entry.background.target)
            entry.service = entry.stack.enter_context(opener(self._place))
        except Exception as error:  # noqa: BLE001 - a kind must not end the command
            self._note(entry, "A kind's background service cannot be started.", error)

    def _note(self, entry: _Entry, sentence: str, error: Exception) -> None:
        """Log an error, and postpone the next start.

        Errors that are not PressroomError are faults, whose traceback is needed.
        """
        entry.start_at = max(entry.start_at, time.monotonic() + RESTART_SECONDS)
        logger.warning(
            sentence,
            exc_info=not isinstance(error, PressroomError),
            extra={"kind": entry.kind, "service": entry.background.name, "reason": str(error)},
        )

    def _close(self, entry: _Entry) -> None:
        entry.service = None
        try:
            entry.stack.close()
        except Exception as error:  # noqa: BLE001 - a kind must not end the command
            self._note(entry, "A kind's background service did not stop cleanly.", error)


def services_under(command: str) -> list[tuple[str, Background]]:
    """Return the services of all installed kinds for this command, each with the name of its kind."""
    return [service for kind in load_kinds().values() for service in services_of(kind, command)]


def services_of(kind: Kind[Any], command: str) -> list[tuple[str, Background]]:
    """Return the services of one kind for this command, each with the kind's name."""
    return [(kind.name, background) for background in kind.background if command in background.under]


class BackgroundThread:
    """A service that consists of one thread, which ends when an event is set."""

    def __init__(self, name: str, run: Callable[[threading.Event], None]) -> None:
        self._name = name
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=run, args=(self._stopping,), name=name, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise BackgroundEndedError if the thread has crashed."""
        if not self._thread.is_alive():
            raise BackgroundEndedError(f"the thread {self._name!r} ended because of the error above")

    def stop(self, timeout_seconds: float) -> None:
        """Ask the thread to end, and wait at most `timeout_seconds`; a thread that hangs ends with the
        process."""
        self._stopping.set()
        self._thread.join(timeout_seconds)


@contextmanager
def background_thread(
    name: str, run: Callable[[threading.Event], None], *, join_seconds: float
) -> Iterator[BackgroundThread]:
    """Run a thread for the duration of the block."""
    thread = BackgroundThread(name, run)
    try:
        yield thread
    finally:
        thread.stop(join_seconds)
