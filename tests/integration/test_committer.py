"""Group commit outlives Postgres's outages and every odd outcome."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, select, text

from db import leases
from db.outcomes import Outcome, Success
from db.session import open_database
from db.tables import JobRow
from jobs.errors import PermanentError, TransientError
from jobs.job import ClaimedJob
from tests.factories import accept, claim_batch, job_ids, job_row, statuses, success, wait_until
from workers.attempt import failure_of
from workers.committer import Committer
from workers.settings import Settings

SECONDS = 30.0
"""Until a commit that ought to happen is a hang."""


class Committed:
    """The groups that a committer is done with."""

    def __init__(self) -> None:
        self.groups: queue.SimpleQueue[list[Outcome]] = queue.SimpleQueue()
        self.broken = threading.Event()

    def __call__(self, outcomes: Sequence[Outcome]) -> None:
        self.groups.put(list(outcomes))

    def next_jobs(self) -> list[object]:
        return [outcome.job.id for outcome in self.groups.get(timeout=SECONDS)]


@pytest.fixture
def committed() -> Committed:
    return Committed()


@pytest.fixture
def new_committer(database: Engine, committed: Committed) -> Iterator[Callable[[], Committer]]:
    """Makes committers, which are closed after the test."""
    made: list[Committer] = []

    def make() -> Committer:
        made.append(
            Committer(
                database,
                failure_of=lambda job, error: failure_of(job, error, Settings()),
                on_committed=committed,
                on_broken=committed.broken.set,
            )
        )
        return made[-1]

    yield make
    for committer in made:
        committer.close(SECONDS)


def is_waiting_for_a_lock(database: Engine) -> bool:
    waiting = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with database.connect() as connection:
        return bool(connection.execute(text(waiting)).scalar_one())


def claimed(database: Engine, number: int) -> list[ClaimedJob]:
    return claim_batch(database, accept(database, number))


def test_what_arrives_during_a_commit_is_one_group(
    database: Engine, committed: Committed, new_committer: Callable[[], Committer]
) -> None:
    first, *others = claimed(database, 10)
    committer = new_committer()
    with database.begin() as connection:
        connection.execute(select(JobRow.id).where(JobRow.id == first.id).with_for_update())
        committer.add(success(first))
        wait_until(lambda: is_waiting_for_a_lock(database), "the first commit waits for the row")
        for job in others:
            committer.add(success(job))
    assert committed.next_jobs() == [first.id]
    assert committed.next_jobs() == [job.id for job in others]
    assert committer.num_pending == 0
    assert set(statuses(database, [job.id for job in others])) == {"succeeded"}


def test_closing_commits_what_is_left(database: Engine, new_committer: Callable[[], Committer]) -> None:
    jobs = claimed(database, 3)
    committer = new_committer()
    for job in jobs:
        committer.add(success(job))
    committer.close(SECONDS)
    assert set(statuses(database, [job.id for job in jobs])) == {"succeeded"}


def test_a_group_that_its_fence_refuses_is_done_with_too(
    database: Engine, committed: Committed, new_committer: Callable[[], Committer]
) -> None:
    (job,) = claimed(database, 1)
    leases.give_back(database, {job.id: job.attempt})
    new_committer().add(success(job))
    assert committed.next_jobs() == [job.id]
    assert statuses(database, [job.id]) == ["queued"]


@pytest.mark.parametrize("metrics", [{"set": {1}}, {"nul": "\0"}, {"half": "\ud800"}, {"nan": float("nan")}])
def test_an_outcome_that_cannot_be_stored_fails_its_job_and_no_other(
    database: Engine,
    committed: Committed,
    new_committer: Callable[[], Committer],
    metrics: dict[str, object],
) -> None:
    first, odd, last = claimed(database, 3)
    committer = new_committer()
    for outcome in (success(first), replace(success(odd), metrics=metrics), success(last)):
        committer.add(outcome)
    ids = [first.id, odd.id, last.id]
    wait_until(lambda: "running" not in statuses(database, ids), "each is committed")
    assert statuses(database, ids) == ["succeeded", "failed", "succeeded"]
    assert job_row(database, odd.id).error_code == "result_unstorable"
    (more,) = claimed(database, 1)
    committer.add(success(more))  # the thread lives
    wait_until(lambda: statuses(database, [more.id]) == ["succeeded"], "the next one is committed")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (PermanentError("no such shelf", code="shelf_unknown"), "failed", "shelf_unknown"),
        (TransientError("the shelf is full", code="shelf_full"), "queued", "shelf_full"),
        (KeyError("payload text"), "failed", "result_unstorable"),
        (SystemExit(3), "failed", "result_unstorable"),
    ],
    ids=["permanent", "transient", "fault", "exit"],
)
def test_writer_that_raises_ends_its_own_job_by_name_and_no_other(
    database: Engine,
    new_committer: Callable[[], Committer],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: str,
    code: str,
) -> None:
    first, odd, last = claimed(database, 3)

    def write(_: Connection, records: Sequence[tuple[UUID, object]]) -> None:
        if odd.id in {job_id for job_id, _ in records}:
            raise error

    monkeypatch.setattr("db.outcomes.writer_of", lambda _: write)
    committer = new_committer()
    for job in (first, odd, last):
        committer.add(replace(success(job), records=("a row",)))
    ids = [first.id, odd.id, last.id]
    wait_until(lambda: "running" not in statuses(database, ids), "each is committed")
    assert statuses(database, ids) == ["succeeded", status, "succeeded"]
    assert job_row(database, odd.id).error_code == code
    assert "payload text" not in str(job_row(database, odd.id).error_message)


def test_two_artifacts_of_one_name_fail_the_job_that_made_them(
    database: Engine, new_committer: Callable[[], Committer]
) -> None:
    (job,) = claimed(database, 1)
    once: Success = success(job)
    new_committer().add(replace(once, artifacts=once.artifacts * 2))
    wait_until(lambda: statuses(database, [job.id]) == ["failed"], "it failed")


def test_terminated_connections_cost_no_result(
    database: Engine, database_url: str, new_committer: Callable[[], Committer]
) -> None:
    jobs = claimed(database, 200)
    committer = new_committer()
    other = open_database(database_url, application_name="axe")
    try:
        for number, job in enumerate(jobs):
            committer.add(success(job))
            if number % 20 == 0:
                with other.begin() as connection:
                    connection.execute(
                        text(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                            "WHERE datname = current_database() AND application_name = 'pressroom'"
                        )
                    )
    finally:
        other.dispose()
    committer.close(SECONDS)
    ids = [job.id for job in jobs]
    wait_until(lambda: set(statuses(database, ids)) == {"succeeded"}, "every result is committed")


def test_a_database_that_lets_nobody_in_is_waited_for(
    database: Engine, services_admin: Callable[[str], None], new_committer: Callable[[], Committer]
) -> None:
    (job,) = claimed(database, 1)
    name = database.url.database
    services_admin(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    services_admin(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    committer = new_committer()
    committer.add(success(job))
    services_admin(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    committer.close(SECONDS)
    assert statuses(database, job_ids(database, job.batch_id)) == ["succeeded"]


def test_a_database_that_is_read_only_after_a_failover_is_waited_for(
    database: Engine,
    services_admin: Callable[[str], None],
    new_committer: Callable[[], Committer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (job,) = claimed(database, 1)
    name = database.url.database
    services_admin(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    services_admin(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    committer = new_committer()
    committer.add(success(job))
    wait_until(lambda: "retried" in caplog.text, "the commit was refused")
    services_admin(f'ALTER DATABASE "{name}" SET default_transaction_read_only = off')
    services_admin(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    committer.close(SECONDS)
    assert statuses(database, [job.id]) == ["succeeded"]


def test_a_committer_that_can_never_commit_says_so(
    database: Engine, committed: Committed, new_committer: Callable[[], Committer]
) -> None:
    (job,) = claimed(database, 1)
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE jobs RENAME TO elsewhere"))
    new_committer().add(success(job))
    assert committed.broken.wait(SECONDS)
