"""Group commit: each outcome under its own fence, all in one transaction."""

from __future__ import annotations

import json
from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import DataError

from db import leases, recovery
from db.outcomes import StoredArtifact, StoredStatement, Success, commit
from db.reports import job_detail
from db.tables import ArtifactRow, StatementRow
from jobs.inference import Usage
from jobs.job import AttemptOutcome, ClaimedJob, JobStatus
from tests.factories import (
    accept,
    attempt_outcomes,
    claim,
    claim_batch,
    failure,
    job_row,
    run_out_leases,
    statuses,
    success,
)


def num_rows(database: Engine, table: type[ArtifactRow | StatementRow]) -> int:
    with database.connect() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def reclaimed_after_a_crash(database: Engine) -> tuple[ClaimedJob, ClaimedJob]:
    """The same job as its dead worker held it and as the next one does."""
    (stale,) = claim_batch(database, accept(database, 1), worker="worker-a")
    run_out_leases(database, [stale.id])
    recovery.reap_expired_leases(database, max_crashes=3)
    (current,) = claim(database, [stale.id], worker="worker-b")
    return stale, current


def test_a_group_of_successes_and_failures_is_written_together(database: Engine) -> None:
    first, second, third = claim_batch(database, accept(database, 3))
    written = commit(
        database, [success(first), failure(second), failure(third, status=JobStatus.QUEUED, code="later")]
    )
    assert set(written) == {first.id, second.id, third.id}
    assert statuses(database, [first.id, second.id, third.id]) == ["succeeded", "failed", "queued"]
    assert num_rows(database, ArtifactRow) == num_rows(database, StatementRow) == 1
    detail = job_detail(database, first.id)
    assert detail.result.statement == b"{}"
    assert detail.result.usage.new_tokens == 5
    assert detail.result.metrics == {"text": "done"}
    assert attempt_outcomes(database, first.id) == [AttemptOutcome.SUCCEEDED]
    assert attempt_outcomes(database, third.id) == [AttemptOutcome.FAILED]


def test_a_late_commit_after_reap_and_reclaim_changes_nothing(database: Engine) -> None:
    stale, current = reclaimed_after_a_crash(database)
    assert commit(database, [success(stale, "late")]) == []
    assert commit(database, [failure(stale)]) == []
    assert statuses(database, [stale.id]) == [JobStatus.RUNNING]
    assert num_rows(database, ArtifactRow) == 0
    assert commit(database, [success(current, "in time")]) == [current.id]
    assert commit(database, [success(stale, "later still")]) == []
    assert job_detail(database, stale.id).result.metrics == {"text": "in time"}
    assert attempt_outcomes(database, stale.id) == [AttemptOutcome.LOST, AttemptOutcome.SUCCEEDED]


def test_a_commit_before_the_reaper_comes_is_in_time_although_the_lease_ran_out(database: Engine) -> None:
    (job,) = claim_batch(database, accept(database, 1))
    run_out_leases(database, [job.id])
    assert commit(database, [success(job)]) == [job.id]
    assert recovery.reap_expired_leases(database, max_crashes=3).num_requeued == 0


def test_a_group_commit_writes_only_what_is_still_ours(database: Engine) -> None:
    first, second = claim_batch(database, accept(database, 2))
    leases.give_back(database, {first.id: 1})
    assert commit(database, [success(first), success(second)]) == [second.id]
    assert statuses(database, [first.id, second.id]) == ["queued", "succeeded"]
    assert num_rows(database, ArtifactRow) == 1


@pytest.mark.parametrize("stale_first", [True, False])
def test_two_attempts_of_a_job_in_one_group_leave_the_current_one(
    database: Engine, stale_first: bool
) -> None:
    stale, current = reclaimed_after_a_crash(database)
    group = [success(stale, "stale"), success(current, "current")]
    assert commit(database, group if stale_first else group[::-1]) == [current.id]
    assert job_detail(database, current.id).result.metrics == {"text": "current"}


def test_the_same_commit_again_changes_nothing(database: Engine) -> None:
    (job,) = claim_batch(database, accept(database, 1))
    assert commit(database, [success(job)]) == [job.id]
    assert commit(database, [success(job)]) == []
    assert num_rows(database, ArtifactRow) == num_rows(database, StatementRow) == 1


def test_a_retry_waits_for_its_backoff_and_keeps_the_error(database: Engine) -> None:
    (job,) = claim_batch(database, accept(database, 1))
    commit(database, [failure(job, status=JobStatus.QUEUED, code="later", retry_after_seconds=60)])
    row = job_row(database, job.id)
    assert timedelta(seconds=55) < row.available_at - datetime.now(UTC) <= timedelta(seconds=60)
    assert (row.num_failures, row.error_code, row.finished_at) == (1, "later", None)
    assert claim(database, [job.id]) == []


def test_every_attempt_keeps_its_own_error(database: Engine) -> None:
    (first,) = claim_batch(database, accept(database, 1))
    commit(database, [failure(first, status=JobStatus.QUEUED, code="one", message="the first")])
    (second,) = claim(database, [first.id])
    commit(database, [failure(second, code="two", message="the second")])
    detail = job_detail(database, first.id)
    assert [(a.error_code, a.error_message) for a in detail.attempts] == [
        ("one", "the first"),
        ("two", "the second"),
    ]
    assert (detail.result.status, detail.result.error_code) == (JobStatus.FAILED, "two")


def test_each_success_of_a_group_keeps_its_own_values(database: Engine) -> None:
    """Values are sent by column, so a value in the wrong row would be another job's."""
    first, second = claim_batch(database, accept(database, 2))
    whole = success(first, text='gr\u00fcn {"a", NULL}')
    part = replace(
        success(second, text="packed"),
        artifacts=tuple(
            StoredArtifact(
                name=name,
                object_key="packs/ab",
                byte_offset=offset,
                sha256=str(offset) * 64,
                num_bytes=2**40 + offset,
                media_type="text/plain",
            )
            for name, offset in (("a\\b.txt", 1), ("c,d.txt", 2))
        ),
        statement=StoredStatement(body=b"\0\\x'\xff", sha256="9" * 64, object_key="packs/ab", byte_offset=7),
        metrics={},
        output=None,
        usage=Usage(prompt_tokens=1, cached_tokens=2, new_tokens=3),
    )
    commit(database, [whole, part])
    for outcome in (whole, part):
        row = job_row(database, outcome.job.id)
        assert row.metrics == outcome.metrics
        assert row.output == (None if outcome.output is None else json.loads(outcome.output))
        usage = outcome.usage
        assert (row.prompt_tokens, row.cached_tokens, row.new_tokens) == astuple(usage)
        with database.connect() as connection:
            artifacts = connection.execute(
                select(ArtifactRow.__table__)
                .where(ArtifactRow.job_id == outcome.job.id)
                .order_by(ArtifactRow.number)
            ).all()
            statement = connection.execute(
                select(StatementRow.__table__).where(StatementRow.job_id == outcome.job.id)
            ).one()
        assert [
            StoredArtifact(
                name=each.name,
                object_key=each.object_key,
                byte_offset=each.byte_offset,
                sha256=each.sha256,
                num_bytes=each.num_bytes,
                media_type=each.media_type,
            )
            for each in artifacts
        ] == list(outcome.artifacts)
        kept = StoredStatement(
            body=bytes(statement.body),
            sha256=statement.sha256,
            object_key=statement.object_key,
            byte_offset=statement.byte_offset,
        )
        assert kept == outcome.statement


def test_a_success_after_failures_clears_the_error_of_the_job(database: Engine) -> None:
    (first,) = claim_batch(database, accept(database, 1))
    commit(database, [failure(first, status=JobStatus.QUEUED)])
    (second,) = claim(database, [first.id])
    commit(database, [success(second)])
    row = job_row(database, first.id)
    assert (row.status, row.error_code, row.error_message) == (JobStatus.SUCCEEDED, None, None)
    assert row.finished_at is not None


def test_one_outcome_that_postgres_refuses_undoes_its_group(database: Engine) -> None:
    good, bad = claim_batch(database, accept(database, 2))
    refused = Success(
        job=bad,
        artifacts=success(bad).artifacts,
        statement=success(bad).statement,
        metrics={"nul": "\0"},
        usage=success(bad).usage,
    )
    with pytest.raises(DataError):
        commit(database, [success(good), refused])
    assert statuses(database, [good.id, bad.id]) == ["running", "running"]
