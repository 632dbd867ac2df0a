"""One worker process for each device: pinned, started, restarted when it dies, drained on request."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from jobs.errors import ConfigurationError
from workers.devices import Device, threads_for
from workers.process import EXIT_NOT_STARTED
from workers.settings import Profile, Settings

logger = logging.getLogger(__name__)

CELERY_THREADS = 2
"""Messages whose jobs wait for a place: one being claimed, one behind it."""

RESTART_SECONDS = (0.0, 1.0, 5.0, 15.0, 60.0)
"""Wait before the first, second, ... restart in a row; the last one from then on."""

STABLE_SECONDS = 120.0
"""A worker that lived this long is not crashing in a row."""

KILL_GRACE_SECONDS = 15.0
"""Beyond the drain, to commit, release and close; then the process is killed and the leases recover."""

LOG_TAIL_BYTES = 2_000


class WorkerStartError(ConfigurationError):
    """A worker said that it cannot start; starting it again would not help."""

    code = "worker_cannot_start"


@dataclass(slots=True)
class _Worker:
    device: Device
    log_path: Path
    process: subprocess.Popen[bytes]
    worker_id: str
    started_at: float
    num_deaths: int = 0
    restart_at: float | None = field(default=None)


class Supervisor:
    """Owns the worker processes. Not thread-safe: one loop calls `check` about every half second."""

    def __init__(
        self, settings: Settings, devices: Sequence[Device], *, profile: str, environment: Mapping[str, str]
    ) -> None:
        """`environment` is added to this process's own: the URLs of the services."""
        self._settings = settings
        self._profile = profile
        threads = settings.num_threads or threads_for(devices, len(os.sched_getaffinity(0)))
        self._environment = {
            **os.environ,
            "PRESSROOM_NUM_THREADS": str(threads),
            "OMP_NUM_THREADS": str(threads),
            **environment,
            "PRESSROOM_PROFILES": _as_json(settings.profiles),  # a command may have one of its own
            "PRESSROOM_WORKER_PROFILE": profile,
            "PRESSROOM_SUPERVISOR_PID": str(os.getpid()),
        }
        self._logs = settings.home / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._workers = [self._spawn(device) for device in devices]

    @property
    def worker_ids(self) -> list[str]:
        """Of the processes as they are now; a restarted worker has a new id."""
        return [worker.worker_id for worker in self._workers]

    @property
    def pids(self) -> list[int]:
        """Process ids, in the order of the devices."""
        return [worker.process.pid for worker in self._workers]

    def _spawn(self, device: Device) -> _Worker:
        worker_id = f"{socket.gethostname()}-{device.name.replace(':', '')}-{uuid4().hex[:8]}"
        log_path = self._logs / f"worker-{self._profile}-{device.name.replace(':', '')}.log"
        command = [
            *(sys.executable, "-m", "celery", "-A", "workers.celery", "worker"),
            *("--pool=threads", f"--concurrency={CELERY_THREADS}", f"--queues={self._profile}"),
            *(f"--hostname={worker_id}", f"--loglevel={self._settings.log_level}"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**self._environment, **device.environment(), "PRESSROOM_WORKER_ID": worker_id},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the supervisor, which drains
            )
        logger.info("A worker was started.", extra={"device": device.name, "pid": process.pid})
        return _Worker(device, log_path, process, worker_id, time.monotonic())

    def check(self) -> list[str]:
        """Restart what has died, after a wait that grows; return a line about each death.

        Raises WorkerStartError when a worker says that starting it again would not help.
        """
        deaths = []
        for index, worker in enumerate(self._workers):
            code = worker.process.poll()
            if code is None:
                continue
            if code == EXIT_NOT_STARTED:
                raise WorkerStartError(
                    f"the worker on {worker.device.name} cannot start; {worker.log_path} ends with:\n"
                    f"{_tail(worker.log_path)}"
                )
            if worker.restart_at is None:
                deaths.append(self._plan_restart(worker, code))
            elif time.monotonic() >= worker.restart_at:
                restarted = self._spawn(worker.device)
                restarted.num_deaths = worker.num_deaths
                self._workers[index] = restarted
        return deaths

    def _plan_restart(self, worker: _Worker, code: int) -> str:
        lived = time.monotonic() - worker.started_at
        worker.num_deaths = 1 if lived > STABLE_SECONDS else worker.num_deaths + 1
        wait = RESTART_SECONDS[min(worker.num_deaths, len(RESTART_SECONDS)) - 1]
        worker.restart_at = time.monotonic() + wait
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return (
            f"The worker on {worker.device.name} ended ({how}); it is started again"
            f"{f' in {wait:.0f} s' if wait else ''}. Its log: {worker.log_path}"
        )

    def drain(self) -> None:
        """Ask every worker to finish what it has begun; `stop` waits for them."""
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.terminate()

    def stop(self, timeout_seconds: float | None = None) -> None:
        """Drain, wait, and kill what is left: the leases of what a killed worker held run out."""
        self.drain()
        seconds = self._settings.drain_seconds + KILL_GRACE_SECONDS
        until = time.monotonic() + (seconds if timeout_seconds is None else timeout_seconds)
        for worker in self._workers:
            try:
                worker.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.warning("A worker did not drain in time.", extra={"device": worker.device.name})
                worker.process.kill()
                worker.process.wait()


def _tail(path: Path) -> str:
    with path.open("rb") as log:
        log.seek(0, os.SEEK_END)
        log.seek(max(0, log.tell() - LOG_TAIL_BYTES))
        return log.read().decode(errors="replace")


def _as_json(profiles: Mapping[str, Profile]) -> str:
    return json.dumps({name: profile.model_dump(mode="json") for name, profile in profiles.items()})
