"""The life of a job in a worker, without Celery: claim -> run -> store -> commit, always under a lease."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from db import leases
from db.outcomes import Outcome
from jobs.errors import EngineLostError
from jobs.job import ClaimedJob
from workers.attempt import WorkerIdentity, failure_of, run_attempt
from workers.capacity import Capacity
from workers.committer import Committer
from workers.inference import JobAbandonedError, JobInference
from workers.model_pool import ModelPool
from workers.ports import Ports
from workers.publisher import Publisher
from workers.settings import Settings
from workers.stages import close_stages

logger = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 3
"""Lease renewals per lease period, so that two may fail before a lease is lost."""

HANDOVER_SECONDS = 60.0
"""Time that a job has after its deadline to post-process, upload and commit before its lease is no longer
renewed."""


class _Phase(Enum):
    RUNNING = auto()
    """The job's kind is running."""
    STORING = auto()
    """The job's artifacts are being stored, or wait for the store."""
    COMMITTING = auto()
    """The outcome has been handed to the committer."""


@dataclass(slots=True)
class _Held:
    job: ClaimedJob
    inference: JobInference
    give_up_at: float
    """Instant, on time.monotonic(), from which the lease is no longer renewed."""
    phase: _Phase = _Phase.RUNNING


class Runner:
    """Holds up to `num_places` jobs, each in a thread of the pool that blocks while the engine batches."""

    def __init__(
        self,
        *,
        database: Engine,
        models: ModelPool,
        ports: Ports,
        publisher: Publisher,
        settings: Settings,
        worker: WorkerIdentity,
        num_places: int,
        on_broken: Callable[[], None],
        on_cut_off: Callable[[], None] | None = None,
    ) -> None:
        """Start the committer and the heartbeat thread.

        The last two arguments are called, from a thread of the runner's own, when only a new process can
        continue: `on_broken` when a kind does not return long after its deadline, `on_cut_off` (by default
        the same as `on_broken`) when results cannot be committed.
        """
        self._database = database
        self._models = models
        self._ports = ports
        self._publisher = publisher
        self._settings = settings
        self._worker = worker
        self._on_broken = on_broken
        self.num_places = num_places
        self._capacity = Capacity(num_places)
        self._pool = ThreadPoolExecutor(num_places, thread_name_prefix="job")
        self._held: dict[tuple[UUID, int], _Held] = {}
        """Keyed by job and attempt: a job whose lease was lost may be claimed again while the lost attempt
        still runs."""
        self._lock = threading.Lock()
        self._committer = Committer(
            database,
            interval_seconds=settings.commit_interval_seconds,
            num_in_flight=lambda: self.num_in_flight,
            failure_of=lambda job, error: failure_of(job, error, settings),
            on_committed=self._committed,
            on_broken=on_cut_off or on_broken,
        )
        self._stopped = threading.Event()
        self._heartbeat = threading.Thread(target=self._renew_leases, name="heartbeat", daemon=True)
        self._heartbeat.start()
        self.last_claim_at = time.monotonic()
        """When this worker last tried to claim jobs from Postgres, on time.monotonic()."""

    @property
    def num_in_flight(self) -> int:
        """Number of jobs held now."""
        return self._capacity.num_taken

    def run_shard(self, job_ids: Sequence[UUID], *, celery_task_id: str) -> None:
        """Claim the jobs as places become free and start them; return when all have been started."""
        remaining = list(job_ids)
        while remaining:
            taken = self._capacity.take(len(remaining))
            if not taken:
                return  # draining: the dispatcher sends the rest again
            chunk, remaining = remaining[:taken], remaining[taken:]
            self._start(chunk, celery_task_id, places=taken, alone=False)

    def run_alone(self, job_ids: Sequence[UUID], *, celery_task_id: str) -> None:
        """Run the jobs while nothing else is in flight; return when they are committed, or on draining."""
        remaining = list(job_ids)
        while remaining:
            with self._capacity.alone(len(remaining)) as taken:
                if not taken:
                    return
                chunk, remaining = remaining[:taken], remaining[taken:]
                self._start(chunk, celery_task_id, places=taken, alone=True)

    def _start(self, job_ids: Sequence[UUID], celery_task_id: str, *, places: int, alone: bool) -> None:
        claimed: list[ClaimedJob] = []
        try:
            claimed = leases.claim(
                self._database,
                job_ids,
                alone=alone,
                worker_id=self._worker.id,
                celery_task_id=celery_task_id,
                lease_seconds=self._settings.lease_seconds,
            )
        except SQLAlchemyError:
            logger.warning("Jobs could not be claimed; their message will be sent again.", exc_info=True)
        finally:
            self._capacity.give_back(places - len(claimed))
        self.last_claim_at = time.monotonic()
        for job in claimed:
            held = self._hold(job)
            self._pool.submit(self._run, held, celery_task_id)

    def _hold(self, job: ClaimedJob) -> _Held:
        seconds = self._settings.job_timeout_seconds
        if job.seconds_to_deadline is not None:
            seconds = min(seconds, job.seconds_to_deadline)
        deadline_at = time.monotonic() + seconds
        inference = JobInference(job, self._models, deadline_at=deadline_at)
        held = _Held(job, inference, deadline_at + HANDOVER_SECONDS)
        with self._lock:
            self._held[job.id, job.attempt] = held
        return held

    def _run(self, held: _Held, celery_task_id: str) -> None:
        """Run one attempt, from the claim to the handover to the committer; never raises."""
        outcome: Outcome
        try:
            attempt = run_attempt(
                held.job, held.inference, self._ports, worker=self._worker, celery_task_id=celery_task_id
            )
            held.phase = _Phase.STORING
            outcome = self._publisher.publish(
                held.job,
                attempt.result,
                output=attempt.output,
                facts=attempt.facts,
                use=held.inference.model_use(),
                abandoned=held.inference.abandoned,
            )
        except (JobAbandonedError, EngineLostError):
            self._release([held])
            self._let_go([held.job])
            return
        except BaseException as error:  # noqa: BLE001 - an attempt's error is its outcome, sys.exit() too
            outcome = failure_of(held.job, error, self._settings)
        held.phase = _Phase.COMMITTING
        self._committer.add(outcome)

    def _committed(self, outcomes: Sequence[Outcome]) -> None:
        self._let_go(outcome.job for outcome in outcomes)
        for batch_id in {outcome.job.batch_id for outcome in outcomes}:
            try:
                close_stages(self._database, batch_id)
            except SQLAlchemyError:
                logger.warning("A stage could not be closed; the reconciler will.", exc_info=True)

    def _let_go(self, jobs: Iterable[ClaimedJob]) -> None:
        with self._lock:
            freed = sum(self._held.pop((job.id, job.attempt), None) is not None for job in jobs)
        self._capacity.give_back(freed)

    def _renew_leases(self) -> None:
        while not self._stopped.wait(self._settings.lease_seconds / RENEWALS_PER_LEASE):
            now = time.monotonic()
            newest = self._newest()
            overdue = [held for held in newest.values() if held.give_up_at <= now]
            if any(held.phase is _Phase.RUNNING for held in overdue):
                logger.critical("A job has not returned long after its time.")
                self._on_broken()
            # A store that is unavailable is not the job's fault: the job is given back even while an upload
            # hangs.
            self._release([held for held in overdue if held.phase is _Phase.STORING])
            renewable = {job_id: h.job.attempt for job_id, h in newest.items() if h.give_up_at > now}
            try:
                lost = leases.renew(self._database, renewable, lease_seconds=self._settings.lease_seconds)
            except SQLAlchemyError:
                logger.warning("Leases could not be renewed; it is tried again.", exc_info=True)
                continue
            for job_id in lost:
                newest[job_id].inference.abandon()
            self._note_survival({job_id: renewable[job_id] for job_id in lost})

    def _note_survival(self, lost: Mapping[UUID, int]) -> None:
        try:
            leases.note_survival(self._database, lost)
        except SQLAlchemyError:
            logger.warning("Lost leases stay without the word that this worker lived.", exc_info=True)

    def _newest(self) -> dict[UUID, _Held]:
        """Return the newest attempt of each job held.

        An older attempt of the same job is over, whichever worker lost it, and is abandoned here.
        """
        newest: dict[UUID, _Held] = {}
        with self._lock:
            held = sorted(self._held.items(), key=lambda item: item[0][1])
        for (job_id, _), one in held:
            if job_id in newest:
                newest[job_id].inference.abandon()
            newest[job_id] = one
        return newest

    def drain(self) -> None:
        """Stop claiming jobs. Called from a signal handler, so it does no more than close the gate."""
        self._capacity.close()

    def close(self, timeout_seconds: float) -> None:
        """Finish what is in flight within the timeout, give the rest back to the queue, and stop."""
        self._capacity.close()
        if not self._capacity.wait_until_free(timeout_seconds):
            self._release(list(self._newest().values()))
        self._stopped.set()
        self._committer.close(timeout_seconds=self._settings.lease_seconds)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _release(self, held: Sequence[_Held]) -> None:
        """Abandon the jobs; give those still held back to the queue, without charging them a failure."""
        if not held:
            return
        for one in held:
            one.inference.abandon()
        try:
            released = leases.release(self._database, {one.job.id: one.job.attempt for one in held})
        except SQLAlchemyError:
            logger.warning("Unfinished jobs could not be given back; their leases will run out.")
        else:
            logger.info("Unfinished jobs were given back.", extra={"num_released": released})
