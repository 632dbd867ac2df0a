"""Checks before any work begins whether the services can be used; reports a fault once, within seconds."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator

from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from sqlalchemy import text

from db.faults import DatabaseRefusedError, errors_named
from db.migrate import revisions
from db.schema import refuse_unknown_schema
from db.session import connection_parameters, opened_database, weakness
from jobs.errors import ConfigurationError, PressroomError, TransientError
from workers.redis_server import RedisServer

WAIT_SECONDS = 5.0
"""Time to wait for a service that does not answer: it may be starting at the same time as this command."""

POLL_SECONDS = 0.5


class BrokerRefusedError(ConfigurationError):
    """Valkey refuses the connection, or its host does not resolve; waiting would not help."""

    code = "broker_refused"


class BrokerAwayError(TransientError):
    """Valkey does not answer; it may still be starting."""

    code = "broker_unavailable"


def check_services(
    *,
    db_url: str | None = None,
    redis_url: str | None = None,
    s3_url: str | None = None,
    is_migrated: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Check each service by using it once; with `is_migrated`, the database must also have this version's
    schema.

    Waits a few seconds for a service that is unavailable. Raises a PressroomError that says what is wrong,
    where, and what to do.
    """
    for warning in weaknesses(db_url, redis_url):
        say(f"warning: {warning}")
    if db_url is not None:
        _wait(lambda: check_database(db_url, is_migrated=is_migrated), say)
    if redis_url is not None:
        _wait(lambda: check_broker(redis_url), say)
    if s3_url is not None:
        _wait(lambda: check_store(s3_url), say)


def weaknesses(db_url: str | None, redis_url: str | None) -> list[str]:
    """Return what is weak about connections for which TLS was requested. Raises ConfigurationError."""
    warnings = [
        None if db_url is None else weakness(connection_parameters(db_url)),
        None if redis_url is None else RedisServer.from_url(redis_url).warning,
    ]
    return [warning for warning in warnings if warning is not None]


def _wait(check: Callable[[], None], say: Callable[[str], None]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    is_announced = False
    while True:
        try:
            check()
        except TransientError as error:
            if time.monotonic() > deadline:
                raise
            if not is_announced:
                say(f"Waiting up to {WAIT_SECONDS:.0f} s: {error}")
                is_announced = True
            time.sleep(POLL_SECONDS)
        else:
            return


def check_database(db_url: str, *, is_migrated: bool = False) -> None:
    """Raise DatabaseUrlError, DatabaseRefusedError or DatabaseAwayError unless the database can be used."""
    with opened_database(db_url) as database, errors_named():
        with database.connect() as connection:
            connection.execute(text("SELECT 1"))
        if not is_migrated:
            return
        refuse_unknown_schema(database)
        schema = revisions(database)
    if not schema.is_current:
        raise DatabaseRefusedError(
            f"the schema of the database is {schema}, but this version needs {', '.join(schema.wanted)}: "
            "run `pressroom db upgrade`",
            code="database_not_migrated",
        )


def check_broker(redis_url: str) -> None:
    """Raise RedisUrlError, BrokerRefusedError or BrokerAwayError unless the broker can be used."""
    server = RedisServer.from_url(redis_url)
    try:
        with server.client() as client:
            client.ping()
    except (RedisError, OSError) as error:
        raise broker_error(server, error) from error


def check_store(s3_url: str) -> None:
    """Raise ConfigurationError, StoreRefusedError or StoreUnavailableError unless the store can be used."""
    from storage import open_store
    from storage.store import check_access

    check_access(open_store(s3_url))


def broker_error(server: RedisServer, error: BaseException) -> PressroomError:
    """Return the PressroomError for an error of Valkey on a connection that has never worked."""
    where = f"Valkey at {server.location}"
    causes = list(_causes(error))
    if isinstance(error, AuthenticationError):
        return BrokerRefusedError(
            f"{where} refuses the user name or the password ({error}): correct them in PRESSROOM_REDIS_URL",
            code="broker_access_refused",
        )
    if isinstance(error, NoPermissionError):
        return BrokerRefusedError(
            f"{where} does not allow this user to run the commands that Pressroom needs for its messages "
            f"({error}): allow them with ACL SETUSER",
            code="broker_permission_missing",
        )
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return BrokerRefusedError(
            f"the host name of {where} cannot be resolved: correct the host in PRESSROOM_REDIS_URL",
            code="broker_host_unknown",
        )
    if any(isinstance(cause, ssl.SSLCertVerificationError | ssl.SSLError) for cause in causes) and not any(
        isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError) for cause in causes
    ):
        return BrokerRefusedError(
            f"{where}: TLS fails ({causes[-1]}): give the authority's certificate with ssl_ca_certs=FILE in "
            "PRESSROOM_REDIS_URL, or correct the host or the scheme",
            code="broker_tls_refused",
        )
    if type(error) is ResponseError and "DB index" in str(error):
        return BrokerRefusedError(
            f"{where} has no database with that number: correct PRESSROOM_REDIS_URL",
            code="broker_database_unknown",
        )
    return BrokerAwayError(f"{where} cannot be used: {error}; start it, or correct PRESSROOM_REDIS_URL")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
