"""Claim, renew, give back: a job is held by one worker at a time, and only the fence says who."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from uuid import UUID, uuid4

from sqlalchemy import Engine, insert, text, update

from db import leases
from db.stages import NewJob
from db.tables import AttemptRow, JobRow
from jobs.job import AttemptOutcome, JobStatus, job_seed
from tests.factories import (
    accept,
    attempt_outcomes,
    claim,
    claim_batch,
    job_ids,
    job_row,
    new_batch,
    run_out_leases,
    set_job,
    statuses,
    wait_until,
)


def test_concurrent_claims_of_the_same_jobs_are_disjoint_and_complete(database: Engine) -> None:
    ids = job_ids(database, accept(database, 60))
    barrier = Barrier(6)

    def claim_all(worker: int) -> list[UUID]:
        barrier.wait()
        return [job.id for job in claim(database, ids, worker=f"worker-{worker}")]

    with ThreadPoolExecutor(6) as pool:
        claimed = [job_id for ids_of_one in pool.map(claim_all, range(6)) for job_id in ids_of_one]
    assert sorted(claimed) == sorted(ids)


def test_a_claim_carries_everything_that_the_worker_needs(database: Engine) -> None:
    batch = new_batch(model="m", deadline_seconds=600, max_attempts=5)
    batch_id = accept(database, [NewJob("my line", {"text": "t"})], batch)
    (job,) = claim_batch(database, batch_id)
    assert (job.batch_id, job.kind, job.custom_id, job.model) == (batch_id, "trial", "my line", "m")
    assert (job.payload, job.settings) == ({"text": "t"}, {})
    assert (job.attempt, job.num_failures, job.max_attempts) == (1, 0, 5)
    assert job.seed == job_seed(0, "my line")
    assert job.seconds_to_deadline is not None
    assert 0 < job.seconds_to_deadline <= 600
    assert job.queued_at.utcoffset() == timedelta(0)


def test_a_claim_records_a_running_attempt(database: Engine) -> None:
    (job,) = claim_batch(database, accept(database, 1), worker="worker-x")
    assert attempt_outcomes(database, job.id) == [AttemptOutcome.RUNNING]
    row = job_row(database, job.id)
    assert (row.status, row.attempt, row.worker_id) == (JobStatus.RUNNING, 1, "worker-x")
    assert row.lease_expires_at is not None
    assert row.started_at is not None


def test_unknown_running_and_finished_jobs_are_not_claimed(database: Engine) -> None:
    ids = job_ids(database, accept(database, 2))
    claim(database, ids[:1])
    set_job(database, ids[1:], status=JobStatus.SUCCEEDED)
    assert claim(database, [*ids, uuid4()]) == []
    assert claim(database, []) == []


def test_a_job_is_not_claimed_before_its_retry_time(database: Engine) -> None:
    ids = job_ids(database, accept(database, 2))
    set_job(database, ids[:1], available_at=datetime.now(UTC) + timedelta(hours=1))
    assert [job.id for job in claim(database, ids)] == ids[1:]


def test_a_stale_message_claims_no_suspect_among_neighbours(database: Engine) -> None:
    ids = job_ids(database, accept(database, 2))
    set_job(database, ids[:1], suspect_group=uuid4())
    assert [job.id for job in claim(database, ids)] == ids[1:]
    assert [job.id for job in claim(database, ids, alone=True)] == ids[:1]


def test_renewal_prolongs_the_lease(database: Engine) -> None:
    (job,) = claim_batch(database, accept(database, 1))
    run_out_leases(database, [job.id])
    assert leases.renew(database, {job.id: job.attempt}, lease_seconds=30) == set()
    lease_expires_at = job_row(database, job.id).lease_expires_at
    assert lease_expires_at is not None
    assert lease_expires_at > datetime.now(UTC)


def test_renewal_reports_what_was_lost_and_leaves_the_new_holder_alone(database: Engine) -> None:
    batch_id = accept(database, 3)
    first, second, third = claim_batch(database, batch_id)
    leases.give_back(database, {first.id: 1, second.id: 1})
    (again,) = claim(database, [first.id], worker="worker-b", lease_seconds=1000)
    before = job_row(database, first.id).lease_expires_at
    lost = leases.renew(database, {first.id: 1, second.id: 1, third.id: 1, uuid4(): 1}, lease_seconds=5)
    assert {first.id, second.id} <= lost
    assert third.id not in lost
    assert job_row(database, first.id).lease_expires_at == before
    assert again.attempt == 2


def test_renewal_reports_a_job_that_is_gone(database: Engine) -> None:
    gone = uuid4()
    assert leases.renew(database, {gone: 1}, lease_seconds=5) == {gone}


def test_renewal_of_nothing_asks_nobody(database: Engine) -> None:
    assert leases.renew(database, {}, lease_seconds=5) == set()


def test_renewal_does_not_wait_for_a_row_that_is_being_committed(database: Engine) -> None:
    first, second = claim_batch(database, accept(database, 2))
    run_out_leases(database, [second.id])
    with database.begin() as committing:
        leases.lock_held(committing, {first.id: 1})
        assert leases.renew(database, {first.id: 1, second.id: 1}, lease_seconds=30) == set()
    lease_expires_at = job_row(database, second.id).lease_expires_at
    assert lease_expires_at is not None
    assert lease_expires_at > datetime.now(UTC)


def test_giving_back_a_job_charges_nothing(database: Engine) -> None:
    (job,) = claim_batch(database, accept(database, 1))
    assert leases.give_back(database, {job.id: job.attempt}) == 1
    row = job_row(database, job.id)
    assert (row.status, row.num_failures, row.suspect_group) == (JobStatus.QUEUED, 0, None)
    assert (row.worker_id, row.lease_expires_at, row.sent_at) == (None, None, None)
    assert attempt_outcomes(database, job.id) == [AttemptOutcome.GIVEN_BACK]
    (again,) = claim(database, [job.id])
    assert again.attempt == 2


def test_giving_back_under_a_stale_fence_changes_nothing(database: Engine) -> None:
    (job,) = claim_batch(database, accept(database, 1))
    leases.give_back(database, {job.id: 1})
    claim(database, [job.id], worker="worker-b")
    assert leases.give_back(database, {job.id: 1}) == 0
    assert statuses(database, [job.id]) == [JobStatus.RUNNING]
    assert attempt_outcomes(database, job.id) == [AttemptOutcome.GIVEN_BACK, AttemptOutcome.RUNNING]


def test_a_claim_that_is_committed_while_its_job_is_ended_leaves_no_attempt_running(
    database: Engine,
) -> None:
    (job_id,) = job_ids(database, accept(database, 1))

    def end() -> int:
        with database.begin() as connection:
            return leases.end_open_jobs(
                connection,
                JobRow.id == job_id,
                status=JobStatus.CANCELLED,
                error_code=None,
                error_message=None,
                limit=10,
            )

    def waits_for_a_lock() -> bool:
        with database.connect() as connection:
            return bool(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))

    with ThreadPoolExecutor(1) as pool:
        with database.begin() as claiming:
            claiming.execute(update(JobRow).values(status=JobStatus.RUNNING, attempt=1, worker_id="w"))
            claiming.execute(
                insert(AttemptRow).values(
                    job_id=job_id,
                    attempt=1,
                    worker_id="w",
                    celery_task_id="t",
                    outcome=AttemptOutcome.RUNNING,
                )
            )
            ending = pool.submit(end)
            wait_until(waits_for_a_lock, "the end waits for the claim")
        assert ending.result() == 1
    assert statuses(database, [job_id]) == [JobStatus.CANCELLED]
    assert attempt_outcomes(database, job_id) == [AttemptOutcome.ENDED]
