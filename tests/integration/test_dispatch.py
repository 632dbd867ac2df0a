"""What the dispatcher reads and marks: which jobs to name in messages, which messages to believe lost."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from uuid import UUID

from sqlalchemy import Engine, select, update

from db import batches, dispatch, workers
from db.outcomes import commit
from db.stages import NewJob
from db.tables import JobRow, WorkerRow
from jobs.job import JobStatus
from tests.factories import (
    accept,
    claim,
    claim_batch,
    failure,
    job_ids,
    job_row,
    new_batch,
    set_job,
    statuses,
    success,
)


def register(database: Engine, worker_id: str, *, profile: str = "cpu", max_jobs: int | None = 8) -> None:
    """A worker, ready if it says how many jobs it holds."""
    workers.register(database, worker_id, profile=profile, device="cpu", host="host", pid=1)
    if max_jobs is not None:
        workers.mark_ready(database, worker_id, max_jobs_in_flight=max_jobs)


def test_demands_count_what_is_sent_and_what_could_be(database: Engine) -> None:
    batch_id = accept(database, 10, new_batch(tenant="t", priority=5))
    ids = job_ids(database, batch_id)
    assert dispatch.take(database, batch_id, 3) == ids[:3]
    claim(database, ids[:1])
    set_job(database, ids[9:], available_at=datetime.now(UTC) + timedelta(hours=1))
    (demand,) = dispatch.demands(database, "cpu", limit=100)
    assert (demand.batch_id, demand.tenant, demand.priority) == (batch_id, "t", 5)
    assert (demand.num_sent, demand.num_unsent) == (2, 6)
    assert dispatch.demands(database, "cpu", limit=4)[0].num_unsent == 4
    assert dispatch.demands(database, "default", limit=100) == []


def test_demands_come_by_priority_then_deadline_then_age(database: Engine) -> None:
    old = accept(database, 1)
    new = accept(database, 1)
    late = accept(database, 1, new_batch(deadline_seconds=2000))
    soon = accept(database, 1, new_batch(deadline_seconds=1000))
    urgent = accept(database, 1, new_batch(priority=1))
    cancelled = accept(database, 1)
    batches.cancel(database, cancelled)
    found = [demand.batch_id for demand in dispatch.demands(database, "cpu", limit=10)]
    assert found == [urgent, soon, late, old, new]


def test_neighbours_by_prompt_prefix_are_taken_together(database: Engine) -> None:
    jobs = [NewJob(f"line-{n}", {}, prefix_group="ab"[n % 2]) for n in range(6)]
    batch_id = accept(database, jobs)
    ids = job_ids(database, batch_id)
    assert dispatch.take(database, batch_id, 4) == [ids[0], ids[2], ids[4], ids[1]]
    assert dispatch.take(database, batch_id, 4) == [ids[3], ids[5]]
    assert dispatch.take(database, batch_id, 4) == []


def test_dispatchers_at_once_take_disjoint_jobs(database: Engine) -> None:
    batch_id = accept(database, 60)
    barrier = Barrier(4)

    def take(_: int) -> list[UUID]:
        barrier.wait()
        return dispatch.take(database, batch_id, 20)

    with ThreadPoolExecutor(4) as pool:
        taken = [job_id for some in pool.map(take, range(4)) for job_id in some]
    assert len(taken) == len(set(taken))


def test_a_claim_a_release_and_a_retry_make_a_job_unsent(database: Engine) -> None:
    batch_id = accept(database, 1)
    (job_id,) = dispatch.take(database, batch_id, 1)
    (job,) = claim(database, [job_id])
    assert job_row(database, job_id).sent_at is None
    commit(database, [failure(job, status=JobStatus.QUEUED)])
    assert dispatch.take(database, batch_id, 1) == [job_id]


def test_messages_that_failed_are_unsent_but_for_what_was_claimed(database: Engine) -> None:
    batch_id = accept(database, 3)
    taken = dispatch.take(database, batch_id, 3)
    claim(database, taken[:1])
    dispatch.unsend(database, taken)
    assert statuses(database, taken) == ["running", "queued", "queued"]
    assert dispatch.take(database, batch_id, 3) == taken[1:]


def test_only_messages_older_than_asked_are_forgotten_and_only_of_the_profile(database: Engine) -> None:
    batch_id = accept(database, 3)
    elsewhere = accept(database, 1, new_batch(profile="default"))
    taken = dispatch.take(database, batch_id, 3)
    old = datetime.now(UTC) - timedelta(seconds=100)
    set_job(database, [*taken[:2], *dispatch.take(database, elsewhere, 1)], sent_at=old)
    assert dispatch.forget_stale(database, "cpu", older_than_seconds=60) == 2
    assert dispatch.take(database, batch_id, 3) == taken[:2]
    assert dispatch.forget_stale(database, "cpu", older_than_seconds=60) == 0


def test_forgetting_does_not_wait_for_a_claim_under_way(database: Engine) -> None:
    batch_id = accept(database, 2)
    taken = dispatch.take(database, batch_id, 2)
    set_job(database, taken, sent_at=datetime(2000, 1, 1, tzinfo=UTC))
    with database.begin() as claiming:
        claiming.execute(select(JobRow.id).where(JobRow.id == taken[0]).with_for_update())
        assert dispatch.forget_stale(database, "cpu", older_than_seconds=1) == 1


def test_only_live_and_ready_workers_of_the_profile_count(database: Engine) -> None:
    register(database, "ready-1", max_jobs=8)
    register(database, "ready-2", max_jobs=4)
    register(database, "loading", max_jobs=None)
    register(database, "elsewhere", profile="default")
    register(database, "stopped")
    workers.mark_stopped(database, "stopped")
    register(database, "dead")
    with database.begin() as connection:
        connection.execute(
            update(WorkerRow)
            .where(WorkerRow.id == "dead")
            .values(seen_at=datetime.now(UTC) - timedelta(seconds=2 * dispatch.ALIVE_SECONDS))
        )
    assert dispatch.capacity(database, "cpu") == dispatch.Capacity(2, 12)
    assert dispatch.capacity(database, "nobody") == dispatch.Capacity(0, 0)


def test_profiles_are_those_of_running_batches(database: Engine) -> None:
    accept(database, 1, new_batch(profile="b"))
    accept(database, 1, new_batch(profile="a"))
    accept(database, 1, new_batch(profile="a"))
    batches.cancel(database, accept(database, 1, new_batch(profile="c")))
    assert dispatch.running_profiles(database) == ["a", "b"]


def test_who_listens_hears_of_queued_jobs_without_waiting_for_the_next_look(database: Engine) -> None:
    listener = dispatch.JobListener(database)
    listener.wait(0.0)  # from now on it listens
    accept(database, 1)
    begun_at = time.monotonic()
    listener.wait(60.0)
    assert time.monotonic() - begun_at < 30.0
    listener.wait(0.0)  # nothing more: it returns, too
    listener.close()


def test_messages_wait_until_they_are_claimed(database: Engine) -> None:
    batch_id = accept(database, 1)
    assert not workers.messages_wait(database, "cpu")
    dispatch.take(database, batch_id, 1)
    assert workers.messages_wait(database, "cpu")
    assert not workers.messages_wait(database, "default")
    commit(database, [success(job) for job in claim_batch(database, batch_id)])
    assert not workers.messages_wait(database, "cpu")
