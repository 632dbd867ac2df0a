"""Determines how a worker process ended, by its exit status and the kernel's out-of-memory kills."""

from __future__ import annotations

import re
import signal
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from jobs.losses import FAULT_SIGNALS, Cause, Ending
from workers.engines.request_engine import KILLED_EXIT_CODE
from workers.process import EXIT_CUT_OFF, EXIT_NOT_STARTED

CLAIM_SECONDS = 30.0
"""Time after a counted kill within which the end of a process may be attributed to it. The end of a process
with many gigabytes of memory is noticed some time after its kill was counted, but within this time."""

_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


class MemoryKills:
    """Distinguishes processes that the kernel killed to free memory from those that were killed otherwise.

    Call `look` often. Not thread-safe.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        """Find the kernel's counter of out-of-memory kills; `root` is the folder that contains /proc and
        /sys."""
        self._file = next((file for file in _files(root) if _count(file) is not None), None)
        """The counter's file, or None if the kernel has no such counter; then no kill is attributed to
        memory."""
        self._last = self._now() or 0
        self._unclaimed: deque[float] = deque()

    def look(self, now: float) -> None:
        """Record the kills since the last call; `now` is on time.monotonic()."""
        count = self._now()
        if count is not None:
            self._unclaimed.extend([now] * (count - self._last))
            self._last = count
        while self._unclaimed and self._unclaimed[0] < now - CLAIM_SECONDS:
            self._unclaimed.popleft()

    def claim(self) -> bool:
        """Claim one recent kill as the cause of a process's end; return False if none is left."""
        if self._unclaimed:
            self._unclaimed.popleft()
            return True
        return False

    def _now(self) -> int | None:
        return None if self._file is None else _count(self._file)


def _files(root: Path) -> Iterator[Path]:
    """Yield the files with the kernel's counters, most specific first: cgroup v2, v1, the whole machine."""
    groups = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        is_unified = not controllers
        if is_unified or "memory" in controllers.split(","):
            folder = groups if is_unified else groups / "memory"
            name = "memory.events" if is_unified else "memory.oom_control"
            # A container may not see its own path: then the root of the mount is its group.
            yield from (folder / path.lstrip("/") / name, folder / name)
    yield root / "proc/vmstat"


def _count(file: Path) -> int | None:
    try:
        match = _COUNT.search(file.read_text())
    except OSError:
        return None
    return None if match is None else int(match[1])


STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Signals with which a person, an init system or a cluster scheduler ends a process."""


def ending_of(status: int, kills: MemoryKills, *, was_stopped: bool, stood_still: bool) -> Ending:
    """Return how a process with this exit status ended; a negative status is a signal, as in subprocess.

    `was_stopped` means that the process reported that it was draining, or that this supervisor asked it to
    end. `stood_still` means that this supervisor killed it because its heartbeat was lost.
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
