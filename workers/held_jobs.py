"""The jobs that a worker holds. Each has a lease, which is renewed until its outcome is committed."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from uuid import UUID

from sqlalchemy import Engine as Database
from sqlalchemy.exc import SQLAlchemyError

from db import leases
from jobs.job import ClaimedJob
from workers.inference import JobInference
from workers.model_pool import ModelPool

logger = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 3
"""Lease renewals per lease period, so that two may fail before a lease is lost."""

HANDOVER_SECONDS = 60.0
"""Time that a job has after its deadline to post-process, upload and commit before its lease is no longer
renewed."""


class Phase(Enum):
    """Current activity of a held job."""

    WAITING = auto()
    """The job waits for a thread, or for other jobs of its stage."""
    RUNNING = auto()
    """The job's kind is running."""
    STORING = auto()
    """The job's artifacts are being stored, or wait for the store."""
    COMMITTING = auto()
    """The outcome has been handed to the committer."""


@dataclass(slots=True)
class HeldJob:
    """A claimed job whose outcome is not committed yet."""

    job: ClaimedJob
    inference: JobInference
    timeout_seconds: float
    """Maximum duration of the attempt."""
    batch_deadline_at: float = math.inf
    """Deadline of the batch on time.monotonic()."""
    give_up_at: float = field(init=False)
    """Instant, on time.monotonic(), from which the lease is no longer renewed."""
    phase: Phase = Phase.WAITING

    def __post_init__(self) -> None:
        self._set_deadline()

    def begin(self) -> None:
        """Note that the kind starts to run. The time that the job waited for its turn does not count."""
        self._set_deadline()
        self.phase = Phase.RUNNING

    def _set_deadline(self) -> None:
        self.inference.deadline_at = min(time.monotonic() + self.timeout_seconds, self.batch_deadline_at)
        self.give_up_at = self.inference.deadline_at + HANDOVER_SECONDS


class HeldJobs:
    """The jobs that this worker holds, with a thread that renews their leases. Any thread may call it."""

    def __init__(
        self,
        database: Database,
        *,
        lease_seconds: float,
        num_surplus: Callable[[], int],
        on_given_back: Callable[[int], None],
        on_broken: Callable[[], None],
    ) -> None:
        """Start the thread.

        It gives back as many of the jobs that wait for their turn as `num_surplus` returns, and calls
        `on_given_back` with their number. It calls `on_broken` if a kind has not returned long after its
        job's deadline.
        """
        self._database = database
        self._lease_seconds = lease_seconds
        self._num_surplus = num_surplus
        self._on_given_back = on_given_back
        self._on_broken = on_broken
        self._held: dict[tuple[UUID, int], HeldJob] = {}
        """Held jobs by id and attempt: a job whose lease was lost may be claimed again while the lost attempt
        still runs."""
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._renew_leases, name="heartbeat", daemon=True)
        self._thread.start()

    def add(self, job: ClaimedJob, models: ModelPool, *, timeout_seconds: float) -> HeldJob:
        """Hold a job that was just claimed, until HANDOVER_SECONDS after its deadline."""
        seconds = math.inf if job.seconds_to_deadline is None else job.seconds_to_deadline
        inference = JobInference(job, models, deadline_at=math.inf)
        held = HeldJob(job, inference, timeout_seconds, time.monotonic() + seconds)
        with self._lock:
            self._held[job.id, job.attempt] = held
        return held

    def forget(self, jobs: Iterable[ClaimedJob]) -> int:
        """Stop renewing the leases of these jobs; return how many of them were held."""
        with self._lock:
            return sum(self._held.pop((job.id, job.attempt), None) is not None for job in jobs)

    def give_back(self, held: Sequence[HeldJob]) -> None:
        """Abandon the jobs, and requeue those whose lease is still held, without charging them a failure."""
        if not held:
            return
        for each in held:
            each.inference.abandon()
        try:
            num_jobs = leases.give_back(self._database, {each.job.id: each.job.attempt for each in held})
        except SQLAlchemyError:
            logger.warning("Unfinished jobs could not be given back; their leases will expire.")
        else:
            logger.info("Unfinished jobs were given back.", extra={"num_jobs": num_jobs})

    def give_back_waiting(self, at_most: int) -> None:
        """Give back jobs that wait for their turn, those claimed last first, because others may be free."""
        waiting = [held for held in self._newest().values() if held.phase is Phase.WAITING]
        surplus = waiting[-at_most:] if at_most > 0 else []
        self.give_back(surplus)
        self._on_given_back(self.forget(held.job for held in surplus))

    def give_back_all(self) -> None:
        """Give back every job that is still held."""
        self.give_back(list(self._newest().values()))

    def close(self, timeout_seconds: float) -> None:
        """Stop renewing leases, and wait at most `timeout_seconds` for a renewal that has begun."""
        self._stopped.set()
        self._thread.join(timeout_seconds)

    def _renew_leases(self) -> None:
        while not self._stopped.wait(self._lease_seconds / RENEWALS_PER_LEASE):
            now = time.monotonic()
            newest = self._newest()
            overdue = [held for held in newest.values() if held.give_up_at <= now]
            if any(held.phase is Phase.RUNNING for held in overdue):
                logger.critical("A job has not returned long after its deadline.")
                self._on_broken()
            # An unavailable store is not the job's fault: the job is given back even while an upload hangs.
            self.give_back([held for held in overdue if held.phase in (Phase.WAITING, Phase.STORING)])
            self.give_back_waiting(self._num_surplus())
            renewable = {job_id: h.job.attempt for job_id, h in newest.items() if h.give_up_at > now}
            try:
                lost = leases.renew(self._database, renewable, lease_seconds=self._lease_seconds)
            except SQLAlchemyError:
                logger.warning("Leases could not be renewed; renewal will be retried.", exc_info=True)
                continue
            for job_id in lost:
                newest[job_id].inference.abandon()
            self._note_survival({job_id: renewable[job_id] for job_id in lost})

    def _note_survival(self, lost: Mapping[UUID, int]) -> None:
        try:
            leases.note_survival(self._database, lost)
        except SQLAlchemyError:
            logger.warning(
                "It could not be recorded that this worker survived the loss of its leases.", exc_info=True
            )

    def _newest(self) -> dict[UUID, HeldJob]:
        """Return the newest attempt of each job held.

        An older attempt at the same job has lost its lease, and is abandoned here.
        """
        newest: dict[UUID, HeldJob] = {}
        with self._lock:
            items = sorted(self._held.items(), key=lambda item: item[0][1])
        for (job_id, _), held in items:
            if job_id in newest:
                newest[job_id].inference.abandon()
            newest[job_id] = held
        return newest
