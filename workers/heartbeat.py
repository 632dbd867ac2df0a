"""Reports of a worker process to its supervisor: a heartbeat in a pipe, and a file if the worker cannot
start.

A Python thread sends the heartbeat: when something holds the interpreter's lock, such as a regular expression
that backtracks, the heartbeat stops together with the thread that renews the leases.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.errors import PressroomError

BEAT_SECONDS = 1.0

MAX_GAP_SECONDS = 1.0
"""Longest time between two checks that counts as silence. In any time beyond this, the supervisor itself was
not running, for example because the machine was suspended, so that time is no evidence about the worker."""

DUMP_SIGNAL = signal.SIGUSR2
"""Signal that makes a worker write the stacks of all its threads to its log. Celery uses SIGUSR1."""

STDERR = 2
"""File descriptor of stderr. sys.stderr is not used, because Celery replaces it with a logger."""

_BEAT, _READY, _DRAINING = b"beat", b"ready", b"draining"

_READ_BYTES = 65_536


class Pulse:
    """The worker's end of the pipe. Any thread and any signal handler may call it."""

    def __init__(self, descriptor: int | None) -> None:
        """Start the heartbeat; a worker without a supervisor has no `descriptor` and sends no heartbeat."""
        self._descriptor = descriptor
        faulthandler.enable(STDERR)  # a crash leaves its stack in the log
        faulthandler.register(DUMP_SIGNAL, file=STDERR, all_threads=True)
        if descriptor is not None:
            os.set_blocking(descriptor, False)
            os.set_inheritable(descriptor, False)
            threading.Thread(target=self._beat, name="pulse", daemon=True).start()

    def _beat(self) -> None:
        self._write(b"%s %d" % (_BEAT, threading.get_native_id()))
        stopped = threading.Event()
        while not stopped.wait(BEAT_SECONDS):
            self._write(_BEAT)

    def ready(self) -> None:
        """Report that the worker takes jobs from now on, so that a missing heartbeat counts as silence."""
        self._write(_READY)

    def draining(self) -> None:
        """Report that the process was asked to end: however it ends, no job is to blame."""
        self._write(_DRAINING)

    def _write(self, word: bytes) -> None:
        if self._descriptor is not None:
            with suppress(OSError):  # the supervisor is gone, or has not read for hours
                os.write(self._descriptor, word + b"\n")


class PulseWatch:
    """The supervisor's end of the pipe. Call `look` about twice a second. Not thread-safe."""

    def __init__(self) -> None:
        self._reader, self.descriptor = os.pipe()
        """File descriptor of the worker's end. Close it here with `release` once the worker has it."""
        os.set_blocking(self._reader, False)
        self._rest = b""
        self._thread_id: int | None = None
        self._looked_at: float | None = None
        self.is_ready = False
        self.is_draining = False
        self.silent_seconds = 0.0
        """Time during which the worker could have sent a heartbeat but did not."""

    def release(self) -> None:
        """Close this process's copy of the pipe's write end, so that the worker's exit is noticed."""
        os.close(self.descriptor)

    def close(self) -> None:
        os.close(self._reader)

    def look(self, pid: int, now: float) -> None:
        """Read the reports that have arrived; `now` is on time.monotonic()."""
        elapsed = 0.0 if self._looked_at is None else min(now - self._looked_at, MAX_GAP_SECONDS)
        self._looked_at = now
        if self._read() or not self.is_ready:
            self.silent_seconds = 0.0
        elif self._is_held(pid):
            self.silent_seconds += elapsed

    def _read(self) -> bool:
        """Return whether a sign of life arrived, or none can arrive because the worker has closed its end."""
        try:
            received = os.read(self._reader, _READ_BYTES)
        except BlockingIOError:
            return False
        *words, self._rest = (self._rest + received).split(b"\n")
        for word in words:
            name, _, number = word.partition(b" ")
            self.is_ready |= name == _READY
            self.is_draining |= name == _DRAINING
            if number:
                self._thread_id = int(number)
        return True

    def _is_held(self, pid: int) -> bool:
        """Return whether the heartbeat is late because its thread waits for the interpreter's lock.

        A thread that waits for a processor (R) or for a page (D) is on an overloaded machine, and one that is
        stopped (T, t) was stopped from outside: neither is evidence about a job. Without /proc, every late
        heartbeat counts.
        """
        try:
            status = Path(f"/proc/{pid}/task/{self._thread_id}/stat").read_text()
        except OSError:
            return not Path("/proc/self/stat").exists()
        return status.rpartition(")")[2].split()[0] == "S"


logger = logging.getLogger(__name__)


class StartReport(BaseModel):
    """The error that prevented a worker from starting."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.reason} [{self.code}]"


def report_failure(path: Path | None, error: PressroomError) -> None:
    """Write why the start failed. Without a path, there is no supervisor to read it."""
    if path is None:
        return
    try:
        path.write_text(StartReport(code=error.code, reason=str(error)).model_dump_json(), encoding="utf-8")
    except OSError:
        logger.warning(
            "The reason for the failed start could not be written for the supervisor.", exc_info=True
        )


def take_report(path: Path) -> StartReport | None:
    """Return and delete the report of a process that has ended; None if there is none."""
    try:
        return StartReport.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    finally:
        path.unlink(missing_ok=True)
