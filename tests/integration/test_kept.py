"""Results are kept by what they were made from: on real Postgres, under the fence of their job."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Engine, delete, func, update

from db import leases
from db.kept import DatabaseKeptResults, classify, cost_of_kept, find_kept, known_keys
from db.outcomes import Success, commit
from db.tables import BatchRow, JobRow
from jobs.inference import Usage
from jobs.job import ClaimedJob
from jobs.kept import Cost, Kept, KeptStatus
from tests.factories import accept, claim_batch, success


def kept(key: str, subject: str = "row-1", text: str = "a text", keep: str = "") -> Kept:
    return Kept(keep=keep, key=key, subject=subject, value={"text": text})


def keeping(job: ClaimedJob, *results: Kept, new_tokens: int = 5) -> Success:
    """An outcome of a job that keeps these results."""
    return replace(success(job), kept=results, usage=Usage(prompt_tokens=1, new_tokens=new_tokens))


def claimed(database: Engine, number: int) -> list[ClaimedJob]:
    return claim_batch(database, accept(database, number))


def texts(database: Engine, keys: Sequence[str], keep: str = "") -> dict[str, object]:
    found = find_kept(database, "trial", keys, keep=keep)
    return {key: result.value["text"] for key, result in found.items()}


def test_result_is_kept_with_its_job_and_names_the_statement_that_tells_how_it_was_made(
    database: Engine,
) -> None:
    (job,) = claimed(database, 1)
    outcome = keeping(job, kept("k1"))
    commit(database, [outcome])
    result = find_kept(database, "trial", ["k1", "unknown"])["k1"]
    assert (result.subject, result.value, result.job_id) == ("row-1", {"text": "a text"}, job.id)
    assert result.statement_sha256 == outcome.statement.sha256
    assert known_keys(database, "trial", ["k1", "unknown"]) == {"k1"}


def test_job_that_was_lost_keeps_nothing(database: Engine) -> None:
    (job,) = claimed(database, 1)
    leases.give_back(database, {job.id: job.attempt})
    assert commit(database, [keeping(job, kept("k1"))]) == []
    assert known_keys(database, "trial", ["k1"]) == frozenset()


def test_key_keeps_its_first_result(database: Engine) -> None:
    first, second, third = claimed(database, 3)
    commit(database, [keeping(first, kept("k1", text="first"))])
    commit(database, [keeping(second, kept("k1", text="second")), keeping(third, kept("k2", text="third"))])
    assert texts(database, ["k1", "k2"]) == {"k1": "first", "k2": "third"}


def test_names_and_kinds_have_results_of_their_own(database: Engine) -> None:
    first, second = claimed(database, 2)
    outcomes = [
        keeping(first, kept("k1", text="of spring", keep="spring")),
        keeping(second, kept("k1", text="of autumn", keep="autumn")),
    ]
    commit(database, outcomes)
    assert texts(database, ["k1"], keep="spring") == {"k1": "of spring"}
    assert (
        DatabaseKeptResults(database, "trial").find(["k1"], keep="autumn")["k1"].value["text"] == "of autumn"
    )
    assert DatabaseKeptResults(database, "two_stage").known(["k1"], keep="spring") == frozenset()


def test_transactions_that_keep_the_same_keys_in_other_orders_do_not_deadlock(database: Engine) -> None:
    keys = [f"k{number:03}" for number in range(200)]
    first, second = claimed(database, 2)
    with ThreadPoolExecutor(2) as pool:
        commits = [
            pool.submit(commit, database, [keeping(job, *map(kept, order))])
            for job, order in ((first, keys), (second, keys[::-1]))
        ]
        assert [each.result() for each in commits] == [[first.id], [second.id]]
    assert known_keys(database, "trial", keys) == set(keys)


def test_row_is_new_changed_or_unchanged(database: Engine) -> None:
    (job,) = claimed(database, 1)
    commit(database, [keeping(job, kept("k1", "row-1", keep="spring"), kept("k2", "row-2", keep="spring"))])
    rows = [("row-1", "k1"), ("row-2", "k2-changed"), ("row-3", "k3"), ("renumbered", "k2")]
    assert classify(database, "trial", rows, keep="spring") == [
        KeptStatus.UNCHANGED,
        KeptStatus.CHANGED,
        KeptStatus.NEW,
        KeptStatus.UNCHANGED,
    ]
    assert set(classify(database, "trial", rows, keep="autumn")) == {KeptStatus.NEW}


def ran_for(database: Engine, ids: Sequence[UUID], seconds: float) -> None:
    """Let the jobs have started at the same instant and have run for this long."""
    finished_at = func.now()
    with database.begin() as connection:
        connection.execute(
            update(JobRow)
            .where(JobRow.id.in_(ids))
            .values(started_at=finished_at - timedelta(seconds=seconds), finished_at=finished_at)
        )


def test_cost_is_that_of_the_latest_results_at_the_rate_of_the_batch_that_made_most(database: Engine) -> None:
    assert cost_of_kept(database, "trial", keep="spring") is None
    full = claimed(database, 4)
    outcomes = [
        keeping(job, kept(f"k{number}", keep="spring"), new_tokens=100) for number, job in enumerate(full)
    ]
    commit(database, outcomes)
    ran_for(database, [job.id for job in full], 2)
    (single,) = claimed(database, 1)
    commit(database, [keeping(single, kept("k9", keep="spring"), new_tokens=50)])
    ran_for(database, [single.id], 25)
    assert cost_of_kept(database, "trial", keep="spring") == Cost(90, 200)
    assert cost_of_kept(database, "trial", keep="autumn") is None


def test_results_of_one_job_share_its_tokens(database: Engine) -> None:
    (job,) = claimed(database, 1)
    commit(database, [keeping(job, kept("k1"), kept("k2"), new_tokens=100)])
    ran_for(database, [job.id], 10)
    assert cost_of_kept(database, "trial") == Cost(50, 10)


def test_result_outlives_the_batch_that_made_it(database: Engine) -> None:
    (job,) = claimed(database, 1)
    outcome = keeping(job, kept("k1"))
    commit(database, [outcome])
    with database.begin() as connection:
        connection.execute(delete(BatchRow).where(BatchRow.id == job.batch_id))
    result = find_kept(database, "trial", ["k1"])["k1"]
    assert (result.job_id, result.statement_sha256) == (job.id, outcome.statement.sha256)
    assert cost_of_kept(database, "trial") == Cost(5, None)
