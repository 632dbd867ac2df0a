"""The life of a job in a worker, without Celery: claim -> run -> store -> commit, always under a lease."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from uuid import UUID

from sqlalchemy import Engine as Database
from sqlalchemy.exc import SQLAlchemyError

from db import leases
from db.outcomes import Outcome, Success
from jobs.errors import EngineLostError, PressroomError
from jobs.job import ClaimedJob
from jobs.registry import load_kind
from workers.attempt import JobServices, failure_of, run_attempt
from workers.committer import Committer
from workers.held_jobs import HeldJob, HeldJobs, Phase
from workers.inference import JobAbandonedError
from workers.packer import Packer
from workers.publisher import Prepared
from workers.stages import close_stages

logger = logging.getLogger(__name__)


MAX_AHEAD = 500
"""Maximum number of jobs that a worker claims beyond its threads. It bounds what a crash can interrupt."""

AHEAD_SECONDS = 0.5
"""Seconds of work that a worker claims in advance, at the rate of the last RATE_SECONDS. A result waits less
than that for its pack and its commit, so waiting results never occupy all places, and the rate can grow. Long
jobs are not claimed in advance, because another worker may be free sooner."""

RATE_SECONDS = 1.0
"""Time over which the rate is measured."""


class Capacity:
    """Places for jobs in flight. Any thread may call it.

    There are as many places as jobs can run at once, and more while jobs end quickly: then most jobs in
    flight wait for their turn, for their pack or for their commit.
    """

    def __init__(self, num_places: int, *, max_ahead: int = MAX_AHEAD) -> None:
        """Create it with no place in use. At most `max_ahead` jobs are claimed beyond `num_places`."""
        self._num_places = num_places
        self._max_ahead = max_ahead
        self._num_in_use = 0
        self._exclusive = False
        self._closed = False
        self._changed = threading.Condition()
        self._succeeded: deque[tuple[float, int]] = deque()
        """Instants on time.monotonic(), and the number of jobs that succeeded then, in the last RATE_SECONDS.
        """

    @property
    def num_in_use(self) -> int:
        """Number of places in use now."""
        return self._num_in_use

    def take(self, at_most: int) -> int:
        """Wait until a place is free and take up to `at_most`; return 0 once `close` has been called."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._num_free() > 0 and not self._exclusive))
            if self._closed:
                return 0
            num_places = min(at_most, self._num_free())
            self._num_in_use += num_places
            return num_places

    def give_back(self, number: int) -> None:
        """Free this number of places."""
        with self._changed:
            self._num_in_use -= number
            self._changed.notify_all()

    def note_succeeded(self, number: int) -> None:
        """Record that this number of jobs has succeeded, because the number of places depends on it."""
        with self._changed:
            self._succeeded.append((time.monotonic(), number))

    @property
    def num_surplus(self) -> int:
        """Number of jobs in flight beyond those that would be claimed now, or run if the gate is closed."""
        with self._changed:
            return max(0, self._num_in_use - self._num_places if self._closed else -self._num_free())

    def _num_free(self) -> int:
        since = time.monotonic() - RATE_SECONDS
        while self._succeeded and self._succeeded[0][0] < since:
            self._succeeded.popleft()
        rate = sum(number for _, number in self._succeeded) / RATE_SECONDS
        return self._num_places + min(self._max_ahead, int(rate * AHEAD_SECONDS)) - self._num_in_use

    @contextmanager
    def alone(self, at_most: int = 1) -> Iterator[int]:
        """Wait until every place is free, take up to `at_most`, and keep others out until all are given back.

        Yields the number of places, or 0 once `close` has been called. `close` also ends all waits.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._exclusive)
            self._exclusive = True
            self._changed.wait_for(lambda: self._closed or not self._num_in_use)
            num_places = 0 if self._closed else min(at_most, self._num_places - self._num_in_use)
            self._num_in_use += num_places
        try:
            yield num_places
        finally:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or not self._num_in_use)
                self._exclusive = False
                self._changed.notify_all()

    def wait_until_free(self, timeout_seconds: float) -> bool:
        """Wait until no place is taken; return False if that took longer than the timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._num_in_use, timeout_seconds)

    def close(self) -> None:
        """Give out no more places; those in use stay in use until they are given back."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class StageThreads:
    """The threads in which jobs run. A stage's limit bounds how many of its jobs run at once."""

    def __init__(self, num_threads: int) -> None:
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="job")
        self._lock = threading.Lock()
        self._num_running: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._waiting: defaultdict[tuple[str, str], deque[Callable[[], None]]] = defaultdict(deque)
        """Calls that wait until others of their stage have ended, by kind and stage."""

    def submit(self, job: ClaimedJob, run: Callable[[], None]) -> None:
        """Call `run`, which must not raise, in a thread as soon as the job's stage allows it."""
        limit = _max_running(job)
        if limit is None:
            self._pool.submit(run)
            return
        stage = (job.kind, job.stage)
        with self._lock:
            if self._num_running[stage] >= limit:
                self._waiting[stage].append(run)
                return
            self._num_running[stage] += 1
        self._pool.submit(self._run_limited, stage, run)

    def _run_limited(self, stage: tuple[str, str], run: Callable[[], None]) -> None:
        while True:
            run()
            with self._lock:
                if not self._waiting[stage]:
                    self._num_running[stage] -= 1
                    return
                run = self._waiting[stage].popleft()

    def close(self) -> None:
        """Start no further calls, and do not wait for those that are running."""
        with self._lock:
            self._waiting.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _max_running(job: ClaimedJob) -> int | None:
    try:
        stages = load_kind(job.kind).stages
    except PressroomError:
        return None  # the attempt raises the same error, which becomes the job's outcome
    return next((stage.max_running for stage in stages if stage.name == job.stage), None)


class Runner:
    """Runs up to `num_places` jobs at a time, each in a thread that blocks while the engine computes."""

    def __init__(
        self,
        *,
        database: Database,
        services: JobServices,
        num_places: int,
        on_broken: Callable[[], None],
        on_cut_off: Callable[[], None] | None = None,
    ) -> None:
        """Start the committer and the renewal of leases.

        The last two arguments are called, from one of the runner's threads, when only a new process can
        continue: `on_broken` when a kind has not returned long after its job's deadline, `on_cut_off` (by
        default the same as `on_broken`) when results cannot be committed.
        """
        settings = services.settings
        self._database = database
        self._services = services
        self.num_places = num_places
        self._capacity = Capacity(num_places, max_ahead=0 if settings.max_jobs_in_flight else MAX_AHEAD)
        self._threads = StageThreads(num_places)
        self._held = HeldJobs(
            database,
            lease_seconds=settings.lease_seconds,
            num_surplus=lambda: self._capacity.num_surplus,
            on_given_back=self._capacity.give_back,
            on_broken=on_broken,
        )
        self._committer = Committer(
            database,
            failure_of=lambda job, error: failure_of(job, error, settings),
            on_committed=self._committed,
            on_broken=on_cut_off or on_broken,
        )
        self._packer = Packer(
            services.publisher,
            interval_seconds=settings.commit_interval_seconds,
            num_unstored=lambda: self.num_in_flight - self._committer.num_pending,
            on_stored=self._stored,
            on_failed=self._failed,
        )
        self.last_claim_at = time.monotonic()
        """Instant, on time.monotonic(), at which this worker last tried to claim jobs from Postgres."""

    @property
    def num_in_flight(self) -> int:
        """Number of jobs held now."""
        return self._capacity.num_in_use

    def run_shard(self, job_ids: Sequence[UUID], *, celery_task_id: str) -> None:
        """Claim the jobs as places become free and start them; return when all have been started, or on
        draining."""
        remaining = list(job_ids)
        while remaining:
            places = self._capacity.take(len(remaining))
            if not places:
                return  # draining: the dispatcher sends the rest again
            chunk, remaining = remaining[:places], remaining[places:]
            self._start(chunk, celery_task_id, alone=False)

    def run_alone(self, job_ids: Sequence[UUID], *, celery_task_id: str) -> None:
        """Run the jobs while nothing else is in flight; return when they are committed, or on draining."""
        remaining = list(job_ids)
        while remaining:
            with self._capacity.alone(len(remaining)) as places:
                if not places:
                    return
                chunk, remaining = remaining[:places], remaining[places:]
                self._start(chunk, celery_task_id, alone=True)

    def _start(self, job_ids: Sequence[UUID], celery_task_id: str, *, alone: bool) -> None:
        """Claim the jobs, for which places have been reserved, and run those that could be claimed."""
        services, settings = self._services, self._services.settings
        claimed: list[ClaimedJob] = []
        try:
            claimed = leases.claim(
                self._database,
                job_ids,
                alone=alone,
                worker_id=services.worker.id,
                celery_task_id=celery_task_id,
                lease_seconds=settings.lease_seconds,
            )
        except SQLAlchemyError:
            logger.warning("Jobs could not be claimed; their message will be sent again.", exc_info=True)
        finally:
            self._capacity.give_back(len(job_ids) - len(claimed))
        self.last_claim_at = time.monotonic()
        for job in claimed:
            held = self._held.add(job, services.models, timeout_seconds=settings.job_timeout_seconds)
            self._threads.submit(job, partial(self._run, held, celery_task_id))

    def _run(self, held: HeldJob, celery_task_id: str) -> None:
        """Run one attempt, from the claim to the handover to the packer or the committer; never raises."""
        try:
            prepared = self._prepare(held, celery_task_id)
        except BaseException as error:  # noqa: BLE001 - every error is the attempt's outcome, even SystemExit
            self._failed(held, error)
        else:
            self._packer.add(held, prepared)

    def _prepare(self, held: HeldJob, celery_task_id: str) -> Prepared:
        held.inference.require_held()  # its lease may have been lost while it waited
        held.begin()
        attempt = run_attempt(held.job, held.inference, self._services, celery_task_id=celery_task_id)
        held.phase = Phase.STORING
        return self._services.publisher.prepare(
            held.job,
            attempt.result,
            output=attempt.output,
            facts=attempt.facts,
            use=held.inference.model_use(),
            abandoned=held.inference.abandoned,
        )

    def _stored(self, held: HeldJob, success: Success) -> None:
        held.phase = Phase.COMMITTING
        self._committer.add(success)

    def _failed(self, held: HeldJob, error: BaseException) -> None:
        if isinstance(error, JobAbandonedError | EngineLostError):
            if isinstance(error, EngineLostError):
                self._held.give_back([held])
            self._forget([held.job])  # whoever abandoned a job has given it back, or its lease was lost
            return
        held.phase = Phase.COMMITTING
        self._committer.add(failure_of(held.job, error, self._services.settings))

    def _committed(self, outcomes: Sequence[Outcome]) -> None:
        self._capacity.note_succeeded(sum(isinstance(outcome, Success) for outcome in outcomes))
        self._forget(outcome.job for outcome in outcomes)
        for batch_id in {outcome.job.batch_id for outcome in outcomes}:
            try:
                close_stages(self._database, batch_id)
            except SQLAlchemyError:
                logger.warning("A stage could not be closed; the reconciler will close it.", exc_info=True)

    def _forget(self, jobs: Iterable[ClaimedJob]) -> None:
        self._capacity.give_back(self._held.forget(jobs))

    def drain(self) -> None:
        """Stop claiming jobs. Called from a signal handler, so it only closes the capacity."""
        self._capacity.close()

    def close(self, timeout_seconds: float) -> None:
        """Finish the jobs in flight within the timeout, give the rest back to the queue, and stop."""
        self._capacity.close()
        self._held.give_back_waiting(self._capacity.num_surplus)
        if not self._capacity.wait_until_free(timeout_seconds):
            self._held.give_back_all()
        lease_seconds = self._services.settings.lease_seconds
        self._held.close(lease_seconds)
        self._packer.close(timeout_seconds=lease_seconds)
        self._committer.close(timeout_seconds=lease_seconds)
        self._threads.close()
