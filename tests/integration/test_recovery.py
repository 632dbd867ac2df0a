"""What a crash leaves is repaired: expired leases, jobs that kill their workers, passed deadlines."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, select, update

from db import batches, dispatch, ending, leases
from db.outcomes import commit
from db.recovery import expire_overdue, finish_cancelling, reap_expired_leases, running_batches
from db.reports import batch_status
from db.tables import BatchRow
from jobs.batch import BatchStatus
from jobs.job import AttemptOutcome, JobStatus
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
    success,
)


def test_a_lease_that_has_not_run_out_is_left_alone(database: Engine) -> None:
    (job,) = claim_batch(database, accept(database, 1))
    assert reap_expired_leases(database, max_crashes=3).num_requeued == 0
    assert statuses(database, [job.id]) == [JobStatus.RUNNING]


def test_expired_lease_is_requeued_once_by_any_number_of_reconcilers(database: Engine) -> None:
    jobs = claim_batch(database, accept(database, 40))
    run_out_leases(database, [job.id for job in jobs])
    barrier = Barrier(4)

    def reap(_: int) -> int:
        barrier.wait()
        return reap_expired_leases(database, max_crashes=3).num_requeued

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(reap, range(4))) == 40
    for job in jobs:
        row = job_row(database, job.id)
        assert (row.status, row.suspect_group, row.num_failures) == (JobStatus.QUEUED, None, 0)
        assert attempt_outcomes(database, job.id) == [AttemptOutcome.LOST]


def overdue(database: Engine, num_jobs: int) -> UUID:
    batch_id = accept(database, num_jobs, new_batch(deadline_seconds=1000))
    with database.begin() as connection:
        connection.execute(
            update(BatchRow)
            .where(BatchRow.id == batch_id)
            .values(deadline_at=datetime(2000, 1, 1, tzinfo=UTC))
        )
    return batch_id


def test_open_jobs_of_an_overdue_batch_expire_and_finished_ones_stay(database: Engine) -> None:
    batch_id = overdue(database, 3)
    ids = job_ids(database, batch_id)
    done, running = claim(database, ids[:2])
    commit(database, [success(done)])
    assert expire_overdue(database) == 2
    assert statuses(database, ids) == ["succeeded", "expired", "expired"]
    assert attempt_outcomes(database, running.id) == [AttemptOutcome.ENDED]
    assert job_row(database, ids[2]).error_code == "deadline_exceeded"
    assert commit(database, [success(running)]) == []
    assert leases.renew(database, {running.id: 1}, lease_seconds=5) == {running.id}
    assert expire_overdue(database) == 0


def test_a_large_batch_expires_some_jobs_at_a_time_and_sends_none_meanwhile(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "RANGE_JOBS", 3)
    monkeypatch.setattr(ending, "ROUND_SECONDS", 0)
    batch_id = overdue(database, 7)
    assert expire_overdue(database) == 3
    assert dispatch.demands(database, "cpu", limit=10) == []
    assert [expire_overdue(database) for _ in range(3)] == [3, 1, 0]
    assert batch_status(database, batch_id).counts.expired == 7


def test_a_cancellation_that_was_interrupted_is_finished(database: Engine) -> None:
    batch_id = accept(database, 3)
    ids = job_ids(database, batch_id)
    with database.begin() as connection:  # what `cancel` does before it ends the first job
        connection.execute(update(BatchRow).values(status=BatchStatus.CANCELLED))
    set_job(database, ids[:1], suspect_group=uuid4())
    assert dispatch.take_suspects(database, "cpu") == []
    assert finish_cancelling(database) == 3
    assert finish_cancelling(database) == 0
    assert statuses(database, ids) == ["cancelled"] * 3
    with database.connect() as connection:
        assert connection.scalar(select(BatchRow.finished_at)) is not None


def test_a_batch_in_time_does_not_expire(database: Engine) -> None:
    ids = job_ids(database, accept(database, 2, new_batch(deadline_seconds=1000)))
    ids += job_ids(database, accept(database, 1))
    assert expire_overdue(database) == 0
    assert statuses(database, ids) == ["queued"] * 3


def test_running_batches_are_those_that_are_not_finished(database: Engine) -> None:
    running, cancelled = accept(database, 1), accept(database, 1)
    batches.cancel(database, cancelled)
    assert running_batches(database) == [running]
