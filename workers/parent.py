"""Ties a process to the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""prctl(2)."""


def drain_when_parent_dies(parent_pid: int) -> None:
    """Get SIGTERM when this parent ends, however it ends, or has ended; Linux only, no error elsewhere.

    The signal is tied to the parent's thread that started this process: start workers from the main thread.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:  # it ended before the signal was asked for
        os.kill(os.getpid(), signal.SIGTERM)
