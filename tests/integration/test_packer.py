"""What jobs produced is stored in packs: grouped, retried during an outage, and never lost or mixed up."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from sqlalchemy import Engine

from db.outcomes import Success
from jobs.job import ClaimedJob
from jobs.kind import Artifact
from jobs.provenance import CodeFacts, sha256_hex
from storage.memory import MemoryStore
from storage.packs import MAX_JOB_BYTES, MAX_PART_BYTES
from storage.store import Store, StoreRefusedError
from tests.factories import accept, claim_batch, prepared
from tests.fakes import FailingStore, FakeEngine, fake_models
from workers.held_jobs import HeldJob
from workers.inference import JobAbandonedError, JobInference
from workers.packer import Packer
from workers.publisher import Publisher

SECONDS = 30.0
"""Until a pack that ought to be stored is a hang."""


class RefusingStore(MemoryStore):
    """A store that refuses to store anything."""

    def put(self, key: str, body: bytes, *, media_type: str) -> None:
        raise StoreRefusedError("not allowed")


class Ends:
    """How jobs ended, in their order."""

    def __init__(self) -> None:
        self.stored: queue.SimpleQueue[Success] = queue.SimpleQueue()
        self.failed: queue.SimpleQueue[tuple[HeldJob, Exception]] = queue.SimpleQueue()

    def next_stored(self, number: int) -> list[Success]:
        return [self.stored.get(timeout=SECONDS) for _ in range(number)]


@pytest.fixture
def ends() -> Ends:
    return Ends()


NewPacker = Callable[..., Packer]


@pytest.fixture
def new_packer(ends: Ends) -> Iterator[NewPacker]:
    """Makes packers, which are closed after the test."""
    made: list[Packer] = []

    def make(store: Store, *, interval_seconds: float = 0.0, num_unstored: int = 1000) -> Packer:
        packer = Packer(
            Publisher(store, CodeFacts("0", "test")),
            interval_seconds=interval_seconds,
            num_unstored=lambda: num_unstored,
            on_stored=lambda _, success: ends.stored.put(success),
            on_failed=lambda held, error: ends.failed.put((held, error)),
        )
        made.append(packer)
        return packer

    yield make
    for packer in made:
        packer.close(SECONDS)


def held_job(job: ClaimedJob) -> HeldJob:
    """The job, as a worker holds it."""
    return HeldJob(job, JobInference(job, fake_models(FakeEngine()), deadline_at=0.0), 1000.0)


def add(packer: Packer, store: Store, job: ClaimedJob, body: bytes = b"text") -> HeldJob:
    """Give the packer what a job produced."""
    held = held_job(job)
    artifact = Artifact(name="text.txt", media_type="text/plain", body=body)
    packer.add(held, prepared(store, job, [artifact]))
    return held


def test_what_ends_within_the_interval_is_one_pack(
    database: Engine, new_packer: NewPacker, ends: Ends
) -> None:
    store = MemoryStore()
    jobs = claim_batch(database, accept(database, 10))
    packer = new_packer(store, interval_seconds=0.5)
    for job in jobs:
        add(packer, store, job)
    successes = ends.next_stored(10)
    assert [success.job.id for success in successes] == [job.id for job in jobs]
    assert len({success.artifacts[0].object_key for success in successes}) == 1
    assert len(list(store.keys())) == 1


def test_group_to_which_nothing_can_be_added_does_not_wait(
    database: Engine, new_packer: NewPacker, ends: Ends
) -> None:
    store = MemoryStore()
    jobs = claim_batch(database, accept(database, 2))
    packer = new_packer(store, interval_seconds=100 * SECONDS, num_unstored=2)
    for job in jobs:
        add(packer, store, job)
    assert len(ends.next_stored(2)) == 2


def test_pack_stays_below_its_maximum_size(
    database: Engine, new_packer: NewPacker, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.packer.MAX_PACK_BYTES", 50_000)
    store = MemoryStore()
    packer = new_packer(store, interval_seconds=0.5)
    for job in claim_batch(database, accept(database, 10)):
        add(packer, store, job, b"x" * 20_000)
    ends.next_stored(10)
    sizes = [entry.num_bytes for entry in store.entries()]
    assert len(sizes) > 2
    assert max(sizes) < 100_000


def test_many_artifacts_of_one_job_do_not_swell_a_pack(
    database: Engine, new_packer: NewPacker, ends: Ends
) -> None:
    store = MemoryStore()
    packer = new_packer(store)
    (job,) = claim_batch(database, accept(database, 1))
    bodies = [bytes([number]) * MAX_PART_BYTES for number in range(20)]
    artifacts = [
        Artifact(name=f"{number}.bin", media_type="text/plain", body=body)
        for number, body in enumerate(bodies)
    ]
    packer.add(held_job(job), prepared(store, job, artifacts))
    (success,) = ends.next_stored(1)
    (pack,) = store.entries("packs/")
    assert pack.num_bytes < MAX_JOB_BYTES + MAX_PART_BYTES
    for artifact, body in zip(success.artifacts, bodies, strict=True):
        offset = artifact.byte_offset
        whole = store.get(artifact.object_key)
        assert body == (whole if offset is None else whole[offset : offset + len(body)])


def test_closing_stores_what_is_left(database: Engine, new_packer: NewPacker, ends: Ends) -> None:
    store = MemoryStore()
    packer = new_packer(store, interval_seconds=1000.0)
    for job in claim_batch(database, accept(database, 3)):
        add(packer, store, job)
    packer.close(SECONDS)
    assert ends.stored.qsize() == 3


def test_two_attempts_of_one_job_share_a_pack_and_are_told_apart(
    database: Engine, new_packer: NewPacker, ends: Ends
) -> None:
    store = MemoryStore()
    (job,) = claim_batch(database, accept(database, 1))
    packer = new_packer(store, interval_seconds=0.5)
    add(packer, store, job, b"first attempt")
    add(packer, store, replace(job, attempt=2), b"second attempt")
    first, second = ends.next_stored(2)
    for success, body in ((first, b"first attempt"), (second, b"second attempt")):
        artifact = success.artifacts[0]
        assert artifact.byte_offset is not None
        assert store.get_range(artifact.object_key, artifact.byte_offset, artifact.num_bytes) == body
        assert sha256_hex(body) == artifact.sha256


def test_store_that_is_away_is_waited_for(database: Engine, new_packer: NewPacker, ends: Ends) -> None:
    store = FailingStore(2)
    packer = new_packer(store)
    (job,) = claim_batch(database, accept(database, 1))
    add(packer, store, job)
    (success,) = ends.next_stored(1)
    assert store.exists(success.statement.object_key)
    assert ends.failed.empty()


def test_refusal_of_the_store_is_the_end_of_each_job_by_name(
    database: Engine, new_packer: NewPacker, ends: Ends
) -> None:
    store = RefusingStore()
    packer = new_packer(store, interval_seconds=0.5)
    jobs = claim_batch(database, accept(database, 3))
    for job in jobs:
        add(packer, store, job)
    failed = [ends.failed.get(timeout=SECONDS) for _ in jobs]
    assert [held.job.id for held, _ in failed] == [job.id for job in jobs]
    assert all(isinstance(error, StoreRefusedError) for _, error in failed)


def test_group_is_given_up_once_all_of_its_jobs_are_abandoned(
    database: Engine, new_packer: NewPacker, ends: Ends
) -> None:
    store = FailingStore(10**9)
    packer = new_packer(store, interval_seconds=0.5)
    held = [add(packer, store, job) for job in claim_batch(database, accept(database, 2))]
    held[0].inference.abandon()
    with pytest.raises(queue.Empty):
        ends.failed.get(timeout=1.0)
    held[1].inference.abandon()
    errors = [ends.failed.get(timeout=SECONDS)[1] for _ in held]
    assert all(isinstance(error, JobAbandonedError) for error in errors)
    assert list(store.keys()) == []
