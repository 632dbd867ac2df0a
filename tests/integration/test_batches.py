"""Batches: accepted whole or not at all, their stages closed and planned once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Barrier
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import Engine, func, null, select, text, update
from sqlalchemy.exc import OperationalError

from db import batches, ending, leases
from db.batches import BatchNotFoundError, cancel, retry_unfinished
from db.dispatch import running_profiles
from db.ending import CANCELLED, end_jobs
from db.outcomes import commit
from db.reports import batch_status, job_detail
from db.session import open_database
from db.stages import (
    MAX_PLAN_FAILURES,
    ClosedStage,
    JobsRefusedError,
    NewJob,
    close_finished_stages,
    note_plan_failure,
    stage_outputs,
)
from db.tables import BatchRow, JobRow, StageRow
from jobs.batch import BatchStatus, NewBatch, NewStage
from jobs.job import AttemptOutcome, JobStatus, job_id
from tests.factories import (
    accept,
    attempt_outcomes,
    claim,
    claim_batch,
    failure,
    job_ids,
    job_row,
    new_batch,
    new_jobs,
    statuses,
    success,
)
from tests.plugins.kinds import TrialOutput
from workers.stages import close_stages

ODD_TEXTS = [
    "tab\there",
    "line\nbreak\r\nand\rmore",
    'quotes " and \' and "" and , ; |',
    "backslash \\ \\n \\. \\N",
    "\\N",
    "\\.",
    "emoji 🗞️👩‍👩‍👧‍👦 and ünïcödé and 新聞 and \u202eright-to-left",
    "{braces} %s %(x)s $1 :name",
    " leading and trailing ",
    "NULL",
    "",
]


def two_stages() -> NewBatch:
    return new_batch(kind="two_stage", stages=("draft", "polish"))


def finish(database: Engine, batch_id: UUID, stage: int = 0) -> None:
    """Every job of the stage succeeds."""
    commit(database, [success(job, job.custom_id) for job in claim_batch(database, batch_id, stage=stage)])


def no_plan(closed: ClosedStage) -> Iterable[NewJob]:
    raise AssertionError(f"nobody was to plan {closed.next_name}")


def batch_state(database: Engine, batch_id: UUID) -> BatchStatus:
    return batch_status(database, batch_id).status


def num_batches(database: Engine) -> int:
    with database.connect() as connection:
        return connection.scalar(select(func.count()).select_from(BatchRow)) or 0


@pytest.mark.parametrize("odd", ODD_TEXTS)
def test_odd_text_comes_out_of_the_copy_as_it_went_in(database: Engine, odd: str) -> None:
    batch_id = accept(database, [NewJob(odd, {"text": odd, odd: [odd, {"deep": odd}]}, prefix_group=odd)])
    row = job_row(database, job_ids(database, batch_id)[0])
    assert (row.custom_id, row.prefix_group) == (odd, odd)
    assert row.payload == {"text": odd, odd: [odd, {"deep": odd}]}


def test_nothing_is_accepted_when_the_iterator_raises(database: Engine) -> None:
    def jobs() -> Iterator[NewJob]:
        yield from new_jobs(5)
        raise ValueError("line 6 ends the file")

    with pytest.raises(ValueError, match="line 6"):
        accept(database, jobs())
    assert num_batches(database) == 0
    accept(database, 1)  # the connection is good for the next one


def test_nothing_is_accepted_when_the_user_interrupts_while_rows_are_being_sent(database: Engine) -> None:
    def jobs() -> Iterator[NewJob]:
        for number in range(5_000):  # several blocks of rows
            yield NewJob(f"line-{number}", {"text": "x" * 1_000})
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        accept(database, jobs())
    assert num_batches(database) == 0
    accept(database, 1)


def test_rows_of_several_blocks_keep_their_order_and_their_ids(database: Engine) -> None:
    jobs = [NewJob(f"line-{number}", {"text": "x" * (number % 3_000)}) for number in range(2_000)]
    batch_id = accept(database, jobs)
    with database.connect() as connection:
        rows = connection.execute(
            select(JobRow.id, JobRow.custom_id, JobRow.payload)
            .where(JobRow.batch_id == batch_id)
            .order_by(JobRow.position)
        ).all()
    assert [(row.custom_id, row.payload) for row in rows] == [(job.custom_id, job.payload) for job in jobs]
    assert [row.id for row in rows] == [job_id(batch_id, 0, position) for position in range(2_000)]
    assert batch_status(database, batch_id).counts.total == 2_000


@pytest.mark.parametrize(
    "jobs",
    [
        [NewJob("twice", {}), NewJob("twice", {})],
        [NewJob("nul", {"text": "\0"})],
        [NewJob("surrogate", {"text": "\ud800"})],
        [NewJob("no number", {"text": float("nan")})],
        [NewJob("id with nul \0", {})],
    ],
)
def test_jobs_that_postgres_refuses_are_refused_whole_and_by_name(
    database: Engine, jobs: list[NewJob]
) -> None:
    with pytest.raises(JobsRefusedError):
        accept(database, [*new_jobs(3), *jobs])
    assert num_batches(database) == 0
    accept(database, 1)


@pytest.mark.attack("control characters in a name or a text")
def test_postgres_is_told_no_foreign_message_to_log(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    finish = psycopg.Copy.finish

    def spied(copy: psycopg.Copy, error: BaseException | None) -> None:
        told.append(str(error))
        finish(copy, error)

    def jobs() -> Iterator[NewJob]:
        yield from new_jobs(2)
        raise ValueError("a\x1b[2J\nFATAL: forged")

    monkeypatch.setattr(psycopg.Copy, "finish", spied)
    with pytest.raises(ValueError, match="forged"):
        accept(database, jobs())
    assert told == ["ValueError"]


def test_a_connection_lost_during_the_copy_is_an_error_of_the_database(database: Engine) -> None:
    def jobs() -> Iterator[NewJob]:
        yield from new_jobs(2)
        with database.connect() as other:
            other.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND query LIKE 'COPY%'"
                )
            )
        for number in range(100_000):  # until the socket's buffer is full, at the latest
            yield NewJob(f"more-{number}", {"text": "x" * 1000})

    with pytest.raises(OperationalError):
        accept(database, jobs())
    assert num_batches(database) == 0


def test_a_copy_may_take_longer_than_a_statement_of_other_kinds(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.session.STATEMENT_TIMEOUT_MILLISECONDS", 50)
    impatient = open_database(database_url)

    def jobs() -> Iterator[NewJob]:
        yield from new_jobs(1)
        time.sleep(0.2)  # the time to pass is the point: there is no event to wait for
        yield NewJob("late", {})

    try:
        assert len(job_ids(impatient, accept(impatient, jobs()))) == 2
    finally:
        impatient.dispose()


def test_the_number_of_refused_lines_is_asked_after_the_last_line(database: Engine) -> None:
    num_rejected = 0

    def jobs() -> Iterator[NewJob]:
        nonlocal num_rejected
        yield NewJob("good", {})
        num_rejected = 2

    batch_id, _ = batches.accept(database, new_batch(), jobs(), lambda: num_rejected)
    assert batch_status(database, batch_id).counts.rejected == 2


def test_the_same_key_returns_the_same_batch_for_each_tenant(database: Engine) -> None:
    def submit(tenant: str, key: str | None) -> tuple[UUID, bool]:
        batch = new_batch(tenant=tenant, idempotency_key=key)
        return batches.accept(database, batch, new_jobs(2), lambda: 0)

    first, created = submit("a", "key")
    assert created
    assert submit("a", "key") == (first, False)
    assert submit("b", "key")[1]
    assert submit("a", None)[1]
    assert submit("a", None)[1]
    assert len(job_ids(database, first)) == 2


def test_two_producers_with_one_key_at_once_make_one_batch(database: Engine) -> None:
    barrier = Barrier(4)

    def submit(_: int) -> tuple[UUID, bool]:
        barrier.wait()
        batch = new_batch(idempotency_key="key")
        return batches.accept(database, batch, new_jobs(20), lambda: 0)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(submit, range(4)))
    assert len({batch_id for batch_id, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1
    assert num_batches(database) == 1
    assert len(job_ids(database, answers[0][0])) == 20


def test_a_key_is_free_again_when_its_first_batch_was_not_accepted(database: Engine) -> None:
    def broken() -> Iterator[NewJob]:
        yield NewJob("one", {})
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - the test's own
        accept(database, broken(), new_batch(idempotency_key="key"))
    _, created = batches.accept(database, new_batch(idempotency_key="key"), new_jobs(1), lambda: 0)
    assert created


def test_a_batch_finishes_when_its_last_job_is_final_and_not_before(database: Engine) -> None:
    batch_id = accept(database, 2)
    first, second = claim_batch(database, batch_id)
    commit(database, [success(first)])
    assert not close_finished_stages(database, batch_id, no_plan)
    assert batch_state(database, batch_id) is BatchStatus.RUNNING
    commit(database, [failure(second)])
    assert close_finished_stages(database, batch_id, no_plan)
    assert batch_state(database, batch_id) is BatchStatus.FINISHED
    assert not close_finished_stages(database, batch_id, no_plan)


def test_a_batch_without_jobs_finishes(database: Engine) -> None:
    batch_id = accept(database, 0)
    assert close_stages(database, batch_id)
    assert batch_state(database, batch_id) is BatchStatus.FINISHED


def test_closing_an_unknown_batch_is_no_error(database: Engine) -> None:
    assert not close_finished_stages(database, uuid4(), no_plan)


def test_the_next_stage_is_planned_by_an_installed_kind_from_the_results_of_the_last(
    database: Engine,
) -> None:
    batch_id = accept(database, 3, two_stages())
    drafts = claim_batch(database, batch_id)
    commit(database, [success(drafts[0], "a"), failure(drafts[1]), success(drafts[2], "c")])
    assert not close_stages(database, batch_id)
    polished = claim_batch(database, batch_id, stage=1)
    assert [(job.custom_id, job.payload["text"]) for job in polished] == [
        ("line-0", "a, polished"),
        ("line-2", "c, polished"),
    ]
    assert batch_state(database, batch_id) is BatchStatus.RUNNING
    commit(database, [success(job) for job in polished])
    assert close_stages(database, batch_id)
    assert batch_state(database, batch_id) is BatchStatus.FINISHED


def test_committers_that_close_a_stage_at_once_plan_the_next_one_once(database: Engine) -> None:
    batch_id = accept(database, 10, two_stages())
    finish(database, batch_id)
    barrier = Barrier(4)

    def close(_: int) -> bool:
        barrier.wait()
        return close_stages(database, batch_id)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(close, range(4))) == [False] * 4
    assert len(job_ids(database, batch_id, stage=1)) == 10
    finish(database, batch_id, stage=1)
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(close, range(4))) == 1


def test_a_stage_for_which_nothing_is_planned_is_passed_over(database: Engine) -> None:
    batch_id = accept(database, 1, two_stages())
    (job,) = claim_batch(database, batch_id)
    commit(database, [failure(job)])  # nothing succeeded: nothing to polish
    assert close_stages(database, batch_id)
    assert batch_state(database, batch_id) is BatchStatus.FINISHED
    with database.connect() as connection:
        rows = connection.execute(select(StageRow.opened_at, StageRow.closed_at)).all()
    assert all(row.opened_at is not None and row.closed_at is not None for row in rows)


def test_a_stage_that_cannot_be_planned_leaves_everything_as_it_was(database: Engine) -> None:
    batch_id = accept(database, 1, new_batch(kind="unplannable", stages=("draft", "polish")))
    finish(database, batch_id)
    assert not close_stages(database, batch_id)
    assert not close_stages(database, batch_id)  # tried again by the reconciler, without harm
    assert batch_state(database, batch_id) is BatchStatus.RUNNING
    assert job_ids(database, batch_id, stage=1) == []


def test_a_stage_that_can_never_be_planned_fails_its_batch_with_the_reason(database: Engine) -> None:
    batch_id = accept(database, 1, new_batch(kind="unplannable", stages=("draft", "polish")))
    finish(database, batch_id)
    for _ in range(MAX_PLAN_FAILURES - 1):
        assert not note_plan_failure(database, batch_id, "KeyError")
    assert note_plan_failure(database, batch_id, "KeyError")
    report = batch_status(database, batch_id)
    assert (report.status, report.waiting_reason) == (BatchStatus.FAILED, "KeyError")
    retry_unfinished(database, batch_id)
    assert batch_state(database, batch_id) is BatchStatus.RUNNING


def test_outputs_of_a_stage_are_streamed_in_order(database: Engine) -> None:
    batch_id = accept(database, 30, two_stages())
    finish(database, batch_id)
    drafts = list(stage_outputs(database, batch_id, "draft", TrialOutput))
    assert drafts == [(f"line-{n}", TrialOutput(text=f"line-{n}")) for n in range(30)]
    assert list(stage_outputs(database, batch_id, "absent", TrialOutput)) == []


@pytest.mark.parametrize("output", [None, {"text": 1}, {"text": "secret", "more": "secret"}, ["secret"]])
def test_an_output_that_does_not_fit_fails_the_batch_and_names_its_job(
    database: Engine, output: object
) -> None:
    batch_id = accept(database, 2, two_stages())
    finish(database, batch_id)
    last = job_ids(database, batch_id)[1]
    with database.begin() as connection:
        connection.execute(update(JobRow).where(JobRow.id == last).values(output=output or null()))
    for _ in range(MAX_PLAN_FAILURES):
        with database.begin() as connection:
            connection.execute(update(BatchRow).values(plan_retry_at=None))
        is_closed = close_stages(database, batch_id)
    report = batch_status(database, batch_id)
    assert (is_closed, report.status) == (True, BatchStatus.FAILED)
    assert job_ids(database, batch_id, stage=1) == []
    assert report.waiting_reason is not None
    assert "job 'line-1' of the stage draft" in report.waiting_reason
    assert "(output_unfit)" in report.waiting_reason
    assert "secret" not in report.waiting_reason


def test_cancel_ends_open_jobs_and_fences_their_workers_off(database: Engine) -> None:
    batch_id = accept(database, 3)
    ids = job_ids(database, batch_id)
    done, running = claim(database, ids[:2])
    commit(database, [success(done)])
    assert cancel(database, batch_id) == 2
    assert statuses(database, ids) == ["succeeded", "cancelled", "cancelled"]
    assert attempt_outcomes(database, running.id) == [AttemptOutcome.ENDED]
    assert commit(database, [success(running)]) == []
    assert claim(database, ids) == []
    assert batch_state(database, batch_id) is BatchStatus.CANCELLED
    assert cancel(database, batch_id) == 0
    assert not close_stages(database, batch_id)


def test_a_large_batch_is_cancelled_in_several_transactions(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "RANGE_JOBS", 3)
    monkeypatch.setattr(ending, "LOCKED_JOBS", 2)
    batch_id = accept(database, 8)
    running = claim_batch(database, batch_id)[:5]
    leases.give_back(database, {job.id: 1 for job in running[:2]})
    assert end_jobs(database, batch_id, CANCELLED) == 0  # it was not cancelled
    assert cancel(database, batch_id) == 8
    counts = batch_status(database, batch_id).counts
    assert (counts.cancelled, counts.open) == (8, 0)


def test_an_unknown_batch_is_neither_cancelled_nor_retried(database: Engine) -> None:
    with pytest.raises(BatchNotFoundError):
        cancel(database, uuid4())
    with pytest.raises(BatchNotFoundError):
        retry_unfinished(database, uuid4())


def test_cancel_and_group_commits_do_not_deadlock(database: Engine) -> None:
    for _ in range(5):
        batch_id = accept(database, 100)
        jobs = claim_batch(database, batch_id)
        barrier = Barrier(3)

        def at_once(act: Callable[[], object], barrier: Barrier = barrier) -> None:
            barrier.wait()
            act()

        acts: list[Callable[[], object]] = [
            partial(commit, database, [success(job) for job in jobs]),
            partial(commit, database, [failure(job) for job in jobs[::-1]]),
            partial(cancel, database, batch_id),
        ]
        with ThreadPoolExecutor(3) as pool:
            for future in [pool.submit(at_once, act) for act in acts]:
                future.result()
        assert batch_status(database, batch_id).counts.open == 0


def test_retry_gives_failed_cancelled_and_expired_jobs_fresh_attempts(database: Engine) -> None:
    batch_id = accept(database, 3)
    jobs = claim_batch(database, batch_id)
    commit(database, [success(jobs[0]), failure(jobs[1])])
    cancel(database, batch_id)
    assert retry_unfinished(database, batch_id) == 2
    row = job_row(database, jobs[1].id)
    assert (row.status, row.num_failures, row.error_code, row.finished_at) == (
        JobStatus.QUEUED,
        0,
        None,
        None,
    )
    again = claim_batch(database, batch_id)
    assert [job.attempt for job in again] == [2, 2]
    assert commit(database, [success(jobs[2])]) == []  # the cancelled attempt is fenced off still
    commit(database, [success(job) for job in again])
    assert close_stages(database, batch_id)
    assert batch_status(database, batch_id).counts.succeeded == 3
    assert len(job_detail(database, jobs[1].id).attempts) == 2


def test_retry_of_a_finished_batch_without_failures_changes_nothing(database: Engine) -> None:
    batch_id = accept(database, 1)
    finish(database, batch_id)
    close_stages(database, batch_id)
    assert retry_unfinished(database, batch_id) == 0
    assert batch_state(database, batch_id) is BatchStatus.FINISHED


def test_retry_in_a_second_stage_leaves_the_first_one_closed(database: Engine) -> None:
    batch_id = accept(database, 2, two_stages())
    first, second = claim_batch(database, batch_id)
    commit(database, [success(first), failure(second)])
    close_stages(database, batch_id)
    (polish,) = claim_batch(database, batch_id, stage=1)
    commit(database, [failure(polish)])
    assert close_stages(database, batch_id)
    assert retry_unfinished(database, batch_id) == 1
    assert statuses(database, [second.id]) == [JobStatus.FAILED]
    finish(database, batch_id, stage=1)
    assert close_stages(database, batch_id)
    assert batch_state(database, batch_id) is BatchStatus.FINISHED


def test_retry_lifts_the_deadline_that_the_jobs_expired_by(database: Engine) -> None:
    batch_id = accept(database, 1, new_batch(deadline_seconds=1000))
    with database.begin() as connection:
        connection.execute(update(JobRow).values(status=JobStatus.EXPIRED))
    assert retry_unfinished(database, batch_id) == 1
    (job,) = claim_batch(database, batch_id)
    assert job.seconds_to_deadline is None


def test_a_batch_moves_to_the_queue_of_the_stage_that_opens(database: Engine) -> None:
    moving = replace(two_stages(), stages=(NewStage("draft", "cpu"), NewStage("polish", "default")))
    batch_id = accept(database, 2, moving)
    assert batch_status(database, batch_id).profile == "cpu"
    assert running_profiles(database) == ["cpu"]
    finish(database, batch_id)
    assert close_finished_stages(database, batch_id, lambda closed: new_jobs(1)) is False
    assert batch_status(database, batch_id).profile == "default"
    assert running_profiles(database) == ["default"]


def test_a_stage_is_planned_from_any_stage_before_it(database: Engine) -> None:
    batch_id = accept(database, 2, new_batch(kind="trial", stages=("draft", "polish", "print")))
    seen: list[list[str]] = []

    def plan(closed: ClosedStage) -> Iterable[NewJob]:
        drafts = stage_outputs(closed.database, closed.batch_id, "draft", TrialOutput)
        seen.append([custom_id for custom_id, _ in drafts])
        return new_jobs(1)

    finish(database, batch_id)
    close_finished_stages(database, batch_id, plan)
    finish(database, batch_id, stage=1)
    close_finished_stages(database, batch_id, plan)
    assert seen == [["line-0", "line-1"]] * 2
