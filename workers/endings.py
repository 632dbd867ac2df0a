"""Interprets the exit status of a worker process: who or what ended it."""

from __future__ import annotations

import signal

from jobs.losses import FAULT_SIGNALS, Cause, Ending
from workers.engines.watchdog import KILLED_EXIT_CODE
from workers.memory_kills import MemoryKills
from workers.process import EXIT_CUT_OFF, EXIT_NOT_STARTED

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Signals with which a person, an init system or a cluster scheduler ends a process."""


def ending_of(status: int, kills: MemoryKills, *, was_stopped: bool, stood_still: bool) -> Ending:
    """Return how a process with this exit status ended; as in subprocess, a signal is negative.

    `was_stopped`: it reported that it was draining, or this supervisor asked it to end. `stood_still`: this
    supervisor killed it because its heartbeat was lost.
    """
    number = signal.Signals(-status) if status < 0 else None
    return Ending(
        cause=_cause(status, number, kills, was_stopped=was_stopped, stood_still=stood_still),
        exit_code=status if number is None else None,
        signal=None if number is None else number.name,
    )


def _cause(
    status: int, number: signal.Signals | None, kills: MemoryKills, *, was_stopped: bool, stood_still: bool
) -> Cause:
    if was_stopped or number in STOP_SIGNALS or status in (EXIT_CUT_OFF, EXIT_NOT_STARTED):
        return Cause.STOPPED
    if stood_still:
        return Cause.HEARTBEAT_LOST
    if number in FAULT_SIGNALS:
        return Cause.FAULT_SIGNAL
    if number is not signal.SIGKILL and status != KILLED_EXIT_CODE:
        return Cause.EXIT_CODE if number is None else Cause.KILLED
    return Cause.MEMORY if kills.claim() else Cause.KILLED
