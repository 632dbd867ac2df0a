"""Group commit: outcomes that arrive during a commit are written together in the next transaction."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from db.faults import DatabaseFault, fault_of
from db.outcomes import Failure, Outcome, commit
from jobs.errors import PressroomError
from jobs.job import ClaimedJob, JobStatus
from workers.outage import Outage

logger = logging.getLogger(__name__)

MAX_GROUP = 500
"""Maximum outcomes per transaction; larger groups would not save any more time."""

RETRY_SECONDS = 0.5
"""Wait between attempts while Postgres is unavailable, or read-only after a failover. The leases limit how
long this may last: the results of jobs that were requeued meanwhile are rejected by their fences."""


class Committer:
    """Writes outcomes in its own thread. Any thread may call `add`."""

    def __init__(
        self,
        database: Engine,
        *,
        failure_of: Callable[[ClaimedJob, PressroomError], Failure],
        on_committed: Callable[[Sequence[Outcome]], None],
        on_broken: Callable[[], None],
    ) -> None:
        """Start the committer's thread.

        `failure_of` turns a PressroomError of a kind's writer into the outcome of its job. `on_committed` is
        called in the committer's thread with each group that is finished, whether written or refused.
        `on_broken` is called in that thread when nothing can be committed any more, because the database
        lacks a table or a privilege.
        """
        self._database = database
        self._failure_of = failure_of
        self._on_committed = on_committed
        self._on_broken = on_broken
        self._postgres = Outage(logger, "Postgres", meanwhile="the commit will be retried")
        self._outcomes: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._num_pending = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._thread.start()

    def add(self, outcome: Outcome) -> None:
        """Commit the outcome soon; never blocks."""
        with self._lock:
            self._num_pending += 1
        self._outcomes.put(outcome)

    @property
    def num_pending(self) -> int:
        """Number of outcomes that were added and are not committed yet."""
        return self._num_pending

    def close(self, timeout_seconds: float) -> None:
        """Commit the remaining outcomes, and wait at most `timeout_seconds` for that."""
        self._outcomes.put(None)
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        try:
            self._commit_until_closed()
        except Exception:
            logger.critical("Results cannot be committed.", exc_info=True)
            self._on_broken()

    def _commit_until_closed(self) -> None:
        while True:
            group, closing = self._gather()
            if group:
                self._write(group)
            if closing:
                return

    def _gather(self) -> tuple[list[Outcome], bool]:
        """Wait for an outcome, and take those that arrived during the last commit, at most MAX_GROUP in all.

        The second value is True once the committer is closing.
        """
        group: list[Outcome] = []
        while len(group) < MAX_GROUP and not (group and self._outcomes.empty()):
            outcome = self._outcomes.get()
            if outcome is None:
                return group, True
            group.append(outcome)
        return group, False

    def _write(self, group: list[Outcome]) -> None:
        try:
            written = self._commit_when_possible(group)
        except BaseException as error:  # bad metrics or a faulty writer: the others are still written
            if len(group) > 1:
                for outcome in group:
                    self._write([outcome])
                return
            logger.exception("A result cannot be stored.", extra={"job_id": str(group[0].job.id)})
            written = self._commit_when_possible([self._failure(group[0].job, error)])
        refused = len(group) - len(written)
        if refused:
            logger.warning("Late results were rejected by their fences.", extra={"num_refused": refused})
        # Before the callback, which may take long: meanwhile, the packer would store packs of a few jobs.
        with self._lock:
            self._num_pending -= len(group)
        self._on_committed(group)

    def _commit_when_possible(self, group: list[Outcome]) -> list[UUID]:
        while True:
            try:
                written = commit(self._database, group)
            except SQLAlchemyError as error:
                fault = fault_of(error)
                if fault is DatabaseFault.MISUSE or isinstance(error, IntegrityError):
                    raise
                self._postgres.note(error, fault)
                time.sleep(RETRY_SECONDS)
            else:
                self._postgres.end()
                return written

    def _failure(self, job: ClaimedJob, error: BaseException) -> Failure:
        """Return the outcome of a job whose result cannot be written; a PressroomError keeps its code."""
        if isinstance(error, PressroomError):
            return self._failure_of(job, error)
        return Failure(
            job=job,
            status=JobStatus.FAILED,
            error_code="result_unstorable",
            error_message=f"the job's result cannot be stored ({type(error).__name__}): correct its kind",
        )
