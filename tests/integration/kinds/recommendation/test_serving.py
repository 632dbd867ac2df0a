"""Serving from a real Valkey: switched as a whole, interrupted without harm, never over others' keys."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import pytest
from redis import Redis
from redis.client import Pipeline

from kinds.recommendation.export.rows import rows
from kinds.recommendation.release import BlockLists, ReleaseReader
from kinds.recommendation.serving import serving
from kinds.recommendation.serving.serving import (
    LOCK,
    RELEASE,
    STAGING,
    ServingError,
    ServingTarget,
    key_of,
    serve_release,
)
from pressroom.embedded.services import ServiceUrls
from tests.unit.kinds.recommendation.export.samples import Shelf, item, make_release, text, user_list

ITEMS = [item(name) for name in "abcdef"]


@dataclass(frozen=True, slots=True)
class Server:
    """A served and a staging database, both empty at first."""

    target: ServingTarget
    served: Redis
    staging: Redis

    def rows(self) -> dict[str, dict[str, object]]:
        keys = [key for key in self.served.scan_iter() if key != RELEASE]
        return {key: json.loads(str(self.served.get(key))) for key in keys}


@pytest.fixture
def server(redis_url: str, redis_numbers: Iterator[int]) -> Iterator[Server]:
    number = next(redis_numbers)
    with (
        Redis.from_url(redis_url, decode_responses=True) as served,
        Redis.from_url(f"{redis_url.rpartition('/')[0]}/{number}", decode_responses=True) as staging,
    ):
        staging.flushdb()
        yield Server(ServingTarget(url=redis_url, staging=number), served, staging)
        served.flushdb()
        staging.flushdb()


def release(number: int = 1, num_users: int = 60, **fields: object) -> ReleaseReader:
    lists = [user_list(f"user-{n}", "abcdef"[number % 6], "c", "d", "e") for n in range(num_users)]
    options = {"num_blocks": 8, "number": number} | fields
    return make_release(Shelf(), lists, ITEMS, **options)  # type: ignore[arg-type]


def served_rows(of: ReleaseReader) -> Mapping[str, object]:
    return {key_of(row.user_id): row.as_json() for row in rows(of)}


def test_every_user_has_a_key_and_nothing_else_is_there(server: Server) -> None:
    served = serve_release(release(), server.target)
    assert (served.num_rows, served.num_written, served.was_served) == (60, 60, False)
    assert server.rows() == served_rows(release())
    assert json.loads(str(server.served.get(RELEASE)))["release"] == 1
    assert server.staging.dbsize() == 0


def test_next_release_takes_the_place_of_the_earlier_one_whole(server: Server) -> None:
    serve_release(release(1, num_users=60), server.target)
    serve_release(release(2, num_users=40), server.target)
    assert server.rows() == served_rows(release(2, num_users=40))
    assert server.staging.dbsize() == 0


def test_same_release_again_writes_nothing(server: Server) -> None:
    serve_release(release(), server.target)
    again = serve_release(release(), server.target)
    assert (again.num_written, again.was_served, again.num_rows) == (0, True, 60)


def test_rows_that_were_lost_from_the_same_release_are_written_again(server: Server) -> None:
    serve_release(release(), server.target)
    server.served.delete("rec:user-3")
    assert not serve_release(release(), server.target).was_served
    assert server.rows() == served_rows(release())


def test_withdrawn_item_leaves_the_served_rows_in_place(server: Server) -> None:
    lists = [user_list("ann", "a", "b", "c", "d"), user_list("bob", "c", "d", "e", "f")]
    before = make_release(Shelf(), lists, ITEMS)
    after = make_release(Shelf(), lists, ITEMS, withdrawn=frozenset("a"))
    serve_release(before, server.target)
    update = serve_release(after, server.target)
    assert (update.was_served, update.num_written) == (True, 1)
    assert server.rows() == served_rows(after)
    assert serve_release(after, server.target).num_written == 0
    # And back, when it is available again
    assert serve_release(before, server.target).num_written == 1
    assert server.rows() == served_rows(before)


def test_text_that_names_a_withdrawn_item_leaves_the_rows_of_all_its_readers(server: Server) -> None:
    shelf = Shelf()
    index = {"segment:tents": shelf.entry("k", ["a"], text("Item a"))}
    lists = [user_list("ann", "c", "d"), user_list("bob", "a"), user_list("cy", "c", segment="boots")]
    serve_release(make_release(shelf, lists, ITEMS, index=index), server.target)
    after = make_release(shelf, lists, ITEMS, index=index, withdrawn=frozenset("a"))
    update = serve_release(after, server.target)
    assert (update.was_served, update.num_written) == (True, 2)
    assert server.rows() == served_rows(after)
    assert "Item a" not in json.dumps(server.rows())


def test_readers_never_see_two_releases_at_once(server: Server) -> None:
    serve_release(release(1), server.target)
    keys = [key_of(f"user-{n}") for n in range(60)]
    seen: set[int] = set()
    wrong: list[object] = []
    is_over = threading.Event()

    def hammer() -> None:
        with Redis.from_url(server.target.url, decode_responses=True) as client:
            while not is_over.is_set():
                found = client.mget([RELEASE, *keys])
                numbers = {None if body is None else json.loads(body)["release"] for body in found}
                if len(numbers) != 1 or None in numbers:
                    wrong.append(numbers)
                seen.update(filter(None, numbers))

    readers = [threading.Thread(target=hammer) for _ in range(2)]
    for reader in readers:
        reader.start()
    _wait_until(lambda: 1 in seen)
    for number in range(2, 8):
        serve_release(release(number), server.target)
    _wait_until(lambda: 7 in seen)
    is_over.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Crash(Exception):
    """Ends an export in the middle."""


class CrashingRelease:
    """A release whose block cannot be read; otherwise as the one it wraps."""

    def __init__(self, wrapped: ReleaseReader, at: int) -> None:
        self._wrapped = wrapped
        self._at = at
        self.num_read = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._wrapped, name)

    def block(self, number: int) -> BlockLists:
        if number == self._at:
            raise Crash
        self.num_read += 1
        return self._wrapped.block(number)


def test_crash_in_the_middle_leaves_the_served_release_and_the_next_call_goes_on(server: Server) -> None:
    serve_release(release(1), server.target)
    with pytest.raises(Crash):
        serve_release(CrashingRelease(release(2), 5), server.target)  # type: ignore[arg-type]
    assert server.rows() == served_rows(release(1))
    resumed = CrashingRelease(release(2), -1)
    served = serve_release(resumed, server.target)  # type: ignore[arg-type]
    assert (served.num_resumed_blocks, resumed.num_read) == (5, 3)
    assert server.rows() == served_rows(release(2))


def test_what_was_staged_of_another_release_is_not_gone_on_with(server: Server) -> None:
    with pytest.raises(Crash):
        serve_release(CrashingRelease(release(2, num_users=90), 7), server.target)  # type: ignore[arg-type]
    served = serve_release(release(3), server.target)
    assert served.num_resumed_blocks == 0
    assert server.rows() == served_rows(release(3))


def test_staged_rows_that_were_lost_are_written_again(server: Server) -> None:
    with pytest.raises(Crash):
        serve_release(CrashingRelease(release(2), 5), server.target)  # type: ignore[arg-type]
    some = [key for key in server.staging.scan_iter() if key not in (STAGING, LOCK)]
    server.staging.delete(*some[:3])
    assert serve_release(release(2), server.target).num_resumed_blocks == 0
    assert server.rows() == served_rows(release(2))


def test_keys_that_vanish_while_staging_stop_the_switch(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_release(release(1), server.target)
    switch = serving._Export._switch

    def evict_first(self: serving._Export, num_rows: int, expires_at: int | None) -> None:
        server.staging.delete("rec:user-7")
        switch(self, num_rows, expires_at)

    monkeypatch.setattr(serving._Export, "_switch", evict_first)
    with pytest.raises(ServingError, match="is unchanged") as caught:
        serve_release(release(2), server.target)
    assert caught.value.code == "serving_incomplete"
    assert server.rows() == served_rows(release(1))


def test_second_export_is_told_of_the_first(server: Server) -> None:
    server.staging.set(LOCK, "somebody", ex=30)
    with pytest.raises(ServingError, match="another export") as caught:
        serve_release(release(), server.target)
    assert caught.value.code == "serving_busy"
    assert server.staging.get(LOCK) == "somebody"


def test_export_that_lost_its_lock_cannot_switch(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_release(release(1), server.target)
    switch = serving._Export._switch

    def lose_lock_first(self: serving._Export, num_rows: int, expires_at: int | None) -> None:
        server.staging.set(LOCK, "another")
        switch(self, num_rows, expires_at)

    monkeypatch.setattr(serving._Export, "_switch", lose_lock_first)
    with pytest.raises(ServingError, match="another export") as caught:
        serve_release(release(2), server.target)
    assert caught.value.code == "serving_busy"
    assert server.rows() == served_rows(release(1))


@pytest.mark.parametrize("where", ["served", "staging"])
@pytest.mark.parametrize("key", ["celery", "rec", "\udcff"])
def test_database_with_other_keys_is_refused_and_left_alone(server: Server, where: str, key: str) -> None:
    client: Redis = getattr(server, where)
    client.set(key.encode("utf-8", "surrogateescape"), "1")
    with pytest.raises(ServingError, match=where) as caught:
        serve_release(release(), server.target)
    assert caught.value.code == "serving_not_dedicated"
    assert client.dbsize() == 1


def test_database_of_ours_with_one_other_key_is_refused_too(server: Server) -> None:
    serve_release(release(1), server.target)
    server.served.set("session:17", "1")
    with pytest.raises(ServingError, match="session:17"):
        serve_release(release(2), server.target)
    assert server.served.get("session:17") == "1"


def test_rows_of_another_program_under_our_prefix_are_left_alone(server: Server) -> None:
    server.served.set("rec:ann", "somebody else's")
    with pytest.raises(ServingError) as caught:
        serve_release(release(), server.target)
    assert caught.value.code == "serving_not_dedicated"


@pytest.mark.parametrize("staging", ["same", 4000])
def test_staging_that_cannot_be_is_said_before_anything_is_written(
    server: Server, staging: int | str
) -> None:
    number = int(server.target.url.rpartition("/")[2]) if staging == "same" else int(staging)
    with pytest.raises(ServingError) as caught:
        serve_release(release(), replace(server.target, staging=number))
    assert caught.value.code == "serving_unsuited"
    assert server.served.dbsize() == 0


def test_user_without_permission_to_swap_is_told_what_to_allow(server: Server, services: ServiceUrls) -> None:
    server.served.acl_setuser(
        "limited",
        enabled=True,
        passwords=["+secret-word"],
        categories=["+@all"],
        commands=["-swapdb"],
        keys=["*"],
    )
    try:
        url = server.target.url.replace("redis://:", "redis://limited:").split("@")
        target = replace(server.target, url=f"redis://limited:secret-word@{url[1]}")
        with pytest.raises(ServingError, match="SWAPDB") as caught:
            serve_release(release(), target)
    finally:
        server.served.acl_deluser("limited")
    assert caught.value.code == "serving_denied"
    assert "secret-word" not in str(caught.value)
    assert server.served.dbsize() == 0


def test_server_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(ServingError) as caught:
        serve_release(release(), ServingTarget(url="redis://:secret-word@127.0.0.1:1/0", staging=1))
    assert caught.value.code == "serving_unavailable"
    assert "127.0.0.1:1" in str(caught.value)
    assert "secret-word" not in str(caught.value)


def test_member_of_a_cluster_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    info = Redis.info

    def as_in_a_cluster(self: Redis, *sections: str) -> dict[str, object]:
        return dict(info(self, *sections)) | {"cluster_enabled": 1}

    monkeypatch.setattr(Redis, "info", as_in_a_cluster)
    with pytest.raises(ServingError, match="Cluster") as caught:
        serve_release(release(), server.target)
    assert caught.value.code == "serving_unsuited"


def test_rows_expire_together_and_a_new_export_gives_them_new_time(server: Server) -> None:
    target = replace(server.target, expire_seconds=1000)
    serve_release(release(), target)
    assert {server.served.expiretime(key) for key in server.rows()} == {
        server.served.expiretime("rec:user-1")
    }
    assert 990 < server.served.ttl("rec:user-1") <= 1000
    assert server.served.ttl(RELEASE) == -1
    server.served.expire("rec:user-1", 10)
    assert serve_release(release(), target).num_written == 60
    assert server.served.ttl("rec:user-1") > 990


def test_user_named_like_a_key_of_ours_overwrites_nothing(server: Server) -> None:
    hostile = ["@release", "@lock", "@@release", "", "a b\r\nSET x 1", "u" * 10_240]
    shelf = Shelf()
    lists = [user_list(name, "a") for name in hostile]
    of = make_release(shelf, lists, ITEMS)
    serve_release(of, server.target)
    assert len(server.rows()) == len(hostile)
    assert server.rows() == served_rows(of)
    assert json.loads(str(server.served.get(RELEASE)))["num_rows"] == len(hostile)


def test_rows_carry_hostile_titles_and_texts_unchanged(server: Server) -> None:
    shelf = Shelf()
    words = '</script>\u2028\0"=cmd()'
    index = {"segment:tents": shelf.entry("k", ["a"], text(words))}
    of = make_release(shelf, [user_list("ann", "a")], [item("a", title=words)], index=index)
    serve_release(of, server.target)
    row = server.rows()["rec:ann"]
    assert row["headline"] == words
    assert row["items"][0]["title"] == words  # type: ignore[index]


def test_no_round_trip_carries_more_rows_than_the_bound(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "ROWS_AT_A_TIME", 7)
    sizes: list[int] = []
    execute = Pipeline.execute

    def counted(self: Pipeline, raise_on_error: bool = True) -> object:
        sizes.append(len(self.command_stack))
        return execute(self, raise_on_error)

    monkeypatch.setattr(Pipeline, "execute", counted)
    serve_release(release(), server.target)
    assert max(sizes) <= 8
    assert server.rows() == served_rows(release())
