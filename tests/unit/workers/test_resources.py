"""Shared inputs: parsed once a worker, in the threads of many jobs, and let go of when room is short."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier

import pytest

from storage.memory import MemoryStore
from storage.resources import ResourceMissingError
from workers.resources import StoredResources

MEDIA_TYPE = "application/octet-stream"


@dataclass(slots=True, eq=False)
class Parse:
    """Counts what it is asked for."""

    num_calls: int = 0

    def __call__(self, *bodies: bytes) -> tuple[bytes, ...]:
        self.num_calls += 1
        return bodies


def test_jobs_that_want_the_same_at_once_have_it_parsed_once() -> None:
    resources, parse, together = StoredResources(MemoryStore()), Parse(), Barrier(8)
    sha256 = resources.write(b"catalogue", media_type=MEDIA_TYPE)

    def load(_: int) -> tuple[bytes, ...]:
        together.wait()
        return resources.load(sha256, parse)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(load, range(8))) == {(b"catalogue",)}
    assert parse.num_calls == 1


def test_what_was_used_longest_ago_is_let_go_of_first() -> None:
    resources, parse = StoredResources(MemoryStore(), max_kept_bytes=25), Parse()
    first, second, third = (resources.write(name * 10, media_type=MEDIA_TYPE) for name in (b"a", b"b", b"c"))
    for sha256 in (first, second, first, third):  # 30 bytes: the second goes
        resources.load(sha256, parse)
    assert parse.num_calls == 3
    resources.load(first, parse)
    assert parse.num_calls == 3
    resources.load(second, parse)
    assert parse.num_calls == 4


def test_several_resources_are_parsed_together_and_kept_as_one() -> None:
    resources, parse = StoredResources(MemoryStore()), Parse()
    both = tuple(resources.write(body, media_type=MEDIA_TYPE) for body in (b"model", b"items"))
    assert (
        resources.load_together(both, parse) == resources.load_together(both, parse) == (b"model", b"items")
    )
    assert parse.num_calls == 1


def test_an_artifact_of_an_earlier_job_is_a_resource_of_a_later_one_and_its_statement_is_not() -> None:
    store = MemoryStore()
    resources = StoredResources(store)
    sha256 = resources.write(b"lists", media_type=MEDIA_TYPE)
    store.delete(f"resources/{sha256[:2]}/{sha256}")
    key = f"artifacts/{sha256[:2]}/{sha256}"
    store.put(f"{key}.{'0' * 64}.statement.json", b"{}", media_type=MEDIA_TYPE)
    with pytest.raises(ResourceMissingError):
        resources.read(sha256)
    store.put(f"{key}.parquet", b"lists", media_type=MEDIA_TYPE)
    assert resources.read(sha256) == b"lists"
