"""What a crash leaves is repaired: expired leases, jobs that kill their workers, passed deadlines."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier
from uuid import UUID

import pytest
from sqlalchemy import Engine, select, update

from db import batches, dispatch, endings, leases
from db.outcomes import commit
from db.recovery import expire_overdue, finish_cancelling, reap_expired_leases, running_batches
from db.reports import batch_status
from db.tables import SUSPECT_CRASHES, BatchRow
from jobs.batch import BatchStatus
from jobs.job import AttemptOutcome, JobStatus
from tests.factories import (
    accept,
    attempt_outcomes,
    claim,
    claim_batch,
    failure,
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
        assert (row.status, row.num_crashes, row.num_failures) == (JobStatus.QUEUED, 1, 0)
        assert attempt_outcomes(database, job.id) == [AttemptOutcome.LOST]


def test_a_job_under_which_workers_keep_ending_is_quarantined_with_its_reason(database: Engine) -> None:
    ids = job_ids(database, accept(database, 1))
    for crash in range(1, 4):
        claim(database, ids, worker=f"worker-{crash}", alone=crash > SUSPECT_CRASHES)
        run_out_leases(database, ids)
        reaped = reap_expired_leases(database, max_crashes=3)
        assert (reaped.num_requeued, reaped.num_quarantined) == ((1, 0) if crash < 3 else (0, 1))
    row = job_row(database, ids[0])
    assert (row.status, row.error_code) == (JobStatus.FAILED, "quarantined")
    assert row.error_message is not None
    assert row.error_message.startswith("3 workers in a row")
    assert "worker-3" in row.error_message
    assert row.finished_at is not None
    assert attempt_outcomes(database, ids[0]) == [AttemptOutcome.LOST] * 3


@pytest.mark.parametrize("ending", ["success", "failure"])
def test_crashes_in_a_row_are_counted_from_anew_when_an_attempt_ends(database: Engine, ending: str) -> None:
    ids = job_ids(database, accept(database, 1))
    claim(database, ids)
    run_out_leases(database, ids)
    reap_expired_leases(database, max_crashes=3)
    (job,) = claim(database, ids)
    commit(database, [success(job) if ending == "success" else failure(job, status=JobStatus.QUEUED)])
    assert job_row(database, ids[0]).num_crashes == 0


def test_suspects_are_left_out_of_shards_and_taken_one_at_a_time(database: Engine) -> None:
    batch_id = accept(database, 5)
    ids = job_ids(database, batch_id)
    set_job(database, ids[:3], num_crashes=SUSPECT_CRASHES)
    assert dispatch.demands(database, "cpu", limit=100)[0].num_unsent == 2
    assert dispatch.take(database, batch_id, 100) == ids[3:]
    first = dispatch.take_suspect(database, "cpu")
    assert first is not None
    assert first in ids[:3]
    assert dispatch.take_suspect(database, "cpu") is None  # one is on its way
    (job,) = claim(database, [first], alone=True)
    assert dispatch.take_suspect(database, "cpu") is None  # it runs
    commit(database, [success(job)])
    second = dispatch.take_suspect(database, "cpu")
    assert second in ids[:3]
    assert second != first


def test_a_suspect_of_one_profile_does_not_hold_up_another(database: Engine) -> None:
    for profile in ("cpu", "default"):
        ids = job_ids(database, accept(database, 1, new_batch(profile=profile)))
        set_job(database, ids, num_crashes=SUSPECT_CRASHES)
    assert dispatch.take_suspect(database, "cpu") is not None
    assert dispatch.take_suspect(database, "default") is not None
    assert dispatch.take_suspect(database, "other") is None


def test_the_neighbours_of_a_job_that_kills_its_worker_are_unharmed(database: Engine) -> None:
    batch_id = accept(database, 6)
    ids = job_ids(database, batch_id)
    killer = ids[2]
    for _ in range(20):  # rounds of a dispatcher and one worker that dies whenever it holds the killer
        shard = dispatch.take(database, batch_id, 100)
        suspect = None if shard else dispatch.take_suspect(database, "cpu")
        held = claim(database, [suspect], alone=True) if suspect else claim(database, shard)
        if killer in {job.id for job in held}:
            run_out_leases(database, [job.id for job in held])
            reap_expired_leases(database, max_crashes=3)
        else:
            commit(database, [success(job) for job in held])
    expected = ["failed" if job_id == killer else "succeeded" for job_id in ids]
    assert statuses(database, ids) == expected
    assert all(job_row(database, job_id).num_failures == 0 for job_id in ids)


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
    monkeypatch.setattr(endings, "END_LIMIT", 3)
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
    set_job(database, ids[:1], num_crashes=SUSPECT_CRASHES)
    assert dispatch.take_suspect(database, "cpu") is None
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
