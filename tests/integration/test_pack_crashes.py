"""Whatever is killed between a pack and its rows, each job is done once, and nothing is left or lost."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine, delete, func, select, update

from db import leads
from db.outcomes import Success, commit
from db.recovery import reap_expired_leases
from db.tables import ArtifactRow, JobRow, LeadRow
from jobs.job import AttemptOutcome, ClaimedJob
from jobs.kind import Artifact
from jobs.provenance import CodeFacts
from pressroom.results import ResultReader
from pressroom.summary import Altered
from pressroom.sweep import Sweep, SweepReport
from storage import open_store
from storage.packs import PREFIX
from storage.store import Store
from tests.crashing import AT_ONCE, crash, running
from tests.factories import (
    accept,
    attempt_outcomes,
    claim,
    claim_batch,
    job_ids,
    prepared,
    run_out_leases,
    statuses,
    wait_until,
)
from workers.publisher import Publisher

NUM_JOBS = 6


@pytest.fixture(params=["filesystem", "s3"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    urls: dict[str, Callable[[], str]] = {
        "filesystem": lambda: (tmp_path / "store").as_uri(),
        "s3": lambda: str(request.getfixturevalue("s3_url")),
    }
    return urls[request.param]()


def sweep(database: Engine, store: Store) -> SweepReport:
    return Sweep(database, store, min_age=AT_ONCE, may_empty=True).run()


def packs(store: Store) -> list[str]:
    return list(store.keys(PREFIX))


def referenced_packs(database: Engine) -> list[str]:
    with database.connect() as connection:
        return sorted(connection.scalars(select(ArtifactRow.object_key).distinct()))


def results(
    database: Engine, store: Store, batch_id: UUID, left_out: list[Altered] | None = None
) -> set[UUID]:
    reader = ResultReader(database, store, None if left_out is None else left_out.append)
    return {result.job.job_id for result in reader.read_batch(batch_id)}


def pack(store: Store, jobs: list[ClaimedJob], text: str = "text") -> list[Success]:
    """The outcomes of jobs whose results share a pack."""
    artifact = Artifact(name="text.txt", media_type="text/plain", body=text.encode() * 500)
    made = [prepared(store, job, [artifact]) for job in jobs]
    return Publisher(store, CodeFacts("1.0", "test")).store_pack(made)


def finish_after_a_crash(database: Engine, store: Store, ids: list[UUID]) -> None:
    """The leases run out, the jobs are queued again, and another worker does them."""
    run_out_leases(database, ids)
    reap_expired_leases(database, max_crashes=10)
    with running(database, store, "worker-b") as runner:

        def all_final() -> bool:
            runner.run_alone(ids, celery_task_id="task")
            return all(status.is_final for status in statuses(database, ids))

        wait_until(all_final, "every job is final")


@pytest.mark.parametrize(("point", "has_orphan"), [("after_pack", True), ("in_upload", False)])
def test_worker_killed_before_its_rows_leaves_no_more_than_an_orphan(
    database: Engine, database_url: str, store_url: str, point: str, has_orphan: bool
) -> None:
    store = open_store(store_url)
    batch_id = accept(database, NUM_JOBS)
    ids = job_ids(database, batch_id)

    crash("worker", point, database_url, store_url, ids)

    orphans = packs(store)
    assert bool(orphans) is has_orphan
    assert set(statuses(database, ids)) == {"running"}
    assert sweep(database, store).num_deleted == 0  # for all that Postgres knows, the worker may still commit

    finish_after_a_crash(database, store, ids)

    assert results(database, store, batch_id) == set(ids)
    assert all(
        attempt_outcomes(database, job_id) == [AttemptOutcome.LOST, AttemptOutcome.SUCCEEDED]
        for job_id in ids
    )
    assert sweep(database, store).num_deleted == len(orphans)
    assert packs(store) == referenced_packs(database)
    assert results(database, store, batch_id) == set(ids)


@pytest.mark.parametrize("point", ["after_pack", "after_rows"])
def test_killed_sweep_is_finished_by_the_next_ones(
    database: Engine, database_url: str, store_url: str, point: str
) -> None:
    store = open_store(store_url)
    batch_id = accept(database, 40)
    commit(database, pack(store, claim_batch(database, batch_id)))
    kept, gone = job_ids(database, batch_id)[:2], job_ids(database, batch_id)[2:]
    with database.begin() as connection:
        connection.execute(delete(JobRow).where(JobRow.id.in_(gone)))

    crash("sweep", point, database_url, store_url)

    assert len(packs(store)) == 2
    assert results(database, store, batch_id) == set(kept)
    with database.begin() as connection:  # the lease of the killed sweep runs out
        ended = update(LeadRow).where(LeadRow.role == leads.SWEEP)
        connection.execute(ended.values(expires_at=func.now()))
    sweep(database, store)
    sweep(database, store)
    assert packs(store) == referenced_packs(database)
    assert len(packs(store)) == 1
    assert results(database, store, batch_id) == set(kept)


def test_one_of_two_workers_with_the_same_job_wins_and_the_others_part_goes_with_its_pack(
    database: Engine, store_url: str
) -> None:
    store = open_store(store_url)
    batch_id = accept(database, 2)
    shared, own = job_ids(database, batch_id)
    of_first = pack(store, claim_batch(database, batch_id))
    run_out_leases(database, [shared])
    reap_expired_leases(database, max_crashes=10)
    of_second = pack(store, claim(database, [shared], worker="worker-b", alone=True), "other")

    with ThreadPoolExecutor(2) as pool:
        written = list(pool.map(lambda group: commit(database, group), [of_first, of_second]))

    assert written == [[own], [shared]]
    assert results(database, store, batch_id) == {shared, own}
    assert sweep(database, store).num_deleted == 0  # the first worker's pack has the result of the other job
    with database.begin() as connection:
        connection.execute(delete(JobRow).where(JobRow.id == own))
    assert sweep(database, store).num_deleted == 1
    assert packs(store) == [of_second[0].statement.object_key]
    assert results(database, store, batch_id) == {shared}


def test_lost_pack_is_named_and_only_its_jobs_are_left_out(database: Engine, store_url: str) -> None:
    store = open_store(store_url)
    batch_id = accept(database, NUM_JOBS)
    jobs = claim_batch(database, batch_id)
    lost = pack(store, jobs[: NUM_JOBS // 2])
    commit(database, [*lost, *pack(store, jobs[NUM_JOBS // 2 :])])
    key = lost[0].statement.object_key
    store.delete(key)

    left_out: list[Altered] = []
    read = results(database, store, batch_id, left_out)

    assert read == {job.id for job in jobs[NUM_JOBS // 2 :]}
    assert {altered.job_id for altered in left_out} == {success.job.id for success in lost}
    assert all(key in altered.reason for altered in left_out)
    assert sweep(database, store) == SweepReport(num_packs=1)
