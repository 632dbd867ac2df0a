"""Serves a release from Redis or Valkey: `rec:{user}` is the user's row as JSON.

The rows are written to a second logical database of the same server, and SWAPDB then makes that database the
served one, so that a reader gets the old release or the new one but never a mixture. Both databases contain
nothing else.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError, WatchError

from jobs.errors import PressroomError
from jobs.shown import plural
from kinds.recommendation.export.rows import Row, RowMaker
from kinds.recommendation.release import ReleaseReader, manifest_bytes
from workers.connectors.addresses import AddressGuard, AddressRefusedError, UnreachableError
from workers.redis_server import RedisServer

PREFIX = "rec:"
RELEASE = "rec:@release"
"""Key of the marker, which contains recommender, number and digest of the served release."""
STAGING = "rec:@staging"
"""Key under which an export stores its progress."""
LOCK = "rec:@lock"
OWN = (RELEASE, STAGING, LOCK)

State = Mapping[str, object]
"""Value that is stored as JSON under the keys RELEASE and STAGING."""

_SCAN_AT_A_TIME = 5000

ROWS_AT_A_TIME = 500
"""Number of rows per round trip, about 2 MB."""

SERVER_SECONDS = 60.0
"""Timeout of one reply in seconds. It is long because emptying a large database takes several seconds."""

LOCK_SECONDS = 60
"""Expiry of the lock in seconds. Every round trip renews it; an export whose lock expires counts as dead."""


class ServingError(PressroomError):
    """A release cannot be served from this server or database; the served release stays as it is."""

    code = "serving_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingTarget:
    """Database that a release is served from, with its options."""

    url: str
    """URL of the served database, such as redis://host:6379/2. It may contain a password: never print it."""
    staging: int
    """Number of a second logical database of the server, in which new rows are prepared."""
    expire_seconds: int | None = None
    """Time after which rows expire, so that lists disappear once refreshes have stopped; None keeps them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingResult:
    """Result of an export."""

    release: int
    num_rows: int
    num_resumed_blocks: int
    """Number of blocks that an earlier, interrupted export had already written."""
    was_served: bool
    """Whether the same release was being served already, in which case rows were only updated in place."""
    num_written: int
    """Number of rows that this call has written."""


def key_of(user_id: str) -> str:
    """Return the key of a user's row.

    An id that begins with @ gets a second @, because keys such as `rec:@release` are reserved.

    >>> key_of("ann"), key_of("@release")
    ('rec:ann', 'rec:@@release')
    """
    return f"rec:@{user_id}" if user_id.startswith("@") else f"rec:{user_id}"


def serve_release(reader: ReleaseReader, target: ServingTarget) -> ServingResult:
    """Write all rows to the staging database and swap it in.

    If the same release is served already, only rows affected by new or ended withdrawals are written, in
    place. If the export is interrupted, the served release stays as it is, and the next call resumes at the
    same block.
    Memory holds the catalogue, one block at a time and at most ROWS_AT_A_TIME rows. Raises ServingError and
    the reader's errors.
    """
    with (
        errors_named(target.url),
        _client(target.url) as served,
        _client(target.url, target.staging) as staging,
    ):
        check_server(served, staging, target.staging)
        check_dedicated(served, what="served")
        check_dedicated(staging, what="staging")
        reader.catalogue(), reader.text_index()  # before the lock is taken, as both may be slow
        return _Export(reader, target, served, staging).run()


def _client(url: str, number: int | None = None) -> Redis:
    """Return a client of the URL's database, or of the database `number` of the same server."""
    return RedisServer.from_url(url, variable="the serving place").client(
        database=number,
        addresses=AddressGuard(what="serving", name="the serving place", allow_private=True).address_texts,
        decode_responses=True,
        encoding_errors="replace",
        socket_timeout=SERVER_SECONDS,
    )


class _Export:
    """State of one running export."""

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

    def run(self) -> ServingResult:
        if not self._staging.set(LOCK, self._token, nx=True, ex=LOCK_SECONDS):
            raise ServingError(
                "another export is writing to the staging database: wait until it ends; if it died, its lock "
                f"expires within {LOCK_SECONDS} seconds",
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
        """Return whether this release is served completely.

        The result is always False if rows expire: they are written again to restart their lifetime.
        """
        is_whole = self._served.dbsize() == int_of(marker, "num_rows") + 1
        return marker.get("manifest") == self._release and self._expire_seconds is None and is_whole

    def _update(self, marker: State) -> ServingResult:
        """Overwrite changed rows of the served release in place; each row is valid on its own."""
        if marker.get("identity") != self._identity:
            changed = self._reader.withdrawn.symmetric_difference(_names(marker["withdrawn"]))
            for block in self._reader.blocks():
                rows = self._maker.rows_of(block, self._maker.affected_users(block, changed))
                for part in _parts(rows):
                    self._overwrite({key_of(row.user_id): row_body(row) for row in part})
                self._staging.expire(LOCK, LOCK_SECONDS)
            body = self._marker(int_of(marker, "num_rows"), None)
            self._fenced(self._served, RELEASE, lambda pipeline: pipeline.set(RELEASE, body))
        return self._outcome(int_of(marker, "num_rows"), 0, was_served=True)

    def _overwrite(self, bodies: Mapping[str, str]) -> None:
        current = self._served.mget(list(bodies))
        changed = [
            (key, body) for (key, body), old in zip(bodies.items(), current, strict=True) if body != old
        ]

        def put(pipeline: Pipeline) -> None:
            for key, body in changed:
                pipeline.set(key, body, xx=True)

        if changed:
            self._fenced(self._served, RELEASE, put)
            self._num_written += len(changed)

    def _replace(self) -> ServingResult:
        """Write all rows to the staging database, then switch to it."""
        state = self._begin()
        first_block, num_rows = int_of(state, "next_block"), int_of(state, "num_rows")
        expires_at = None if state["expires_at"] is None else int_of(state, "expires_at")
        for number in range(first_block, len(self._reader.manifest.blocks)):
            rows = self._maker.rows_of(self._reader.block(number))
            for part in _parts(rows):
                self._write(part, expires_at)
            num_rows += len(rows)
            self._note(self._state(number + 1, num_rows, expires_at))
        self._switch(num_rows, expires_at)
        return self._outcome(num_rows, first_block)

    def _begin(self) -> State:
        """Return the state of an interrupted export of the same release.

        If there is none, clear the staging database and return a new state.
        """
        state = read_state(self._staging, STAGING)
        # The server may have restarted and lost the last rows. The 2 counts the keys LOCK and STAGING.
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
        """Return whether less than half of the rows' lifetime is left, in which case they are written
        again."""
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
        """Make the staging database the served one and drop the previous rows, in one step."""
        if self._staging.dbsize() != num_rows + 2:
            self._staging.delete(STAGING)  # so that the next export starts over
            raise ServingError(
                f"the staging database does not hold the {num_rows} rows that were written: something else "
                "removes its keys, such as an eviction policy; the served release is unchanged",
                code="serving_incomplete",
            )
        marker = self._marker(num_rows, expires_at)

        def swap(pipeline: Pipeline) -> None:
            pipeline.set(RELEASE, marker)
            pipeline.delete(LOCK, STAGING)
            pipeline.swapdb(self._staging_number, number_of(self._served))
            pipeline.flushdb(asynchronous=True)  # after the swap this is the previously served database

        self._in_staging(swap)

    def _in_staging(self, add: Callable[[Pipeline], object]) -> None:
        self._fenced(self._staging, LOCK, add)

    def _fenced(self, client: Redis, watched: str, add: Callable[[Pipeline], object]) -> None:
        """Run commands in one transaction, which is executed only while this export holds the lock."""
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
                    "another export took over because this one made no progress; the other export continues",
                    code="serving_busy",
                ) from error

    def _state(self, next_block: int, num_rows: int, expires_at: int | None) -> State:
        manifest = self._reader.manifest
        return {
            "identity": self._identity,
            "manifest": self._release,
            "recommender": manifest.recommender,
            "release": self._reader.number,
            "created_at": manifest.created_at.isoformat(),
            "num_rows": num_rows,
            "next_block": next_block,
            "expires_at": expires_at,
        }

    def _marker(self, num_rows: int, expires_at: int | None) -> str:
        """Return the marker of the served database as JSON: the served release and the withdrawn items."""
        state = self._state(len(self._reader.manifest.blocks), num_rows, expires_at)
        return json.dumps({**state, "withdrawn": sorted(self._reader.withdrawn)})

    def _outcome(self, num_rows: int, num_resumed: int, *, was_served: bool = False) -> ServingResult:
        return ServingResult(
            release=self._reader.number,
            num_rows=num_rows,
            num_resumed_blocks=num_resumed,
            was_served=was_served,
            num_written=self._num_written,
        )


def row_body(row: Row) -> str:
    """Return the JSON that is stored under `rec:{user}`."""
    return json.dumps(row.as_json(), ensure_ascii=False, separators=(",", ":"))


def identity_of(reader: ReleaseReader, expire_seconds: int | None) -> str:
    """Return a digest of what would be served: the release, its withdrawn items and the expiry."""
    digest = hashlib.sha256(manifest_bytes(reader.manifest))
    digest.update(json.dumps([sorted(reader.withdrawn), expire_seconds]).encode())
    return digest.hexdigest()


def _names(value: object) -> set[str]:
    return {str(name) for name in value} if isinstance(value, list) else set()


def _parts(rows: list[Row]) -> Iterator[list[Row]]:
    return (rows[start : start + ROWS_AT_A_TIME] for start in range(0, len(rows), ROWS_AT_A_TIME))


@contextmanager
def errors_named(url: str) -> Iterator[None]:
    """Turn an error of the server into a ServingError that names the host but not the password."""
    where = RedisServer.from_url(url).location
    try:
        yield
    except ServingError:
        raise
    except (AddressRefusedError, UnreachableError) as error:
        raise ServingError(str(error), code=error.code) from error
    except NoPermissionError as error:
        raise ServingError(
            f"{where} denies this user a command that serving needs ({error}): allow GET, SET, EXPIRE, DEL, "
            f"SCAN, DBSIZE, FLUSHDB, SWAPDB, WATCH, MULTI, EXEC and INFO on {PREFIX}*",
            code="serving_denied",
        ) from error
    except AuthenticationError as error:
        raise ServingError(f"{where} rejects the user name or the password", code="serving_denied") from error
    except RedisError as error:
        raise ServingError(f"{where} returned an error: {error}", code="serving_unavailable") from error


def check_server(served: Redis, staging: Redis, number: int) -> None:
    """Check that the server can swap the two databases. Raises ServingError (`serving_unsuited`)."""
    if served.info("cluster").get("cluster_enabled"):
        raise ServingError(
            "the server is part of a Redis Cluster, which has one database and cannot swap it: serve from "
            "a single server, which may have replicas",
            code="serving_unsuited",
        )
    if number_of(served) == number:
        raise ServingError(
            f"database {number} cannot be both the served and the staging database: choose another one",
            code="serving_unsuited",
        )
    try:
        staging.ping()  # selects its number
        # Swapping a database with itself changes nothing but needs the same permission as the real swap
        staging.swapdb(number, number)
    except NoPermissionError:
        raise
    except ResponseError as error:
        raise ServingError(
            f"the server has no database {number} for staging, or does not support SWAPDB ({error}): choose "
            "another database or another server",
            code="serving_unsuited",
        ) from error


def check_dedicated(client: Redis, *, what: str) -> None:
    """Check that a database is empty or Pressroom's own. Raises ServingError (`serving_not_dedicated`)."""
    number = number_of(client)
    advice = "a release replaces the whole database, so use one that holds nothing else"
    size = client.dbsize()
    if size and not client.exists(*OWN):
        raise ServingError(
            f"the {what} database {number} has {plural(size, 'key', 'keys')}, but none of Pressroom's: "
            f"{advice}",
            code="serving_not_dedicated",
        )
    for key in client.scan_iter(count=_SCAN_AT_A_TIME):
        if not key.startswith(PREFIX):
            raise ServingError(
                f"the {what} database {number} has keys that are not Pressroom's, such as {key[:80]!r}: "
                f"{advice}",
                code="serving_not_dedicated",
            )


def number_of(client: Redis) -> int:
    """Return the number of the logical database."""
    return int(client.get_connection_kwargs().get("db") or 0)


def read_state(client: Redis, key: str) -> State:
    """Return the state that is stored under a key; it is empty if there is no such key."""
    body = client.get(key)
    state: State = {} if body is None else json.loads(str(body))
    return state


def int_of(state: State, name: str) -> int:
    """Return a number from a state; 0 if the state does not have it."""
    value = state.get(name, 0)
    return value if isinstance(value, int) else 0
