"""Any order of what workers, reapers and users do leaves every job in a state that it may be in."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, delete, func, select

from db import batches, dispatch, leases, recovery
from db.outcomes import Outcome, commit
from db.reports import batch_status
from db.tables import ArtifactRow, BatchRow, JobRow, WorkerRow
from jobs.job import LEGAL_TRANSITIONS, ClaimedJob, JobStatus
from jobs.losses import Cause
from tests.factories import accept, claim, end_worker, failure, job_ids, run_out_leases, success
from workers.stages import close_stages

NUM_JOBS = 4
WORKERS = ("worker-a", "worker-b", "worker-c")
workers = st.sampled_from(WORKERS)
numbers = st.sets(st.integers(0, NUM_JOBS - 1), min_size=1)


class JobLifecycle(RuleBasedStateMachine):
    """Several workers that crash, come late and commit twice, on one batch."""

    database: Engine

    @initialize()
    def submit(self) -> None:
        self.batch_id = accept(self.database, NUM_JOBS)
        self.ids = job_ids(self.database, self.batch_id)
        self.held: dict[str, dict[UUID, ClaimedJob]] = {worker: {} for worker in WORKERS}
        """What each worker believes to hold; stale entries are the point."""
        self.before = self.observe()
        self.succeeded: dict[UUID, str] = {}

    def observe(self) -> dict[UUID, tuple[JobStatus, int, str | None]]:
        """Status, attempt and result of each job."""
        columns = JobRow.id, JobRow.status, JobRow.attempt, JobRow.metrics["text"].astext.label("text")
        with self.database.connect() as connection:
            rows = connection.execute(select(*columns).where(JobRow.batch_id == self.batch_id))
            return {row.id: (row.status, row.attempt, row.text) for row in rows}

    def some_held(self, worker: str, which: set[int]) -> list[ClaimedJob]:
        return [job for n in which if (job := self.held[worker].get(self.ids[n])) is not None]

    @rule(worker=workers, which=numbers)
    def claim(self, worker: str, which: set[int]) -> None:
        for job in claim(self.database, [self.ids[n] for n in which], worker=worker):
            self.held[worker][job.id] = job

    @rule(worker=workers)
    def claim_suspects(self, worker: str) -> None:
        suspects = dispatch.take_suspects(self.database, "cpu")
        for job in claim(self.database, suspects, worker=worker, alone=True):
            self.held[worker][job.id] = job

    @rule(worker=workers, cause=st.sampled_from(Cause))
    def end_worker(self, worker: str, cause: Cause) -> None:
        end_worker(self.database, worker, cause)

    @rule(which=numbers)
    def dispatch(self, which: set[int]) -> None:
        dispatch.take(self.database, self.batch_id, len(which))

    @rule(worker=workers)
    def renew(self, worker: str) -> None:
        held = self.held[worker]
        attempts = {job_id: job.attempt for job_id, job in held.items()}
        state = self.observe()
        lost = leases.renew(self.database, attempts, lease_seconds=1000)
        current = {job_id for job_id, n in attempts.items() if state[job_id][:2] == (JobStatus.RUNNING, n)}
        assert lost == held.keys() - current

    @rule(worker=workers, which=numbers, forget=st.booleans())
    def commit_success(self, worker: str, which: set[int], forget: bool) -> None:
        self.commit(
            worker, [success(job, f"{worker}/{job.attempt}") for job in self.some_held(worker, which)]
        )
        for job in self.some_held(worker, which) if forget else []:
            del self.held[worker][job.id]

    @rule(worker=workers, which=numbers, final=st.booleans())
    def commit_failure(self, worker: str, which: set[int], final: bool) -> None:
        status = JobStatus.FAILED if final else JobStatus.QUEUED
        self.commit(worker, [failure(job, status=status) for job in self.some_held(worker, which)])

    def commit(self, worker: str, outcomes: list[Outcome]) -> None:
        state = self.observe()
        written = commit(self.database, outcomes)
        ours = {o.job.id for o in outcomes if state[o.job.id][:2] == (JobStatus.RUNNING, o.job.attempt)}
        assert set(written) == ours

    @rule(worker=workers, which=numbers)
    def give_back(self, worker: str, which: set[int]) -> None:
        leases.give_back(self.database, {job.id: job.attempt for job in self.some_held(worker, which)})

    @rule(which=numbers, max_crashes=st.integers(2, 4))
    def crash(self, which: set[int], max_crashes: int) -> None:
        running = [self.ids[n] for n in which if self.observe()[self.ids[n]][0] is JobStatus.RUNNING]
        run_out_leases(self.database, running)
        reaped = recovery.reap_expired_leases(self.database, max_crashes=max_crashes, max_losses=3)
        assert reaped.num_requeued + reaped.num_quarantined + reaped.num_parked == len(running)

    @rule()
    def close(self) -> None:
        close_stages(self.database, self.batch_id)

    @rule()
    def cancel(self) -> None:
        batches.cancel(self.database, self.batch_id)

    @rule()
    def retry(self) -> None:
        batches.retry_unfinished(self.database, self.batch_id)

    @invariant()
    def transitions_are_legal_and_success_is_for_ever(self) -> None:
        after = self.observe()
        assert after.keys() == self.before.keys()  # no job comes or goes
        for job_id, (status, attempt, text) in after.items():
            old_status, old_attempt, _ = self.before[job_id]
            assert status is old_status or status in LEGAL_TRANSITIONS[old_status]
            assert attempt - old_attempt == (status is JobStatus.RUNNING and old_status is JobStatus.QUEUED)
            if status is JobStatus.SUCCEEDED:
                assert text == self.succeeded.setdefault(job_id, text or "")
        assert self.succeeded.keys() == {i for i, seen in after.items() if seen[0] is JobStatus.SUCCEEDED}
        self.before = after
        self.check_artifacts()
        self.check_totals([status for status, _, _ in after.values()])

    def check_totals(self, jobs: list[JobStatus]) -> None:
        """What is reported is what there is."""
        report = batch_status(self.database, self.batch_id)
        reported = report.counts.as_json()
        assert reported == {"total": NUM_JOBS, "rejected": 0} | {s.value: jobs.count(s) for s in JobStatus}
        assert report.usage.new_tokens == 5 * len(self.succeeded)

    def check_artifacts(self) -> None:
        """One of each succeeded job, none of any other."""
        counts = select(ArtifactRow.job_id, func.count().label("number")).group_by(ArtifactRow.job_id)
        with self.database.connect() as connection:
            found = {row.job_id: row.number for row in connection.execute(counts)}
        assert found == dict.fromkeys(self.succeeded, 1)

    def teardown(self) -> None:
        with self.database.begin() as connection:
            connection.execute(delete(BatchRow))
            connection.execute(delete(WorkerRow))


@pytest.fixture
def lifecycle(database: Engine) -> Iterator[type[JobLifecycle]]:
    JobLifecycle.database = database
    yield JobLifecycle
    del JobLifecycle.database


def test_no_order_of_events_breaks_a_job(lifecycle: type[JobLifecycle]) -> None:
    run_state_machine_as_test(
        lifecycle,
        settings=settings(
            max_examples=20,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
