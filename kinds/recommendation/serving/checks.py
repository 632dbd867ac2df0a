"""Checks, before anything is written, that a server and its databases can hold a release."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from jobs.errors import PressroomError
from workers.connectors.addresses import AddressRefusedError, UnreachableError
from workers.redis_server import RedisServer

PREFIX = "rec:"
RELEASE = "rec:@release"
"""Key of the marker: refresh, number and digest of the served release."""
STAGING = "rec:@staging"
"""Key of the progress of an export."""
LOCK = "rec:@lock"
OWN = (RELEASE, STAGING, LOCK)

State = Mapping[str, object]
"""Value of RELEASE and STAGING, which is stored as JSON."""

_SCAN_AT_A_TIME = 5000


class ServingError(PressroomError):
    """A release cannot be served from this server or database; what is served stays as it is."""

    code = "serving_failed"


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
            f"{where} does not let this user do what serving needs ({error}): allow GET, SET, EXPIRE, DEL, "
            f"SCAN, DBSIZE, FLUSHDB, SWAPDB, WATCH, MULTI, EXEC and INFO on {PREFIX}*",
            code="serving_denied",
        ) from error
    except AuthenticationError as error:
        raise ServingError(f"{where} refuses name or password", code="serving_denied") from error
    except RedisError as error:
        raise ServingError(f"{where} did not do as asked: {error}", code="serving_unavailable") from error


def check_server(served: Redis, staging: Redis, number: int) -> None:
    """Check that the server can swap the two databases. Raises ServingError (`serving_unsuited`)."""
    if served.info("cluster").get("cluster_enabled"):
        raise ServingError(
            "the server is part of a Redis Cluster, which has one database and cannot swap it: serve from a "
            "single server, with replicas if need be",
            code="serving_unsuited",
        )
    if number_of(served) == number:
        raise ServingError(
            f"database {number} cannot be both the served and the staging one: name two",
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
            f"the server has no database {number} to stage a release in, or no SWAPDB ({error}): name "
            "another one, or serve from a server of your own",
            code="serving_unsuited",
        ) from error


def check_dedicated(client: Redis, *, what: str) -> None:
    """Check that a database is empty or Pressroom's own. Raises ServingError (`serving_not_dedicated`)."""
    number = number_of(client)
    advice = "a release replaces the whole database, so give it one that nothing else uses"
    size = client.dbsize()
    if size and not client.exists(*OWN):
        raise ServingError(
            f"the {what} database {number} has {size} keys and none of Pressroom's own: {advice}",
            code="serving_not_dedicated",
        )
    for key in client.scan_iter(count=_SCAN_AT_A_TIME):
        if not key.startswith(PREFIX):
            raise ServingError(
                f"the {what} database {number} has other keys too, such as {key[:80]!r}: {advice}",
                code="serving_not_dedicated",
            )


def number_of(client: Redis) -> int:
    """Return the number of the logical database."""
    return int(client.get_connection_kwargs().get("db") or 0)


def read_state(client: Redis, key: str) -> State:
    """Return the state under a key; it is empty if there is no such key."""
    body = client.get(key)
    found: State = {} if body is None else json.loads(str(body))
    return found


def int_of(state: State, name: str) -> int:
    """Return a number of a state; 0 if there is none."""
    value = state.get(name, 0)
    return value if isinstance(value, int) else 0
