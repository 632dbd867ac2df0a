"""Jobs of large batches end and are requeued range by range, with exact totals whatever interrupts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, func, select, text, update
from sqlalchemy.exc import OperationalError

from db import batches, ending
from db.batches import cancel, retry_unfinished
from db.ending import CANCELLED, EXPIRED, end_jobs
from db.outcomes import commit
from db.recovery import finish_cancelling
from db.reports import batch_status
from db.tables import AttemptRow, BatchRow, JobRow
from db.totals import FINAL_COLUMNS, add_final
from jobs.batch import BatchStatus
from jobs.job import AttemptOutcome, JobStatus
from tests.factories import accept, claim, claim_batch, failure, job_ids, new_batch, success, wait_until
from workers.stages import close_stages

INTERRUPTED = """
import sys
from uuid import UUID
from db import batches, ending
from db.session import open_database
ending.RANGE_JOBS = 1
batches.cancel(open_database(sys.argv[1]), UUID(sys.argv[2]))
"""


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "RANGE_JOBS", 10)
    monkeypatch.setattr(ending, "LOCKED_JOBS", 4)
    monkeypatch.setattr(batches, "RANGE_JOBS", 10)


def counted(database: Engine, batch_id: UUID) -> Counter[JobStatus]:
    """The batch's jobs by state, counted anew; the totals that are kept must agree at any moment."""
    with database.connect() as connection:
        connection = connection.execution_options(isolation_level="REPEATABLE READ")
        rows = connection.execute(
            select(JobRow.status, func.count()).where(JobRow.batch_id == batch_id).group_by(JobRow.status)
        ).all()
        totals = connection.execute(select(*FINAL_COLUMNS.values()).where(BatchRow.id == batch_id)).one()
    numbers = Counter(dict(rows))
    assert tuple(totals) == tuple(numbers[status] for status in FINAL_COLUMNS)
    return numbers


def num_running_attempts(database: Engine) -> int:
    with database.connect() as connection:
        running = select(func.count()).where(AttemptRow.outcome == AttemptOutcome.RUNNING)
        return connection.scalar(running) or 0


def finished_at(database: Engine, batch_id: UUID) -> object:
    with database.connect() as connection:
        return connection.scalar(select(BatchRow.finished_at).where(BatchRow.id == batch_id))


def test_totals_stay_exact_while_workers_commit_and_a_batch_is_cancelled(database: Engine) -> None:
    batch_id = accept(database, 600)
    ids = job_ids(database, batch_id)

    def work(worker: int) -> None:
        for start in range(worker * 7, 600, 21):
            jobs = claim(database, ids[start : start + 7], worker=f"worker-{worker}")
            commit(database, [failure(job) if job.attempt % 2 else success(job) for job in jobs[:3]])
            commit(database, [success(job) for job in jobs[3:]])

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work, worker) for worker in range(3)]
        wait_until(lambda: counted(database, batch_id)[JobStatus.SUCCEEDED] > 0, "the workers have begun")
        cancelling = pool.submit(cancel, database, batch_id)
        for future in working:
            future.result()
        num_cancelled = cancelling.result()
    numbers = counted(database, batch_id)
    assert numbers[JobStatus.CANCELLED] == num_cancelled
    assert numbers.total() == 600
    assert numbers[JobStatus.QUEUED] == numbers[JobStatus.RUNNING] == 0
    assert num_running_attempts(database) == 0
    assert finished_at(database, batch_id) is not None


def test_jobs_that_others_have_locked_are_cancelled_last(database: Engine) -> None:
    batch_id = accept(database, 35)
    locked = job_ids(database, batch_id)[12]
    with ThreadPoolExecutor(1) as pool:
        with database.begin() as connection:
            connection.execute(select(JobRow.id).where(JobRow.id == locked).with_for_update())
            cancelling = pool.submit(cancel, database, batch_id)
            wait_until(
                lambda: counted(database, batch_id)[JobStatus.CANCELLED] == 34, "all others are cancelled"
            )
            assert not cancelling.done()
        assert cancelling.result() == 35
    assert counted(database, batch_id) == {JobStatus.CANCELLED: 35}


def test_a_cancellation_whose_process_was_killed_is_finished_by_the_reconciler(
    database: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "ROUND_SECONDS", 0)
    batch_id = accept(database, 3_000)
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED, database_url, str(batch_id)])
    try:
        wait_until(
            lambda: batch_status(database, batch_id).counts.cancelled > 100, "the cancellation has begun"
        )
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    num_before = counted(database, batch_id)[JobStatus.CANCELLED]
    assert num_before < 3_000
    assert finished_at(database, batch_id) is None
    rounds = list(iter(lambda: finish_cancelling(database), 0))
    assert max(rounds) == 10
    assert sum(rounds) == 3_000 - num_before
    assert counted(database, batch_id) == {JobStatus.CANCELLED: 3_000}
    assert finished_at(database, batch_id) is not None


def test_a_cancellation_that_lost_its_connection_can_be_repeated(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = accept(database, 100)
    num_calls = 0

    def fail_once(connection: Connection, changes: Mapping[tuple[UUID, JobStatus], int]) -> None:
        nonlocal num_calls
        num_calls += 1
        add_final(connection, changes)
        if num_calls == 4:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    monkeypatch.setattr(ending, "add_final", fail_once)
    with pytest.raises(OperationalError):
        cancel(database, batch_id)
    assert counted(database, batch_id) == {JobStatus.CANCELLED: 30, JobStatus.QUEUED: 70}
    assert cancel(database, batch_id) == 70
    assert counted(database, batch_id) == {JobStatus.CANCELLED: 100}


def test_jobs_before_the_first_one_of_the_index_are_ended_too(database: Engine) -> None:
    batch_id = accept(database, 50)
    with database.begin() as connection:  # a new version of the first rows, behind all others on disk
        early = JobRow.position < 20
        connection.execute(update(JobRow).where(early).values(status=JobStatus.FAILED))
        connection.execute(update(JobRow).where(early).values(status=JobStatus.QUEUED))
    assert cancel(database, batch_id) == 50


def test_a_round_ends_after_its_time_and_the_next_one_continues(database: Engine) -> None:
    batch_id = accept(database, 25)
    with database.begin() as connection:
        connection.execute(update(BatchRow).values(status=BatchStatus.CANCELLED))
    rounds = [end_jobs(database, batch_id, CANCELLED, until=0.0) for _ in range(4)]
    assert rounds == [10, 10, 5, 0]


def test_no_job_expires_once_a_retry_has_lifted_the_deadline(database: Engine) -> None:
    batch_id = accept(database, 25)
    with database.begin() as connection:
        connection.execute(update(BatchRow).values(deadline_at=datetime(2000, 1, 1, tzinfo=UTC)))
    assert end_jobs(database, batch_id, EXPIRED, until=0.0) == 10
    retry_unfinished(database, batch_id)
    assert end_jobs(database, batch_id, EXPIRED) == 0
    assert counted(database, batch_id) == {JobStatus.QUEUED: 25}


def test_a_range_is_read_by_position_even_if_hardly_a_job_seems_to_be_queued(database: Engine) -> None:
    batch_id = accept(database, 5_000)
    with database.begin() as connection:
        connection.execute(update(JobRow).values(status=JobStatus.SUCCEEDED))
        connection.execute(text("ANALYZE jobs"))
    with database.begin() as connection:
        connection.execute(update(JobRow).values(status=JobStatus.QUEUED))
    plans: list[str] = []

    with database.begin() as connection:
        execute = connection.execute

        def explained(statement: object) -> object:
            compiled = statement.compile(  # type: ignore[attr-defined]
                database, compile_kwargs={"literal_binds": True, "render_postcompile": True}
            )
            plans.append("\n".join(connection.exec_driver_sql(f"EXPLAIN {compiled}").scalars()))
            return execute(statement)  # type: ignore[call-overload]

        connection.execute = explained  # type: ignore[method-assign,assignment]
        ending._end_queued(connection, batch_id, 0, range(10, 20), CANCELLED)
    (plan,) = plans
    assert "uq_jobs_batch_id_stage_position" in plan
    assert "ix_jobs_open" not in plan
    assert "Seq Scan on jobs" not in plan


def test_retry_requeues_range_by_range_with_exact_totals(database: Engine) -> None:
    batch_id = accept(database, 45)
    jobs = claim_batch(database, batch_id)
    commit(database, [success(job) for job in jobs[:15]] + [failure(job) for job in jobs[15:18]])
    cancel(database, batch_id)
    assert counted(database, batch_id)[JobStatus.CANCELLED] == 27
    assert retry_unfinished(database, batch_id) == 30
    assert counted(database, batch_id) == {JobStatus.SUCCEEDED: 15, JobStatus.QUEUED: 30}
    commit(database, [success(job) for job in claim_batch(database, batch_id)])
    assert close_stages(database, batch_id)
    assert counted(database, batch_id) == {JobStatus.SUCCEEDED: 45}


def test_no_stage_is_closed_between_two_ranges_of_a_retry(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = accept(database, 25, new_batch(kind="two_stage", stages=("draft", "polish")))
    cancel(database, batch_id)

    def ranges() -> Iterator[range]:
        yield range(10)
        commit(database, [success(job, job.custom_id) for job in claim_batch(database, batch_id)])
        assert not close_stages(database, batch_id)
        yield range(10, 20)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(batches, "_ranges", ranges)
        with pytest.raises(KeyboardInterrupt):
            retry_unfinished(database, batch_id)
    assert not close_stages(database, batch_id)
    assert retry_unfinished(database, batch_id) == 5
    commit(database, [success(job, job.custom_id) for job in claim_batch(database, batch_id)])
    close_stages(database, batch_id)
    assert len(job_ids(database, batch_id, stage=1)) == 25


def test_a_retry_ends_when_its_batch_is_cancelled_meanwhile(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = accept(database, 25)
    cancel(database, batch_id)

    def ranges() -> Iterator[range]:
        yield range(10)
        cancel(database, batch_id)
        yield range(10, 20)

    monkeypatch.setattr(batches, "_ranges", ranges)
    assert retry_unfinished(database, batch_id) == 10
    assert counted(database, batch_id) == {JobStatus.CANCELLED: 25}
    assert batch_status(database, batch_id).status is BatchStatus.CANCELLED
