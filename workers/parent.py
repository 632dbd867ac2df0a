"""Ties a process to the process that started it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

POLL_SECONDS = 0.5

STDIN = 0
"""The file descriptor. sys.stdin has a lock, which would still be held at the end of the process."""


def drain_when_parent_dies(parent_pid: int) -> None:
    """Send SIGTERM to this process, once, when this parent ends or has already ended, however it ended.

    prctl(2)'s PR_SET_PDEATHSIG is not used: a parent with several threads may send that more than once, and
    Celery's handler deadlocks on itself when a second signal arrives while it runs.
    """
    threading.Thread(target=_watch, args=(parent_pid,), name="parent", daemon=True).start()


def exit_when_stdin_closes(exit_code: int, before: Callable[[], None] | None = None) -> None:
    """End the process at once when its stdin closes: the parent keeps the other end open while it lives.

    `before` is called first, in the watching thread.
    """
    threading.Thread(target=_read_to_end, args=(exit_code, before), name="parent", daemon=True).start()


def _read_to_end(exit_code: int, before: Callable[[], None] | None) -> None:
    while os.read(STDIN, 1024):
        pass
    if before is not None:
        before()
    os._exit(exit_code)


def _watch(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
