"""CPU time of a worker by the steps of a job, measured in the worker process by timers around its functions.

The benchmark's kind starts the timers when a worker warms up, if COSTS_VARIABLE names a file. After each
commit they write their sums to that file, where the benchmark reads them when the worker has stopped.
"""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

COSTS_VARIABLE = "PRESSROOM_BENCH_COSTS"
"""Environment variable with the path of the file to which a worker writes its costs."""

STEPS: Mapping[str, tuple[str, ...]] = {
    "claim": ("db.leases:claim",),
    "run": ("workers.runner:run_attempt",),
    "provenance": ("workers.publisher:Publisher.prepare",),
    "canonical_json": ("jobs.provenance:dumps_canonical",),
    "pack": ("workers.publisher:Publisher.store_pack",),
    "upload": ("workers.publisher:Publisher._put",),
    "commit": ("workers.committer:commit", "workers.runner:close_stages"),
}
"""The functions of each step, as callers look them up. The time of a function excludes that of other steps
that it calls."""

MESSAGE_THREADS = ("MainThread", "ThreadPoolExecutor")
"""Prefixes of the names of Celery's threads, which receive messages. Claims are made in them, too."""

MESSAGE, REST = "message", "rest"
"""Steps without a function: the other work of Celery's threads, and what no step contains, such as the
hand-over of jobs between threads, the renewal of leases and the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a worker has spent on jobs since its first claim."""

    num_jobs: int
    """Number of jobs that have run."""
    seconds: Mapping[str, float]
    """CPU seconds of each step."""

    def microseconds(self) -> dict[str, float]:
        """Return the CPU time of each step in microseconds per job."""
        return {step: round(1e6 * seconds / self.num_jobs, 1) for step, seconds in self.seconds.items()}

    @classmethod
    def read(cls, path: Path) -> Costs:
        """Read the file that a worker has written."""
        return cls(**json.loads(path.read_text()))


class Timers:
    """Timers around the functions of STEPS. Any thread may call these functions."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._local = threading.local()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._num_calls: defaultdict[str, int] = defaultdict(int)
        self._celery_seconds = 0.0
        """CPU seconds that Celery's threads spent in steps."""
        self._begun: tuple[float, dict[int, float]] | None = None
        """CPU seconds of the process, and of each of Celery's threads by its id, at the first claim."""

    def start(self) -> None:
        """Replace each function by one that measures it."""
        for step, targets in STEPS.items():
            for target in targets:
                holder_name, _, attribute = target.replace(":", ".").rpartition(".")
                holder = resolve_name(holder_name)
                setattr(holder, attribute, self._timed(step, getattr(holder, attribute)))

    def _timed(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            if self._begun is None:
                self._begin()
            outer, self._local.inner = getattr(self._local, "inner", 0.0), 0.0
            begun_at = time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                seconds = time.thread_time() - begun_at
                self._add(step, seconds - self._local.inner)
                self._local.inner = outer + seconds
                if step == "commit":
                    self._write()

        return timed

    def _begin(self) -> None:
        with self._lock:
            if self._begun is None:
                self._begun = time.process_time(), _celery_seconds()

    def _add(self, step: str, seconds: float) -> None:
        is_celery = threading.current_thread().name.startswith(MESSAGE_THREADS)
        with self._lock:
            self._seconds[step] += seconds
            self._num_calls[step] += 1
            if is_celery:
                self._celery_seconds += seconds

    def _write(self) -> None:
        with self._lock:
            if self._begun is None:
                return
            process_seconds, threads = self._begun
            celery_seconds = sum(
                seconds - threads.get(ident, 0.0) for ident, seconds in _celery_seconds().items()
            )
            seconds = {step: self._seconds[step] for step in STEPS}
            seconds[MESSAGE] = celery_seconds - self._celery_seconds
            seconds[REST] = time.process_time() - process_seconds - sum(seconds.values())
            costs = Costs(num_jobs=self._num_calls["run"], seconds=seconds)
            written = self._path.with_suffix(".new")
            written.write_text(json.dumps(asdict(costs)))
            written.replace(self._path)  # so that no reader sees half of a file


def _celery_seconds() -> dict[int, float]:
    """Return the CPU seconds of each of Celery's threads by its id."""
    return {
        thread.ident: time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
        for thread in threading.enumerate()
        if thread.ident is not None and thread.name.startswith(MESSAGE_THREADS)
    }


def start_timers() -> None:
    """Start the timers in a worker process if COSTS_VARIABLE is set."""
    if path := os.environ.get(COSTS_VARIABLE):
        Timers(Path(path)).start()
