"""How often the kernel has killed a process for want of memory: by its count for this cgroup, or for all."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path

CLAIM_SECONDS = 30.0
"""The end of a process with many gigabytes is seen some time after its kill was counted, but not later."""

_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


class MemoryKills:
    """Tells a process that the kernel killed from one that somebody killed: `look` often. Not thread-safe."""

    def __init__(self, root: Path = Path("/")) -> None:
        """`root` is where /proc and /sys are."""
        self._file = next((file for file in _files(root) if _count(file) is not None), None)
        """None where the kernel tells nothing: then no kill is explained by memory."""
        self._last = self._now() or 0
        self._unclaimed: deque[float] = deque()

    def look(self, now: float) -> None:
        """Note the kills since the last call; `now` is on time.monotonic()."""
        count = self._now()
        if count is not None:
            self._unclaimed.extend([now] * (count - self._last))
            self._last = count
        while self._unclaimed and self._unclaimed[0] < now - CLAIM_SECONDS:
            self._unclaimed.popleft()

    def claim(self) -> bool:
        """Whether a recent kill explains the end of one process more."""
        if self._unclaimed:
            self._unclaimed.popleft()
            return True
        return False

    def _now(self) -> int | None:
        return None if self._file is None else _count(self._file)


def _files(root: Path) -> Iterator[Path]:
    """Where the kernel counts, the most specific one first: cgroup v2, v1, the whole machine."""
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
            # A container may not see its own path: there, the root of the mount is its group.
            yield from (folder / path.lstrip("/") / name, folder / name)
    yield root / "proc/vmstat"


def _count(file: Path) -> int | None:
    try:
        match = _COUNT.search(file.read_text())
    except OSError:
        return None
    return None if match is None else int(match[1])
