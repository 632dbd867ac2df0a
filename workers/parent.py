"""Ties a process to the one that started it."""

from __future__ import annotations

import os
import signal
import threading
import time

POLL_SECONDS = 0.5


def drain_when_parent_dies(parent_pid: int) -> None:
    """Get SIGTERM, once, when this parent ends, however it ends, or has ended.

    Not by prctl(2)'s PR_SET_PDEATHSIG: a parent of several threads may send that more than once, and Celery's
    handler waits for itself when a second signal comes while it runs.
    """
    threading.Thread(target=_watch, args=(parent_pid,), name="parent", daemon=True).start()


def _watch(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
