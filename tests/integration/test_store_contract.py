"""Every store keeps the same promises: what storage.store.Store says, checked on each implementation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest

from jobs.errors import ConfigurationError
from storage import open_store
from storage.store import ObjectKeyError, ObjectNotFoundError, Store, StoreError

HOSTILE_KEYS = (
    *("", "/", "/a", "a/", "a//b", "../x", "a/../b", "a/..", "./a", "..", ".hidden", "a/.b"),
    *("a\n", "a\0b", "a b", "a\\b", "A", "ä", "a?b", "a%2fb", "a" * 2000, "\ud800"),
)


@pytest.fixture(params=["memory", "filesystem", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    urls: dict[str, Callable[[], str]] = {
        "memory": lambda: "memory:",
        "filesystem": lambda: (tmp_path / "a folder").as_uri(),
        "s3": lambda: str(request.getfixturevalue("s3_url")),
    }
    return open_store(urls[request.param]())


@pytest.mark.parametrize("body", [b"", b"text", bytes(range(256)), b"x" * 9_000_000])
def test_object_comes_back_byte_for_byte(any_store: Store, body: bytes) -> None:
    any_store.put("artifacts/aa/object.md", body, media_type="text/markdown")

    assert any_store.get("artifacts/aa/object.md") == body
    assert any_store.exists("artifacts/aa/object.md")


@pytest.mark.parametrize(
    ("offset", "num_bytes", "expected"),
    [(0, 3, b"012"), (3, 4, b"3456"), (7, 100, b"789"), (10, 5, b""), (400, 5, b""), (3, 0, b"")],
)
def test_range_ends_where_the_object_ends(
    any_store: Store, offset: int, num_bytes: int, expected: bytes
) -> None:
    any_store.put("a/b", b"0123456789", media_type="text/plain")

    assert any_store.get_range("a/b", offset, num_bytes) == expected


def test_range_of_a_missing_object_names_it(any_store: Store) -> None:
    with pytest.raises(ObjectNotFoundError, match="a/missing"):
        any_store.get_range("a/missing", 0, 1)


def test_listing_tells_sizes_and_times(any_store: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)  # some stores keep whole seconds
    for number in range(3):
        any_store.put(f"a/{number}", b"x" * number, media_type="text/plain")

    entries = list(any_store.entries("a/"))

    assert [(entry.key, entry.num_bytes) for entry in entries] == [("a/0", 0), ("a/1", 1), ("a/2", 2)]
    assert all(before <= entry.stored_at <= datetime.now(UTC) for entry in entries)


def test_same_object_may_be_put_twice(any_store: Store) -> None:
    for _ in range(2):
        any_store.put("a/b", b"same", media_type="text/plain")

    assert any_store.get("a/b") == b"same"
    assert list(any_store.keys()) == ["a/b"]


def test_missing_object_is_named_in_the_error(any_store: Store) -> None:
    any_store.put("a/other", b"", media_type="text/plain")

    assert not any_store.exists("a/missing")
    assert not any_store.exists("a")
    with pytest.raises(ObjectNotFoundError, match="a/missing"):
        any_store.get("a/missing")
    with pytest.raises(ObjectNotFoundError):
        any_store.get("a/other/below")


def test_deleted_object_is_gone_and_may_be_deleted_again(any_store: Store) -> None:
    any_store.put("a/b", b"1", media_type="text/plain")
    any_store.put("a/c", b"2", media_type="text/plain")

    any_store.delete("a/b")
    any_store.delete("a/b")
    any_store.delete("never/there")

    assert not any_store.exists("a/b")
    assert list(any_store.keys()) == ["a/c"]


@pytest.mark.attack("hostile object key")
@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_hostile_key_is_refused_by_every_method(any_store: Store, key: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: any_store.put(key, b"x", media_type="text/plain"),
        lambda: any_store.get(key),
        lambda: any_store.get_range(key, 0, 1),
        lambda: any_store.exists(key),
        lambda: any_store.delete(key),
    ]
    for call in calls:
        with pytest.raises(ObjectKeyError) as refusal:
            call()
        assert refusal.value.code == "object_key_invalid"
    assert list(any_store.keys()) == []


@pytest.mark.parametrize("prefix", ["../", "/", "a//", "a/../", "A", "*", "a" * 2000])
def test_hostile_prefix_is_refused(any_store: Store, prefix: str) -> None:
    with pytest.raises(ObjectKeyError):
        list(any_store.keys(prefix))


def test_listing_streams_past_a_thousand_keys_in_order(any_store: Store) -> None:
    keys = [f"batch/{number % 7}/{number:05d}.json" for number in range(1203)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: any_store.put(key, b"{}", media_type="application/json"), keys))

    assert list(any_store.keys()) == sorted(keys)
    assert list(any_store.keys("batch/3/")) == sorted(key for key in keys if key.startswith("batch/3/"))


def test_listing_orders_by_character_and_matches_any_prefix(any_store: Store) -> None:
    keys = ["a-b", "a.b", "a/b", "a/b0", "a/c/d", "a0", "ab/c", "b"]
    for key in reversed(keys):
        any_store.put(key, b"", media_type="text/plain")

    assert list(any_store.keys()) == keys
    assert list(any_store.keys("a")) == keys[:-1]
    assert list(any_store.keys("a/")) == ["a/b", "a/b0", "a/c/d"]
    assert list(any_store.keys("a/b")) == ["a/b", "a/b0"]
    assert list(any_store.keys("a/b/")) == []
    assert list(any_store.keys("nothing")) == []


def test_threads_share_a_store_without_mixing_objects(any_store: Store) -> None:
    def round_trip(number: int) -> bool:
        body = str(number).encode() * 5000
        key = f"objects/{hashlib.sha256(body).hexdigest()}"
        any_store.put(key, body, media_type="text/plain")
        return any_store.get(key) == body and any_store.exists(key)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(round_trip, range(100)))


def test_reader_never_sees_half_an_object_while_many_write_it(any_store: Store) -> None:
    body = b"0123456789" * 100_000
    together = Barrier(8)

    def write_and_read(_: int) -> bool:
        together.wait()
        any_store.put("a/contended", body, media_type="text/plain")
        return any_store.get("a/contended") == body

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(write_and_read, range(8)))
    assert list(any_store.keys()) == ["a/contended"]


def test_location_names_the_store_without_its_secret(
    any_store: Store, request: pytest.FixtureRequest
) -> None:
    assert any_store.location
    if any_store.location.startswith("http"):
        secret = str(request.getfixturevalue("s3_url")).partition("@")[0].rpartition(":")[2]
        assert secret not in any_store.location
        assert secret not in repr(any_store)


def test_folder_keeps_objects_for_the_next_process_and_ignores_half_written_ones(tmp_path: Path) -> None:
    open_store(tmp_path.as_uri()).put("a/b", b"kept", media_type="text/plain")
    (tmp_path / "a" / ".new-123").write_bytes(b"half")

    again = open_store(tmp_path.as_uri())

    assert again.get("a/b") == b"kept"
    assert list(again.keys()) == ["a/b"]


def test_folder_refuses_a_key_that_begins_with_another(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    store.put("a/b", b"", media_type="text/plain")

    for key in ("a/b/c", "a"):
        with pytest.raises(ObjectKeyError, match="parent folder of another"):
            store.put(key, b"", media_type="text/plain")


def test_s3_bucket_is_made_once_by_many(s3_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(open_store, [s3_url] * 4))

    stores[0].put("a/b", b"seen", media_type="text/plain")
    assert all(store.get("a/b") == b"seen" for store in stores)


def test_s3_with_a_wrong_secret_is_refused_without_showing_it(s3_url: str) -> None:
    head, _, tail = s3_url.partition("@")
    wrong = f"{head.rpartition(':')[0]}:wrong%2Fsecret@{tail}"

    with pytest.raises(StoreError, match="PRESSROOM_S3_URL") as refusal:
        open_store(wrong)

    assert "wrong/secret" not in str(refusal.value)
    assert "wrong%2Fsecret" not in str(refusal.value)


def test_s3_that_is_down_is_a_transient_error() -> None:
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:9/"):
        open_store("http://key:secret@127.0.0.1:9/bucket")


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://k:s@host/bucket", "s3://bucket", "", "http://", "http://host/bucket"),
        *("http://k:s3cret@host", "http://k:s3cret@host/a/b", "http://k:s3cret@host/B_"),
        *(
            "http://k:s3cret@host:port/bucket",
            "http://k:s3cret@host/bucket?acl=public",
            "http://k@host/bucket",
        ),
        "http://k:s3cret@host/bucket?region=",
    ],
)
def test_unusable_store_url_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        open_store(url)

    assert refusal.value.code == "store_url_invalid"
    assert "s3cret" not in str(refusal.value)
