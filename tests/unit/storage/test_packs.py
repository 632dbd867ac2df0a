"""Packs: any tool can unpack them, and parts are read by their ranges with few requests."""

from __future__ import annotations

import io
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.memory import MemoryStore
from storage.packs import (
    MAX_GAP_BYTES,
    MAX_SPAN_BYTES,
    Pack,
    Part,
    Place,
    begin_reads,
    build_pack,
    plan_reads,
)
from storage.store import ObjectNotFoundError


class CountingStore(MemoryStore):
    """A store that counts the ranges that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.num_ranges = 0

    def get_range(self, key: str, offset: int, num_bytes: int) -> bytes:
        self.num_ranges += 1
        return super().get_range(key, offset, num_bytes)


def places_of(pack: Pack, parts: list[Part]) -> list[Place]:
    return [Place(pack.key, len(part.body), offset) for part, offset in zip(parts, pack.offsets, strict=True)]


def test_any_zip_tool_unpacks_a_pack() -> None:
    parts = [Part("a/article.md", b"# One\n"), Part("a.statement.json", b"{}"), Part("b/ü.txt", b"")]
    pack = build_pack(parts)
    with zipfile.ZipFile(io.BytesIO(pack.body)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {
            part.name: part.body for part in parts
        }
    assert [pack.body[o : o + len(p.body)] for o, p in zip(pack.offsets, parts, strict=True)] == [
        part.body for part in parts
    ]


def test_equal_parts_make_the_same_pack_and_others_another() -> None:
    assert build_pack([Part("a", b"1")]) == build_pack([Part("a", b"1")])
    assert build_pack([Part("a", b"1")]).key != build_pack([Part("a", b"2")]).key


@settings(deadline=None)
@given(
    bodies=st.lists(st.binary(max_size=300), min_size=1, max_size=30),
    order=st.randoms(use_true_random=False),
)
def test_parts_in_any_order_come_back_by_one_request(bodies: list[bytes], order: object) -> None:
    parts = [Part(str(number), body) for number, body in enumerate(bodies)]
    pack, store = build_pack(parts), CountingStore()
    store.put(pack.key, pack.body, media_type="application/zip")
    wanted = list(zip(places_of(pack, parts), bodies, strict=True))
    order.shuffle(wanted)  # type: ignore[attr-defined]
    with ThreadPoolExecutor(2) as pool:
        reads = begin_reads(store, pool, [place for place, _ in wanted])
        assert [read() for read in reads] == [body for _, body in wanted]
    assert store.num_ranges == 1


def test_distant_parts_and_long_spans_are_requests_of_their_own() -> None:
    near = [Place("p", 10, 0), Place("p", 10, 10 + MAX_GAP_BYTES)]
    far = [Place("p", 10, 0), Place("p", 10, 11 + MAX_GAP_BYTES)]
    long = [Place("p", MAX_SPAN_BYTES, 0), Place("p", 1, MAX_SPAN_BYTES)]
    assert [len(plan_reads(places)) for places in (near, far, long)] == [1, 2, 2]


def test_whole_objects_and_parts_of_other_packs_are_not_mixed() -> None:
    places = [Place("p", 5), Place("p", 5, 0), Place("q", 5, 5), Place("p", 5)]
    spans = plan_reads(places)
    assert sorted(span.indices for span in spans) == [(0, 3), (1,), (2,)]


def test_missing_pack_is_missing_for_each_of_its_parts_and_no_other() -> None:
    store = MemoryStore()
    store.put("packs/aa/there", b"there", media_type="application/zip")
    places = [Place("packs/aa/gone", 2, 0), Place("packs/aa/there", 5, 0), Place("packs/aa/gone", 2, 2)]
    with ThreadPoolExecutor(2) as pool:
        gone, there, gone_too = begin_reads(store, pool, places)
        assert there() == b"there"
        for read in (gone, gone_too):
            with pytest.raises(ObjectNotFoundError):
                read()


def test_part_longer_than_its_pack_comes_short_and_its_neighbour_whole() -> None:
    store = MemoryStore()
    store.put("packs/aa/short", b"0123456789", media_type="application/zip")
    places = [Place("packs/aa/short", 4, 2), Place("packs/aa/short", 100, 8), Place("packs/aa/short", 3, 50)]
    with ThreadPoolExecutor(2) as pool:
        assert [read() for read in begin_reads(store, pool, places)] == [b"2345", b"89", b""]
