"""What people and programs ask: counts that add up, results in order, every attempt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Engine, update
from sqlalchemy.pool import QueuePool

from db import batches, recovery, reports, workers
from db.batches import BatchNotFoundError
from db.outcomes import commit
from db.reports import JobNotFoundError, batch_status, find_job, job_detail, list_batches, stream_results
from db.stages import STREAM_ROWS, NewJob
from db.tables import WorkerRow
from jobs.batch import BatchStatus
from jobs.inference import Usage
from jobs.job import AttemptOutcome, JobStatus
from tests.factories import accept, claim, claim_batch, failure, job_ids, new_batch, run_out_leases, success
from workers.stages import close_stages


def test_counts_add_up_over_every_state(database: Engine) -> None:
    batch_id, _ = batches.accept(
        database, new_batch(), [NewJob(str(n), {"text": "t"}) for n in range(7)], lambda: 4
    )
    ids = job_ids(database, batch_id)
    jobs = claim(database, ids[:5])
    commit(database, [success(jobs[0]), success(jobs[1]), failure(jobs[2]), failure(jobs[3], code="other")])
    commit(database, [failure(jobs[4], status=JobStatus.EXPIRED)])
    claim(database, ids[5:6])
    counts = batch_status(database, batch_id).counts
    assert counts.as_json() == {
        "total": 7,
        "queued": 1,
        "running": 1,
        "succeeded": 2,
        "failed": 2,
        "cancelled": 0,
        "expired": 1,
        "rejected": 4,
    }
    assert (counts.open, counts.complete) == (2, False)
    batches.cancel(database, batch_id)
    report = batch_status(database, batch_id)
    assert report.counts.cancelled == 2
    assert report.counts.total == 7
    assert report.status is BatchStatus.CANCELLED


def test_a_report_sums_tokens_and_spans_first_claim_to_last_commit(database: Engine) -> None:
    batch_id = accept(database, 3)
    before = batch_status(database, batch_id)
    assert (before.first_claim_at, before.last_commit_at, before.working_seconds) == (None, None, 0.0)
    first, second, _ = claim_batch(database, batch_id)
    commit(database, [success(first), success(second)])
    report = batch_status(database, batch_id)
    assert report.usage == Usage(20, 8, 10)
    assert report.first_claim_at is not None
    assert report.last_commit_at is not None
    assert report.working_seconds == (report.last_commit_at - report.first_claim_at).total_seconds() > 0


def test_lost_attempts_and_cancellations_do_not_move_the_first_claim_and_the_last_commit(
    database: Engine,
) -> None:
    batch_id = accept(database, 2)
    ids = job_ids(database, batch_id)
    claim(database, ids[:1])
    first = batch_status(database, batch_id).first_claim_at
    assert first is not None
    run_out_leases(database, ids[:1])
    recovery.reap_expired_leases(database, max_crashes=3)
    (job, _) = claim_batch(database, batch_id)
    commit(database, [success(job)])
    last = batch_status(database, batch_id).last_commit_at
    batches.cancel(database, batch_id)
    report = batch_status(database, batch_id)
    assert (report.first_claim_at, report.last_commit_at) == (first, last)


def test_the_totals_cover_every_stage(database: Engine) -> None:
    batch_id = accept(database, 2, new_batch(kind="two_stage", stages=("draft", "polish")))
    commit(database, [success(job) for job in claim_batch(database, batch_id)])
    close_stages(database, batch_id)
    claim(database, job_ids(database, batch_id, stage=1)[:1])
    counts = batch_status(database, batch_id).counts
    assert (counts.total, counts.succeeded, counts.running, counts.queued) == (4, 2, 1, 1)


def test_the_most_frequent_errors_come_first(database: Engine) -> None:
    batch_id = accept(database, 3)
    jobs = claim_batch(database, batch_id)
    commit(database, [failure(jobs[0], code="rare"), failure(jobs[1]), failure(jobs[2])])
    assert batch_status(database, batch_id).top_errors == (("trial_permanent", 2), ("rare", 1))


def test_a_report_says_why_nothing_runs(database: Engine) -> None:
    batch_id = accept(database, 1)

    def reason() -> str:
        return batch_status(database, batch_id).waiting_reason or ""

    assert "waiting for a worker of profile 'cpu'" in reason()
    workers.register(database, "w", profile="cpu", device="cpu", host="h", pid=1)
    assert "loading" in reason()
    workers.mark_ready(database, "w", max_jobs_in_flight=1)
    assert "being sent to workers" in reason()
    with database.begin() as connection:  # killed: it never said that it stopped
        long_ago = datetime.now(UTC) - timedelta(hours=1)
        connection.execute(update(WorkerRow).values(seen_at=long_ago))
    assert "waiting for a worker of profile 'cpu'" in reason()
    workers.register(database, "failed", profile="cpu", device="cpu", host="h", pid=1)
    assert "loading" in reason()
    with database.begin() as connection:  # and never became ready
        connection.execute(update(WorkerRow).values(started_at=long_ago, seen_at=long_ago))
    assert "waiting for a worker of profile 'cpu'" in reason()
    claim_batch(database, batch_id)
    assert reason() == ""


def test_results_stream_in_input_order_whatever_the_order_of_work(database: Engine) -> None:
    batch_id = accept(database, 1200)  # more than a page
    jobs = claim_batch(database, batch_id)
    commit(database, [success(job, job.custom_id) for job in jobs[::-1]])
    results = list(stream_results(database, batch_id))
    assert [result.custom_id for result in results] == [f"line-{n}" for n in range(1200)]
    assert results[7].metrics == {"text": "line-7"}
    assert results[7].artifact_name == "trial.txt"


def test_results_can_be_had_by_state(database: Engine) -> None:
    batch_id = accept(database, 3)
    jobs = claim_batch(database, batch_id)
    commit(database, [success(jobs[1]), failure(jobs[2])])
    some = stream_results(database, batch_id, statuses=(JobStatus.SUCCEEDED, JobStatus.FAILED))
    assert [(result.custom_id, result.status) for result in some] == [
        ("line-1", JobStatus.SUCCEEDED),
        ("line-2", JobStatus.FAILED),
    ]


def test_results_are_those_of_the_last_stage(database: Engine) -> None:
    batch_id = accept(database, 2, new_batch(kind="two_stage", stages=("draft", "polish")))
    commit(database, [success(job, job.custom_id) for job in claim_batch(database, batch_id)])
    close_stages(database, batch_id)
    assert [r.payload["text"] for r in stream_results(database, batch_id)] == [
        "line-0, polished",
        "line-1, polished",
    ]


def test_no_connection_is_held_while_results_are_read(database: Engine) -> None:
    batch_id = accept(database, STREAM_ROWS + 1)
    results = stream_results(database, batch_id)
    assert next(results).custom_id == "line-0"
    pool = database.pool
    assert isinstance(pool, QueuePool)
    assert pool.checkedout() == 0
    assert sum(1 for _ in results) == STREAM_ROWS


def test_a_job_is_shown_with_every_attempt(database: Engine) -> None:
    batch_id = accept(database, 1, new_batch(name="file.csv"))
    (first,) = claim_batch(database, batch_id, worker="worker-a")
    commit(database, [failure(first, status=JobStatus.QUEUED, code="later")])
    (second,) = claim_batch(database, batch_id, worker="worker-b")
    commit(database, [success(second)])
    detail = job_detail(database, first.id)
    assert (detail.batch_id, detail.batch_name, detail.kind) == (batch_id, "file.csv", "trial")
    assert [(a.attempt, a.worker_id, a.outcome, a.error_code) for a in detail.attempts] == [
        (1, "worker-a", AttemptOutcome.FAILED, "later"),
        (2, "worker-b", AttemptOutcome.SUCCEEDED, None),
    ]
    assert all(a.ended_at is not None and a.ended_at >= a.started_at for a in detail.attempts)


def test_a_line_is_found_by_its_id_in_the_last_stage(database: Engine) -> None:
    batch_id = accept(database, 1, new_batch(kind="two_stage", stages=("draft", "polish")))
    assert find_job(database, batch_id, "line-0") == job_ids(database, batch_id)[0]
    commit(database, [success(job) for job in claim_batch(database, batch_id)])
    close_stages(database, batch_id)
    assert find_job(database, batch_id, "line-0") == job_ids(database, batch_id, stage=1)[0]


def test_unknown_ids_are_named(database: Engine) -> None:
    unknown = uuid4()
    with pytest.raises(BatchNotFoundError, match=str(unknown)):
        batch_status(database, unknown)
    with pytest.raises(JobNotFoundError, match=str(unknown)):
        job_detail(database, unknown)
    with pytest.raises(JobNotFoundError, match="nobody"):
        find_job(database, unknown, "nobody")
    assert list(stream_results(database, unknown)) == []


def test_the_newest_batches_come_first(database: Engine) -> None:
    made = [accept(database, 1, new_batch(name=f"batch {n}")) for n in range(3)]
    assert [row[0] for row in list_batches(database, limit=2)] == made[:0:-1]
    assert reports.list_batches(database, limit=10)[0][1:4] == ("batch 2", "trial", BatchStatus.RUNNING)
