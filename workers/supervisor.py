"""Runs one worker process per device: pins, watches and restarts it, and drains it on request."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Engine as Database
from sqlalchemy.exc import SQLAlchemyError

from db.session import open_database
from db.workers import mark_ended
from jobs.errors import ConfigurationError
from jobs.losses import Ending
from workers.devices import Device, threads_for
from workers.endings import MemoryKills, ending_of
from workers.heartbeat import DUMP_SIGNAL, PulseWatch, StartReport, take_report
from workers.process import EXIT_NOT_STARTED, EXIT_START_FAILED
from workers.settings import Profile, Settings

logger = logging.getLogger(__name__)

CELERY_THREADS = 2
"""Celery threads per worker. Each holds one message: the jobs of one are being claimed while the other waits.
"""

RESTART_SECONDS = (0.0, 1.0, 5.0, 15.0, 60.0)
"""Waits before the first, second, ... consecutive restart; the last value applies to all further restarts."""

STABLE_SECONDS = 120.0
"""Lifetime after which a worker's next death no longer counts as consecutive."""

DRAIN_POLL_SECONDS = 0.05
"""Interval between two checks of draining workers."""

KILL_GRACE_SECONDS = 15.0
"""Time that a worker has after the drain to commit, give back jobs and close. Then the process is killed, and
its leases expire."""

MAX_START_CRASHES = 3
"""Number of crashes on a device, none of whose workers was ever ready, after which no start is attempted."""

LOG_TAIL_BYTES = 2_000

MIN_SILENCE_SECONDS = 5.0
"""Minimum time without a heartbeat before a worker is killed. The limit is two thirds of a lease, because the
leases will soon be lost by then, but never less than this."""

DUMP_SECONDS = 1.5
"""Time for a silent worker to write its stacks. It is then killed, unless its heartbeat has resumed.
"""

RECORD_SECONDS = 2.0
"""Interval between two attempts to record in Postgres how a worker ended."""


class WorkerStartError(ConfigurationError):
    """A worker cannot start, and starting it again would not help."""

    code = "worker_cannot_start"


@dataclass(slots=True)
class _Worker:
    device: Device
    log_path: Path
    process: subprocess.Popen[bytes]
    worker_id: str
    started_at: float
    pulse: PulseWatch
    num_deaths: int = 0
    dump_at: float | None = None
    """Instant, on time.monotonic(), at which a silent worker was signalled to write its stacks."""
    stood_still: bool = False
    """Whether the worker was killed because its heartbeat was lost."""
    has_ended: bool = False
    """Whether the end of the process has been recorded."""
    has_served: bool = False
    """Whether a worker on this device has ever been ready."""
    restart_at: float | None = field(default=None)


class _EndingLedger:
    """Records in Postgres how workers ended, and retries while Postgres is unavailable. Not thread-safe."""

    def __init__(self, db_url: str) -> None:
        self._db_url = db_url
        self._database: Database | None = None
        self._pending: dict[str, Ending] = {}
        self._retry_at = 0.0

    def record(self, worker_id: str, ending: Ending) -> int:
        """Record the ending and return how many jobs the worker held, or 0 if Postgres is unavailable."""
        self._pending[worker_id] = ending
        self._retry_at = 0.0
        return self.retry().get(worker_id, 0)

    def retry(self) -> dict[str, int]:
        """Record the endings that are still pending; return how many jobs each worker held."""
        numbers: dict[str, int] = {}
        if not self._pending or time.monotonic() < self._retry_at:
            return numbers
        try:
            if self._database is None:
                self._database = open_database(
                    self._db_url, pool_size=1, application_name="pressroom-supervisor"
                )
            for worker_id, ending in list(self._pending.items()):
                numbers[worker_id] = mark_ended(self._database, worker_id, ending)
                del self._pending[worker_id]
        except SQLAlchemyError:
            self._retry_at = time.monotonic() + RECORD_SECONDS
            logger.warning(
                "The end of a worker could not be recorded in Postgres; recording it will be retried."
            )
        return numbers

    def close(self) -> None:
        if self._database is not None:
            self._database.dispose()


class Supervisor:
    """Owns the worker processes. Not thread-safe: one loop calls `check` about every half second."""

    def __init__(
        self, settings: Settings, devices: Sequence[Device], *, profile: str, environment: Mapping[str, str]
    ) -> None:
        """Start one worker per device.

        `environment` is added to this process's environment; it contains the URLs of the services.
        """
        self._settings = settings
        self._profile = profile
        threads = settings.num_threads or threads_for(devices, len(os.sched_getaffinity(0)))
        self._environment = {
            **os.environ,
            "PRESSROOM_NUM_THREADS": str(threads),
            "OMP_NUM_THREADS": str(threads),
            **environment,
            "PRESSROOM_PROFILES": _as_json(settings.profiles),  # a command may have a profile of its own
            "PRESSROOM_WORKER_PROFILE": profile,
            "PRESSROOM_SUPERVISOR_PID": str(os.getpid()),
        }
        self._ledger = _EndingLedger(self._environment.get("PRESSROOM_DB_URL") or settings.require_db_url())
        self._kills = MemoryKills()
        self._max_silence_seconds = max(settings.lease_seconds * 2 / 3, MIN_SILENCE_SECONDS)
        self._is_draining = False
        self._logs = settings.home / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._workers = [self._spawn(device) for device in devices]

    @property
    def worker_ids(self) -> list[str]:
        """Return the ids of the current processes; a restarted worker has a new id."""
        return [worker.worker_id for worker in self._workers]

    @property
    def pids(self) -> list[int]:
        """Return the process ids in the order of the devices."""
        return [worker.process.pid for worker in self._workers]

    @property
    def log_paths(self) -> list[Path]:
        """Return the log file of each device's worker, in the order of the devices."""
        return [worker.log_path for worker in self._workers]

    def _spawn(self, device: Device) -> _Worker:
        worker_id = f"{socket.gethostname()}-{device.name.replace(':', '')}-{uuid4().hex[:8]}"
        log_path = self._logs / f"worker-{self._profile}-{device.name.replace(':', '')}.log"
        command = [
            *(sys.executable, "-m", "celery", "-A", "workers.celery", "worker"),
            *("--pool=threads", f"--concurrency={CELERY_THREADS}", f"--queues={self._profile}"),
            *(f"--hostname={worker_id}", f"--loglevel={self._settings.log_level}"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]
        pulse = PulseWatch()
        own = {
            "PRESSROOM_WORKER_ID": worker_id,
            "PRESSROOM_START_REPORT": str(self._start_report(worker_id).absolute()),
            "PRESSROOM_HEARTBEAT_DESCRIPTOR": str(pulse.descriptor),
        }
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**self._environment, **device.environment(), **own},
                pass_fds=[pulse.descriptor],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the supervisor, which then drains its workers
            )
        pulse.release()
        logger.info("A worker was started.", extra={"device": device.name, "pid": process.pid})
        return _Worker(device, log_path, process, worker_id, time.monotonic(), pulse)

    def check(self) -> list[str]:
        """Restart workers that have died, after a growing wait; return one line about each death.

        Also kills workers whose heartbeat was lost. Raises WorkerStartError when a worker cannot start and
        starting it again would not help.
        """
        deaths = []
        self._kills.look(time.monotonic())
        self._ledger.retry()
        for index, worker in enumerate(self._workers):
            worker.pulse.look(worker.process.pid, time.monotonic())
            code = worker.process.poll()
            if code is None:
                self._end_if_still(worker)
                continue
            if worker.restart_at is None:
                deaths.append(self._plan_restart(worker, code))
            elif time.monotonic() >= worker.restart_at:
                worker.pulse.close()
                restarted = self._spawn(worker.device)
                restarted.num_deaths = worker.num_deaths
                restarted.has_served = worker.has_served
                self._workers[index] = restarted
        return deaths

    def _end_if_still(self, worker: _Worker) -> None:
        """Make a silent worker write its stacks, then kill it, because its leases are being lost."""
        if worker.pulse.silent_seconds < self._max_silence_seconds:
            worker.dump_at = None
        elif worker.dump_at is None:
            worker.dump_at = time.monotonic()
            with worker.log_path.open("a") as log:
                log.write(
                    f"no sign of life for {worker.pulse.silent_seconds:.0f} s; the worker will be killed. "
                    "Stacks of all threads:\n"
                )
            worker.process.send_signal(DUMP_SIGNAL)
        elif time.monotonic() - worker.dump_at >= DUMP_SECONDS and not worker.stood_still:
            worker.stood_still = True
            worker.process.kill()

    def _note_end(self, worker: _Worker, code: int) -> tuple[Ending, int]:
        """Record how the worker ended, as evidence about its jobs.

        Returns the ending and the number of these jobs.
        """
        worker.has_ended = True
        was_stopped = worker.pulse.is_draining or self._is_draining
        ending = ending_of(code, self._kills, was_stopped=was_stopped, stood_still=worker.stood_still)
        # A worker that was never ready held no jobs.
        return ending, self._ledger.record(worker.worker_id, ending) if worker.pulse.is_ready else 0

    def _start_report(self, worker_id: str) -> Path:
        return self._logs / f"{worker_id}.start"

    def _give_up_if_hopeless(
        self, worker: _Worker, code: int, ending: Ending, report: StartReport | None
    ) -> None:
        """Raise WorkerStartError if no worker on this device was ever ready, and none can become ready.

        If one was ready before, the same failure is treated as an outage: for example, a store now denies
        what it used to allow.
        """
        worker.has_served |= worker.pulse.is_ready
        is_crash = ending.cause.may_be_the_jobs and code != EXIT_START_FAILED
        is_crashing = is_crash and worker.num_deaths + 1 >= MAX_START_CRASHES
        if worker.has_served or not (code == EXIT_NOT_STARTED or is_crashing):
            return
        tail = "" if report is not None else f", which ends with:\n{_tail(worker.log_path)}"
        raise WorkerStartError(
            f"the worker on {worker.device.name} cannot start: {report or f'it ended ({ending})'}. Its log "
            f"is {worker.log_path}{tail}"
        )

    def _plan_restart(self, worker: _Worker, code: int) -> str:
        ending, num_held = self._note_end(worker, code)
        report = take_report(self._start_report(worker.worker_id))
        self._give_up_if_hopeless(worker, code, ending, report)
        lived = time.monotonic() - worker.started_at
        worker.num_deaths = 1 if lived > STABLE_SECONDS else worker.num_deaths + 1
        wait = RESTART_SECONDS[min(worker.num_deaths, len(RESTART_SECONDS)) - 1]
        if num_held:  # the jobs that it held are now suspects, which bounds how often this happens
            worker.num_deaths, wait = 0, 0.0
        worker.restart_at = time.monotonic() + wait
        reason = "" if report is None else f": {report}"
        return (
            f"The worker on {worker.device.name} ended ({ending}{reason}); it will be restarted"
            f"{f' in {wait:.0f} s' if wait else ''}. Its log: {worker.log_path}"
        )

    def drain(self) -> None:
        """Ask every worker to finish its jobs in flight and end; `stop` waits for them."""
        for worker in self._workers:
            code = worker.process.poll()
            if code is None:
                worker.process.terminate()
            elif not worker.has_ended and not self._is_draining:
                self._note_end(worker, code)
        self._is_draining = True

    def stop(
        self, timeout_seconds: float | None = None, *, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Drain the workers, wait for them, and kill those that remain; the leases of killed workers expire.

        `meanwhile` is called repeatedly while the workers drain.
        """
        self.drain()
        seconds = self._settings.drain_seconds + KILL_GRACE_SECONDS
        until = time.monotonic() + (seconds if timeout_seconds is None else timeout_seconds)
        while time.monotonic() < until and any(worker.process.poll() is None for worker in self._workers):
            meanwhile()
            time.sleep(DRAIN_POLL_SECONDS)
        for worker in self._workers:
            try:
                worker.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.warning("A worker did not drain in time.", extra={"device": worker.device.name})
                worker.process.kill()
                worker.process.wait()
            if worker.process.returncode and not worker.has_ended:  # a worker that drained holds no jobs
                self._note_end(worker, worker.process.returncode)
            take_report(self._start_report(worker.worker_id))
        self._ledger.close()


def _tail(path: Path) -> str:
    with path.open("rb") as log:
        log.seek(0, os.SEEK_END)
        log.seek(max(0, log.tell() - LOG_TAIL_BYTES))
        return log.read().decode(errors="replace")


def _as_json(profiles: Mapping[str, Profile]) -> str:
    return json.dumps({name: profile.model_dump(mode="json") for name, profile in profiles.items()})
