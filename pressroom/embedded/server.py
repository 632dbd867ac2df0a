"""The interface of an embedded server, and a runner that starts, watches and stops it."""

from __future__ import annotations

import logging
import socket
import time
from pathlib import Path
from typing import Protocol

from jobs.errors import DiskFullError
from pressroom.embedded.process import Command, NotReadyError, ServerProcess, ServiceStartError

logger = logging.getLogger(__name__)

START_SECONDS = 120.0
"""Seconds within which a server must answer.

A normal start takes a second, but recovery after a kill first reads the server's log.
"""
MAX_PORT_TRIES = 5
"""Number of attempts to find a free port.

Another program may take a port between its choice and its use, but hardly five times in a row by chance.
"""
ENDING_SECONDS = 3.0
"""Seconds to wait for an unresponsive server to recover or to end before it is stopped."""
FIRST_POLL_SECONDS = 0.02
MAX_POLL_SECONDS = 0.3
"""Longest interval between two probes, in seconds.

The interval grows to this value, because each probe adds a line to the log of a recovering server.
"""


class EmbeddedServer(Protocol):
    """One of Valkey, Postgres and S3, with its data, its command line and its address."""

    @property
    def name(self) -> str: ...

    def prepare(self) -> None:
        """Create the data folder, or clean up after a kill. No server may be running on it."""
        ...

    def command(self, port: int) -> Command: ...

    def probe(self, port: int) -> None:
        """Raise NotReadyError until the server accepts our password; ServiceStartError if it never will."""
        ...

    def is_ending(self) -> bool:
        """Return whether the server is shutting down: it still runs, but refuses connections."""
        ...

    def url(self, port: int) -> str:
        """Return the URL for PRESSROOM_*_URL; it contains the password."""
        ...


class ServerRunner:
    """Runs one server on one port. Main thread only."""

    def __init__(self, server: EmbeddedServer, log_path: Path, *, port: int | None) -> None:
        """Use `port`, where the server ran last time, if it is still free, and otherwise any free port."""
        self._server = server
        self._log_path = log_path
        self.port = port if port is not None and _is_free(port) else _free_port()
        self._process: ServerProcess | None = None

    @property
    def name(self) -> str:
        return self._server.name

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def url(self) -> str:
        return self._server.url(self.port)

    def spawn(self) -> None:
        """Start the server without waiting for it to answer."""
        self._server.prepare()
        self._process = ServerProcess(self._server.command(self.port), self._log_path)

    def wait_until_ready(self, *, keep_port: bool = False) -> None:
        """Wait until the server answers.

        If its port was taken in the meantime, another one is chosen; with `keep_port`, the server is instead
        started again until the port is free. Raises ServiceStartError or DiskFullError with the tail of the
        log.
        """
        deadline = time.monotonic() + START_SECONDS
        num_tries, wait_seconds = 1, FIRST_POLL_SECONDS
        while (reason := self._reason_not_ready()) is not None:
            if time.monotonic() > deadline:
                raise self._error(f"did not answer within {START_SECONDS:.0f} s ({reason})")
            if self._has_ended():
                if not self._lost_port() or (num_tries >= MAX_PORT_TRIES and not keep_port):
                    raise self._error("ended while starting")
                num_tries += 1
                if not keep_port:
                    self.port = _free_port()
                self.spawn()
            time.sleep(wait_seconds)
            wait_seconds = min(wait_seconds * 1.5, MAX_POLL_SECONDS)

    def restart_if_ended(self) -> bool:
        """Restart the server if it has ended or is ending, on the same port and data.

        Return whether it was restarted.
        """
        if not self._has_ended():
            if not self._server.is_ending():
                return False
            self.stop()
        logger.warning(
            "An embedded service ended; it will be restarted.",
            extra={"action": "service_restarted", "service": self.name, "port": self.port, "pid": self.pid},
        )
        self.spawn()
        self.wait_until_ready(keep_port=True)
        return True

    def restart_unless_serving(self) -> bool:
        """Restart the server if it has ended, or if it runs but does not answer.

        Return whether the server was restarted.

        For example, a Postgres that is shutting down waits for its sessions and accepts no new ones.
        """
        deadline = time.monotonic() + ENDING_SECONDS
        while not self._has_ended() and self._reason_not_ready() is not None:
            if time.monotonic() > deadline:
                self.stop()
            time.sleep(FIRST_POLL_SECONDS)
        return self.restart_if_ended()

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def _has_ended(self) -> bool:
        return self._process is None or not self._process.is_running

    def _reason_not_ready(self) -> str | None:
        """Return why the server does not answer, or None if it does.

        The process is checked again after the probe, because another program may have answered on the port.
        """
        ended = "its process has ended"
        if self._has_ended():
            return ended
        try:
            self._server.probe(self.port)
        except NotReadyError as error:
            return str(error)
        return ended if self._has_ended() else None

    def _lost_port(self) -> bool:
        """Return whether the log reports that the port was taken; all three servers word EADDRINUSE alike."""
        return "address already in use" in self._tail().lower()

    def _tail(self) -> str:
        return self._process.log_tail() if self._process is not None else ""

    def _error(self, what: str) -> ServiceStartError | DiskFullError:
        tail = self._tail()
        self.stop()
        if "no space left on device" in tail.lower():
            return DiskFullError(
                f"{self.name} {what}: the disk is full. Free some space, or set PRESSROOM_HOME to a folder "
                f"on another disk. End of {self._log_path}:\n{tail}"
            )
        return ServiceStartError(f"{self.name} {what}. End of {self._log_path}:\n{tail}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # The servers set this option as well, so that closing connections of the last run block no port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
