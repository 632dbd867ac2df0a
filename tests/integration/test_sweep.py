"""The sweep deletes what nothing references, moves what little is left, and never takes what is needed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine, delete

from db import leads
from db.evidence import job_evidence
from db.outcomes import Success, commit
from db.packs import SweepUnderWayError
from db.recovery import reap_expired_leases
from db.tables import BatchRow, JobRow, StatementRow
from jobs.errors import ConfigurationError
from jobs.job import ClaimedJob
from jobs.kind import Artifact
from jobs.provenance import CodeFacts
from pressroom.results import ResultReader
from pressroom.summary import Altered
from pressroom.sweep import DEFAULT_AGE, ForeignStoreError, Sweep, SweepReport, check_age
from storage.filesystem import FilesystemStore
from storage.packs import PREFIX, Place
from storage.store import Store
from tests.commands import Run
from tests.factories import (
    accept,
    alter_place,
    artifact_place,
    claim_batch,
    job_ids,
    prepared,
    run_out_leases,
    set_job,
    statuses,
)
from workers.lead import Lead
from workers.publisher import Publisher

BODY_BYTES = 2_000

OLD = timedelta(days=2)


class AgingStore(FilesystemStore):
    """A store whose packs can grow old, and that calls `before_put` before it stores a pack."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root = root
        self.before_put: Callable[[], None] = lambda: None

    def put(self, key: str, body: bytes, *, media_type: str) -> None:
        if key.startswith(PREFIX):
            self.before_put()
        super().put(key, body, media_type=media_type)

    def grow_old(self) -> None:
        """Let two days pass for everything that is stored."""
        for key in self.keys():
            then = time.time() - OLD.total_seconds()
            os.utime(self.root / key, (then, then))

    def packs(self) -> list[str]:
        return list(self.keys(PREFIX))


@pytest.fixture
def aging(tmp_path: Path) -> AgingStore:
    return AgingStore(tmp_path / "store")


def pack(store: Store, jobs: Sequence[ClaimedJob], num_bytes: int = BODY_BYTES) -> list[Success]:
    """The outcomes of jobs whose results share a pack."""
    every = []
    for job in jobs:
        body = job.custom_id.encode().ljust(num_bytes, b".")[:num_bytes]
        every.append(prepared(store, job, [Artifact(name="text.txt", media_type="text/plain", body=body)]))
    return Publisher(store, CodeFacts("1.0", "test")).store_pack(every)


def finish(database: Engine, store: Store, num_jobs: int) -> UUID:
    """A finished batch whose results share a pack."""
    batch_id = accept(database, num_jobs)
    commit(database, pack(store, claim_batch(database, batch_id)))
    return batch_id


def keep_jobs(database: Engine, batch_id: UUID, number: int) -> list[UUID]:
    """Delete the jobs of a batch but for the first ones."""
    ids = job_ids(database, batch_id)
    with database.begin() as connection:
        connection.execute(delete(JobRow).where(JobRow.id.in_(ids[number:])))
    return ids[:number]


def sweep(database: Engine, store: Store, min_age: timedelta = DEFAULT_AGE, **options: bool) -> SweepReport:
    return Sweep(database, store, min_age=min_age, **{"may_empty": True, **options}).run()


def results(
    database: Engine, store: Store, batch_id: UUID, left_out: list[Altered] | None = None
) -> list[str]:
    """The ids of the results that can be read, each with its own text."""
    reader = ResultReader(database, store, None if left_out is None else left_out.append)
    read = list(reader.read_batch(batch_id))
    assert all(bytes(each.bodies[0]).rstrip(b".").decode() == each.job.custom_id for each in read)
    return [each.job.custom_id for each in read]


def test_old_pack_that_nothing_references_is_deleted(database: Engine, aging: AgingStore) -> None:
    batch_id = finish(database, aging, 3)
    other_id = finish(database, aging, 2)
    aging.grow_old()
    (size,) = [
        entry.num_bytes
        for entry in aging.entries(PREFIX)
        if entry.key == artifact_place(database, job_ids(database, batch_id)[0]).key
    ]
    with database.begin() as connection:
        connection.execute(delete(BatchRow).where(BatchRow.id == batch_id))

    report = sweep(database, aging)

    assert (report.num_packs, report.num_deleted, report.bytes_freed) == (2, 1, size)
    assert results(database, aging, other_id) == ["line-0", "line-1"]
    assert sweep(database, aging).num_deleted == 0


def test_young_pack_is_kept(database: Engine, aging: AgingStore) -> None:
    keep_jobs(database, finish(database, aging, 2), 0)

    assert sweep(database, aging).num_deleted == 0
    assert len(aging.packs()) == 1


def test_other_objects_are_left_alone(database: Engine, aging: AgingStore) -> None:
    keys = ["artifacts/ab/abcd", "packs/notes.zip", f"packs/00/{'ab' * 32}", "resources/ab/abcd"]
    for key in keys:
        aging.put(key, b"mine", media_type="text/plain")
    aging.grow_old()

    assert sweep(database, aging).num_packs == 0
    assert set(keys) <= set(aging.keys())


def test_pack_whose_jobs_are_running_is_kept_until_they_are_committed(
    database: Engine, aging: AgingStore
) -> None:
    """Postgres was away from the workers for two days."""
    batch_id = accept(database, 2)
    successes = pack(aging, claim_batch(database, batch_id))
    set_job(database, job_ids(database, batch_id), started_at=datetime.now(UTC) - OLD)
    aging.grow_old()

    assert sweep(database, aging).num_deleted == 0

    commit(database, successes)
    assert results(database, aging, batch_id) == ["line-0", "line-1"]


def test_result_whose_pack_was_swept_is_refused_by_its_fence(database: Engine, aging: AgingStore) -> None:
    batch_id = accept(database, 1)
    ids = job_ids(database, batch_id)
    late = pack(aging, claim_batch(database, batch_id))
    run_out_leases(database, ids)
    reap_expired_leases(database, max_crashes=3)
    aging.grow_old()

    assert sweep(database, aging).num_deleted == 1
    assert commit(database, late) == []
    assert statuses(database, ids) == ["queued"]


def test_rest_of_a_pack_moves_and_the_old_pack_goes_with_a_later_sweep(
    database: Engine, aging: AgingStore
) -> None:
    batch_id = finish(database, aging, 40)
    keep_jobs(database, batch_id, 2)
    aging.grow_old()
    (old,) = aging.packs()

    first = sweep(database, aging)

    assert (first.num_rewritten, first.num_deleted, first.bytes_freed) == (1, 0, 0)
    assert old in aging.packs()
    assert results(database, aging, batch_id) == ["line-0", "line-1"]

    second = sweep(database, aging)

    assert (second.num_rewritten, second.num_deleted) == (0, 1)
    assert old not in aging.packs()
    assert results(database, aging, batch_id) == ["line-0", "line-1"]
    aging.grow_old()
    assert sweep(database, aging) == SweepReport(num_packs=1)


def test_rests_of_several_packs_share_a_new_one(database: Engine, aging: AgingStore) -> None:
    batches = [finish(database, aging, 40) for _ in range(3)]
    for batch_id in batches:
        keep_jobs(database, batch_id, 1)
    aging.grow_old()

    assert sweep(database, aging).num_rewritten == 3
    assert sweep(database, aging).num_deleted == 3
    assert len(aging.packs()) == 1
    assert [results(database, aging, batch_id) for batch_id in batches] == [["line-0"]] * 3


def test_pack_of_which_more_is_left_stays(database: Engine, aging: AgingStore) -> None:
    keep_jobs(database, finish(database, aging, 40), 10)
    aging.grow_old()

    assert sweep(database, aging) == SweepReport(num_packs=1)


def test_altered_part_is_named_and_stays_where_it_is(database: Engine, aging: AgingStore) -> None:
    batch_id = finish(database, aging, 60)
    ids = keep_jobs(database, batch_id, 2)
    before = artifact_place(database, ids[1])
    alter_place(aging, before, b"forged")
    aging.grow_old()

    report = sweep(database, aging)

    assert [(altered.job_id, altered.code) for altered in report.altered] == [(ids[1], "artifact_altered")]
    assert str(before) in report.altered[0].reason
    assert artifact_place(database, ids[1]) == before
    assert artifact_place(database, ids[0]).key != before.key
    left_out: list[Altered] = []
    assert results(database, aging, batch_id, left_out) == ["line-0"]
    assert [altered.job_id for altered in left_out] == [ids[1]]


def test_altered_copy_of_a_statement_is_named_and_stays_where_it_is(
    database: Engine, aging: AgingStore
) -> None:
    (job_id,) = keep_jobs(database, finish(database, aging, 40), 1)
    statement = job_evidence(database, [job_id])[job_id].statement
    assert statement is not None
    alter_place(aging, Place(statement.object_key, len(statement.body), statement.byte_offset), b"{}")
    aging.grow_old()

    report = sweep(database, aging)

    assert [altered.code for altered in report.altered] == ["statement_altered"]
    kept = job_evidence(database, [job_id])[job_id].statement
    assert kept == statement


def test_reader_that_read_its_rows_before_the_sweep_loses_nothing(
    database: Engine, aging: AgingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pressroom.results.WINDOW_BYTES", 1)  # each result is fetched on its own
    batch_id = finish(database, aging, 100)
    keep_jobs(database, batch_id, 6)
    aging.grow_old()
    (old,) = aging.packs()
    reading: Iterator[object] = ResultReader(database, aging).read_batch(batch_id)
    next(reading)

    assert sweep(database, aging).num_rewritten == 1
    assert sweep(database, aging).num_deleted == 1

    assert old not in aging.packs()
    assert len(list(reading)) == 5


def test_pack_of_tiny_parts_is_not_rewritten_again_and_again(database: Engine, aging: AgingStore) -> None:
    """Its headers take more room than what is in it."""
    jobs = claim_batch(database, accept(database, 50))
    commit(database, pack(aging, jobs, num_bytes=2))
    with database.begin() as connection:
        connection.execute(delete(StatementRow))
    aging.grow_old()

    assert sweep(database, aging).num_rewritten == 1
    assert sweep(database, aging).num_deleted == 1
    aging.grow_old()
    assert sweep(database, aging) == SweepReport(num_packs=1)


def test_dry_run_counts_and_changes_nothing(database: Engine, aging: AgingStore) -> None:
    batch_id = finish(database, aging, 40)
    gone_id = finish(database, aging, 2)
    keep_jobs(database, batch_id, 1)
    keep_jobs(database, gone_id, 0)
    aging.grow_old()
    before = list(aging.entries(PREFIX))

    report = sweep(database, aging, is_dry=True)

    assert (report.num_deleted, report.num_rewritten) == (1, 1)
    assert list(aging.entries(PREFIX)) == before
    assert results(database, aging, batch_id) == ["line-0"]


def test_second_sweep_waits_its_turn(database: Engine, aging: AgingStore) -> None:
    first = Lead(database, leads.SWEEP)
    assert first.is_held()
    with pytest.raises(SweepUnderWayError):
        sweep(database, aging)
    first.give_up()

    assert sweep(database, aging) == SweepReport()


def test_sweep_that_was_overtaken_moves_nothing(database: Engine, aging: AgingStore) -> None:
    """Its process stood still while it stored the new pack; another sweep may have deleted that."""
    batch_id = finish(database, aging, 40)
    (job_id,) = keep_jobs(database, batch_id, 1)
    before = artifact_place(database, job_id)
    aging.grow_old()

    def overtake() -> None:
        with database.begin() as connection:
            connection.exec_driver_sql("UPDATE leads SET fence = fence + 1 WHERE role = 'sweep'")

    aging.before_put = overtake
    with pytest.raises(SweepUnderWayError):
        sweep(database, aging)

    assert artifact_place(database, job_id) == before
    assert results(database, aging, batch_id) == ["line-0"]


def test_job_that_is_deleted_meanwhile_is_skipped(database: Engine, aging: AgingStore) -> None:
    batch_id = finish(database, aging, 60)
    ids = keep_jobs(database, batch_id, 3)
    aging.grow_old()
    being_deleted = database.connect()

    def delete_two() -> None:
        with database.begin() as connection:
            connection.execute(delete(JobRow).where(JobRow.id == ids[0]))
        being_deleted.execute(delete(JobRow).where(JobRow.id == ids[1]))

    aging.before_put = delete_two
    with being_deleted:
        assert sweep(database, aging).num_rewritten == 1
        being_deleted.rollback()

    assert results(database, aging, batch_id) == ["line-1", "line-2"]
    assert artifact_place(database, ids[1]).key != artifact_place(database, ids[2]).key


def test_sweep_in_a_bucket_deletes_moves_and_keeps(database: Engine, store: Store) -> None:
    batch_id, gone_id, whole_id = (finish(database, store, number) for number in (40, 2, 3))
    keep_jobs(database, batch_id, 2)
    keep_jobs(database, gone_id, 0)
    from_now = -timedelta(minutes=1)  # what a bucket holds cannot be made older

    first = sweep(database, store, from_now)
    second = sweep(database, store, from_now)

    assert (first.num_packs, first.num_deleted, first.num_rewritten) == (3, 1, 1)
    assert (second.num_packs, second.num_deleted, second.num_rewritten) == (3, 1, 0)
    assert results(database, store, batch_id) == ["line-0", "line-1"]
    assert len(results(database, store, whole_id)) == 3


def test_more_packs_than_a_page_are_swept(
    database: Engine, aging: AgingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pressroom.sweep.PAGE_PACKS", 2)
    batches = [finish(database, aging, 1) for _ in range(5)]
    for batch_id in batches[:3]:
        keep_jobs(database, batch_id, 0)
    aging.grow_old()

    report = sweep(database, aging)

    assert (report.num_packs, report.num_deleted) == (5, 3)
    assert [results(database, aging, batch_id) for batch_id in batches[3:]] == [["line-0"]] * 2


def test_less_than_an_hour_is_refused(run: Run) -> None:
    with pytest.raises(ConfigurationError, match="at least 1h"):
        check_age(timedelta(minutes=59))
    assert "sweep_age_short" in run("store", "sweep", "--older-than", "59m", code=1)
    assert "'soon' is not an age" in run("store", "sweep", "--older-than", "soon", code=2)


def test_command_prints_what_it_did(run: Run, database: Engine, s3_url: str) -> None:
    from storage import open_store

    finish(database, open_store(s3_url), 2)

    assert run("store", "sweep", "--json") == {
        "num_packs": 1,
        "num_deleted": 0,
        "num_rewritten": 0,
        "bytes_freed": 0,
        "altered": [],
        "dry_run": False,
    }
    assert "packs: 1, would be deleted: 0" in run("store", "sweep", "--dry-run", "--older-than", "1w")


@pytest.mark.parametrize("dry", [True, False])
def test_store_of_another_database_is_refused_and_keeps_its_packs(
    database: Engine, aging: AgingStore, dry: bool
) -> None:
    batch_id = finish(database, aging, 3)
    with database.begin() as connection:  # as if another database were configured
        connection.execute(delete(BatchRow).where(BatchRow.id == batch_id))
    aging.grow_old()

    with pytest.raises(ForeignStoreError, match=r"\(1 packs\): check that PRESSROOM_DB_URL") as refusal:
        sweep(database, aging, may_empty=False, is_dry=dry)

    assert refusal.value.code == "sweep_store_foreign"
    assert len(aging.packs()) == 1
    assert sweep(database, aging, may_empty=True).num_deleted == 1
    assert sweep(database, aging, may_empty=False).num_packs == 0


def test_store_of_which_one_pack_is_known_is_swept(database: Engine, aging: AgingStore) -> None:
    batch_id, other_id = finish(database, aging, 3), finish(database, aging, 3)
    with database.begin() as connection:
        connection.execute(delete(BatchRow).where(BatchRow.id == batch_id))
    aging.grow_old()

    assert sweep(database, aging, may_empty=False).num_deleted == 1
    assert len(results(database, aging, other_id)) == 3
