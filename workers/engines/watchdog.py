"""Ends a process whose engine step does not return: a thread cannot be killed, a lease can be lost."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable

HUNG_EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h: the supervisor can tell a hung step or a lost device from a crash."""

KILLED_EXIT_CODE = 73
"""The process that computes for this one was killed by somebody, or for want of memory."""


def end_process(exit_code: int = HUNG_EXIT_CODE) -> None:
    """Exit at once: no handler may wait for the thread that hangs."""
    os._exit(exit_code)


class StepWatchdog:
    """Times the step under way. The engine's thread calls begin() and end(), any thread the rest.

    A step that holds the interpreter lock for ever stops this thread too; then the job's leases are lost
    because no heartbeat runs.
    """

    def __init__(self, timeout_seconds: float, on_hang: Callable[[], None]) -> None:
        self._timeout_seconds = timeout_seconds
        self._on_hang = on_hang
        self._step_began_at: float | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="engine-watchdog", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """A step starts now."""
        self._step_began_at = time.monotonic()

    def end(self) -> None:
        """The step is over."""
        self._step_began_at = None

    @property
    def seconds_in_step(self) -> float:
        """How long the step under way has taken; 0 between steps."""
        began_at = self._step_began_at
        return 0.0 if began_at is None else time.monotonic() - began_at

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()

    def _watch(self) -> None:
        # A tenth of the timeout keeps the error of the measure small; a second is often enough for long ones.
        interval = min(1.0, self._timeout_seconds / 10)
        while not self._stopped.wait(interval):
            if self.seconds_in_step > self._timeout_seconds:
                self._report()
                self._on_hang()
                return

    def _report(self) -> None:
        # sys.stderr may be a logging proxy without a file descriptor; the original one is a real file.
        stream = sys.__stderr__
        if stream is not None:
            stream.write(
                f"engine step hung for more than {self._timeout_seconds:g} s; stacks of all threads:\n"
            )
            stream.flush()
            faulthandler.dump_traceback(file=stream, all_threads=True)
