"""A release in Redis or Valkey for serving: `rec:{user}` is the user's row as JSON, switched as a whole.

The rows go into a second logical database of the same server, and SWAPDB makes it the served one: a reader
gets the old release or the new one, never some of both. Both databases hold nothing else.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from uuid import uuid4

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import WatchError

from kinds.recommendation.export.rows import Row, RowMaker
from kinds.recommendation.releases.release import ReleaseReader, manifest_bytes
from kinds.recommendation.serving.checks import (
    LOCK,
    RELEASE,
    STAGING,
    ServingError,
    State,
    check_dedicated,
    check_server,
    errors_named,
    int_of,
    number_of,
    read_state,
)
from workers.connectors.addresses import guard
from workers.redis_server import RedisServer

ROWS_AT_A_TIME = 500
"""In one round trip: about 2 MB."""

SERVER_SECONDS = 60.0
"""For one answer: a large database takes seconds to be emptied."""

LOCK_SECONDS = 60
"""Renewed with every round trip; who has not renewed it for so long is dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingTarget:
    """Where a release is served."""

    url: str
    """Of the served database: redis://host:6379/2. It may hold a password and is never printed."""
    staging: int
    """Number of a second logical database of the server."""
    expire_seconds: int | None = None
    """After which rows vanish by themselves, so that no list outlives its refreshes; None keeps them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What an export came to."""

    release: int
    num_rows: int
    num_resumed_blocks: int
    """That an earlier, interrupted export had written."""
    was_served: bool
    """Whether this very release was served already: rows were changed in place, if at all."""
    num_written: int
    """Rows that this call wrote."""


def key_of(user_id: str) -> str:
    """The key of a user's row; an id that begins with @ gets another one, as `rec:@...` is Pressroom's own.

    >>> key_of("ann"), key_of("@release")
    ('rec:ann', 'rec:@@release')
    """
    return f"rec:@{user_id}" if user_id.startswith("@") else f"rec:{user_id}"


def serve_release(reader: ReleaseReader, target: ServingTarget) -> Served:
    """Write all rows to the staging database and swap it in.

    Where the same release is served already, only rows that items have left since are written, in place.
    Interrupted, it leaves the served release as it is, and the next call goes on with the block it was at.
    Memory: the catalogue, one block, ROWS_AT_A_TIME rows. Raises ServingError, and what the reader raises.
    """
    with (
        errors_named(target.url),
        _client(target.url) as served,
        _client(target.url, target.staging) as staging,
    ):
        check_server(served, staging, target.staging)
        check_dedicated(served, what="served")
        check_dedicated(staging, what="staging")
        reader.catalogue(), reader.copy_index()  # before the lock: both may take their time
        return _Export(reader, target, served, staging).run()


def _client(url: str, number: int | None = None) -> Redis:
    """Return a client of the database that the URL names, or of another one of the same server."""
    return RedisServer.from_url(url, variable="the serving place").client(
        database=number,
        addresses=guard(what="serving", name="the serving place", allow_private=True),
        decode_responses=True,
        encoding_errors="replace",
        socket_timeout=SERVER_SECONDS,
    )


class _Export:
    """One export: what is known while it runs."""

    def __init__(self, reader: ReleaseReader, target: ServingTarget, served: Redis, staging: Redis) -> None:
        self._reader = reader
        self._maker = RowMaker(reader)
        self._expire_seconds = target.expire_seconds
        self._served, self._staging = served, staging
        self._staging_number = target.staging
        self._release = hashlib.sha256(manifest_bytes(reader.manifest)).hexdigest()
        self._identity = identity_of(reader, target.expire_seconds)
        self._token = uuid4().hex
        self._num_written = 0

    def run(self) -> Served:
        if not self._staging.set(LOCK, self._token, nx=True, ex=LOCK_SECONDS):
            raise ServingError(
                "another export writes to the staging database: wait for it, or for "
                f"{self._staging.ttl(LOCK)} seconds if it has died",
                code="serving_busy",
            )
        try:
            marker = read_state(self._served, RELEASE)
            if self._is_served(marker):
                return self._update(marker)
            return self._replace()
        finally:
            if self._staging.get(LOCK) == self._token:
                self._staging.delete(LOCK)

    def _is_served(self, marker: State) -> bool:
        """Whether it is this release, whole. Rows that expire are written again: their time begins anew."""
        is_whole = self._served.dbsize() == int_of(marker, "num_rows") + 1
        return marker.get("manifest") == self._release and self._expire_seconds is None and is_whole

    def _update(self, marker: State) -> Served:
        """Rows of the served release that came out otherwise, in place: each is right by itself."""
        if marker.get("identity") != self._identity:
            changed = self._reader.withdrawn.symmetric_difference(_names(marker["withdrawn"]))
            for block in self._reader.blocks():
                rows = self._maker.rows_of(block, self._maker.touched(block, changed))
                for some in _parts(rows):
                    self._overwrite({key_of(row.user_id): row_body(row) for row in some})
                self._staging.expire(LOCK, LOCK_SECONDS)
            body = self._marker(int_of(marker, "num_rows"), None)
            self._fenced(self._served, RELEASE, lambda pipeline: pipeline.set(RELEASE, body))
        return self._outcome(int_of(marker, "num_rows"), 0, was_served=True)

    def _overwrite(self, bodies: Mapping[str, str]) -> None:
        there = self._served.mget(list(bodies))
        changed = [(key, body) for (key, body), old in zip(bodies.items(), there, strict=True) if body != old]

        def put(pipeline: Pipeline) -> None:
            for key, body in changed:
                pipeline.set(key, body, xx=True)

        if changed:
            self._fenced(self._served, RELEASE, put)
            self._num_written += len(changed)

    def _replace(self) -> Served:
        """All rows beside the served ones, then in their place."""
        begun = self._begun()
        first_block, num_rows = int_of(begun, "next_block"), int_of(begun, "num_rows")
        expires_at = None if begun["expires_at"] is None else int_of(begun, "expires_at")
        for number in range(first_block, len(self._reader.manifest.blocks)):
            rows = self._maker.rows_of(self._reader.block(number))
            for some in _parts(rows):
                self._write(some, expires_at)
            num_rows += len(rows)
            self._note(self._state(number + 1, num_rows, expires_at))
        self._switch(num_rows, expires_at)
        return self._outcome(num_rows, first_block)

    def _begun(self) -> State:
        """Where an interrupted export of the same release stopped; else a cleared database."""
        state = read_state(self._staging, STAGING)
        # A server may come back without its last rows; the lock and the state are no rows
        is_whole = self._staging.dbsize() >= int_of(state, "num_rows") + 2
        if state.get("identity") == self._identity and is_whole and not self._is_stale(state):
            return state
        expires_at = None if self._expire_seconds is None else int(time.time()) + self._expire_seconds
        new = self._state(0, 0, expires_at)

        def clear(pipeline: Pipeline) -> None:
            pipeline.flushdb()
            pipeline.set(LOCK, self._token, ex=LOCK_SECONDS)
            pipeline.set(STAGING, json.dumps(new))

        self._in_staging(clear)
        return new

    def _is_stale(self, state: State) -> bool:
        """Whether less than half of the rows' time is left: better to begin anew."""
        if self._expire_seconds is None:
            return False
        return int_of(state, "expires_at") - time.time() < self._expire_seconds / 2

    def _write(self, rows: list[Row], expires_at: int | None) -> None:
        def put(pipeline: Pipeline) -> None:
            for row in rows:
                pipeline.set(key_of(row.user_id), row_body(row), exat=expires_at)
            pipeline.expire(LOCK, LOCK_SECONDS)

        self._in_staging(put)
        self._num_written += len(rows)

    def _note(self, state: State) -> None:
        self._in_staging(lambda pipeline: pipeline.set(STAGING, json.dumps(state)))

    def _switch(self, num_rows: int, expires_at: int | None) -> None:
        """The staging database becomes the served one, and what was served is let go of, in one step."""
        if self._staging.dbsize() != num_rows + 2:
            self._staging.delete(STAGING)  # the next export begins anew
            raise ServingError(
                f"the staging database has not the {num_rows} rows that were written: something else removes "
                "keys from it (an eviction policy, a short expiry?); the served release is as it was",
                code="serving_incomplete",
            )
        marker = self._marker(num_rows, expires_at)

        def swap(pipeline: Pipeline) -> None:
            pipeline.set(RELEASE, marker)
            pipeline.delete(LOCK, STAGING)
            pipeline.swapdb(self._staging_number, number_of(self._served))
            pipeline.flushdb(asynchronous=True)  # by now it holds what was served

        self._in_staging(swap)

    def _in_staging(self, add: Callable[[Pipeline], object]) -> None:
        self._fenced(self._staging, LOCK, add)

    def _fenced(self, client: Redis, watched: str, add: Callable[[Pipeline], object]) -> None:
        """Commands in one transaction, which happens only while the lock is this export's."""
        with client.pipeline(transaction=True) as pipeline:
            try:
                pipeline.watch(watched)  # type: ignore[no-untyped-call]
                if self._staging.get(LOCK) != self._token:
                    raise WatchError
                pipeline.multi()
                add(pipeline)
                pipeline.execute()
            except WatchError as error:
                raise ServingError(
                    "another export took over, because this one had stood still: what it serves stays",
                    code="serving_busy",
                ) from error

    def _state(self, next_block: int, num_rows: int, expires_at: int | None) -> State:
        manifest = self._reader.manifest
        return {
            "identity": self._identity,
            "manifest": self._release,
            "refresh": manifest.refresh,
            "release": self._reader.number,
            "created_at": manifest.created_at.isoformat(),
            "num_rows": num_rows,
            "next_block": next_block,
            "expires_at": expires_at,
        }

    def _marker(self, num_rows: int, expires_at: int | None) -> str:
        """What says of the served database which release it has, and without which items."""
        state = self._state(len(self._reader.manifest.blocks), num_rows, expires_at)
        return json.dumps({**state, "withdrawn": sorted(self._reader.withdrawn)})

    def _outcome(self, num_rows: int, num_resumed: int, *, was_served: bool = False) -> Served:
        return Served(
            release=self._reader.number,
            num_rows=num_rows,
            num_resumed_blocks=num_resumed,
            was_served=was_served,
            num_written=self._num_written,
        )


def row_body(row: Row) -> str:
    """What a reader of `rec:{user}` gets."""
    return json.dumps(row.as_json(), ensure_ascii=False, separators=(",", ":"))


def identity_of(reader: ReleaseReader, expire_seconds: int | None) -> str:
    """Return the identity of what would be served: release, withdrawn items, expiry."""
    digest = hashlib.sha256(manifest_bytes(reader.manifest))
    digest.update(json.dumps([sorted(reader.withdrawn), expire_seconds]).encode())
    return digest.hexdigest()


def _names(value: object) -> set[str]:
    return {str(name) for name in value} if isinstance(value, list) else set()


def _parts(rows: Iterable[Row]) -> Iterator[list[Row]]:
    waiting = iter(rows)
    while some := list(itertools.islice(waiting, ROWS_AT_A_TIME)):
        yield some
