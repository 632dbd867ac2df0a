"""Ties a process to the one that started it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

POLL_SECONDS = 0.5

STDIN = 0
"""The file descriptor: sys.stdin has a lock, which would be held when the process ends by itself."""


def drain_when_parent_dies(parent_pid: int) -> None:
    """Get SIGTERM, once, when this parent ends, however it ends, or has ended.

    Not by prctl(2)'s PR_SET_PDEATHSIG: a parent of several threads may send that more than once, and Celery's
    handler waits for itself when a second signal comes while it runs.
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
