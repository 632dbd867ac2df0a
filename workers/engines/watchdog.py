"""Ends a process whose engine step does not return: a thread cannot be killed, but a lease can be lost."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable

HUNG_EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h. The supervisor can tell a hung step or a lost device from a crash."""

KILLED_EXIT_CODE = 73
"""Exit code when the process that computes for this one was killed by somebody, or for lack of memory."""


def end_process(exit_code: int = HUNG_EXIT_CODE) -> None:
    """Exit at once, because no handler may wait for the thread that hangs."""
    os._exit(exit_code)


class StepWatchdog:
    """Times the current step. The engine's thread calls begin() and end(), any thread the rest.

    A step that holds the interpreter lock forever stops this thread, too; then the job's leases are lost
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
        """Record that a step starts now."""
        self._step_began_at = time.monotonic()

    def end(self) -> None:
        """Record that the step is over."""
        self._step_began_at = None

    @property
    def seconds_in_step(self) -> float:
        """Return the duration of the current step so far; 0 between steps."""
        began_at = self._step_began_at
        return 0.0 if began_at is None else time.monotonic() - began_at

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()

    def _watch(self) -> None:
        # A tenth of the timeout keeps the error small; for long timeouts, once a second is often enough.
        interval = min(1.0, self._timeout_seconds / 10)
        while not self._stopped.wait(interval):
            if self.seconds_in_step > self._timeout_seconds:
                self._report()
                self._on_hang()
                return

    def _report(self) -> None:
        # sys.stderr may be a logging proxy without a file descriptor; the original is a real file.
        stream = sys.__stderr__
        if stream is not None:
            stream.write(
                f"engine step hung for more than {self._timeout_seconds:g} s; stacks of all threads:\n"
            )
            stream.flush()
            faulthandler.dump_traceback(file=stream, all_threads=True)
