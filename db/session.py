"""Connections to Postgres, and the read-only role."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL, Connection, Engine, create_engine, event

from jobs.errors import ConfigurationError

CONNECT_TIMEOUT_SECONDS = 10
"""Time in seconds after which a server that does not accept a connection is considered down."""

STATEMENT_TIMEOUT_MILLISECONDS = 120_000
"""Maximum duration of a statement. No normal statement of Pressroom takes longer, and a hung one must not
block a worker's heartbeat forever."""

_SETTINGS = {"statement_timeout": str(STATEMENT_TIMEOUT_MILLISECONDS), "timezone": "UTC"}

_SET_LOCAL = "SELECT " + ", ".join(
    f"set_config('{name}', '{value}', true)" for name, value in _SETTINGS.items()
)

KEEPALIVE_SECONDS = 5
"""Interval of the TCP keepalive probes on an idle connection. A machine or network that fails may send no
reset. Without probes, a worker's heartbeat or the renewal of the dispatcher's lead would then hang for
hours."""

MAX_UNANSWERED_KEEPALIVES = 3
"""Number of unanswered keepalive probes after which a connection is dropped. A dead peer is thus detected
within 20 seconds, while a lease lasts 30 seconds by default."""

UNACKNOWLEDGED_MILLISECONDS = 20_000
"""Time after which a connection is dropped if sent bytes are not acknowledged. Such a connection sends no
keepalive probes; Linux resends the bytes, by default for a quarter of an hour. A slow statement is not
affected, because its bytes were acknowledged."""

_SCHEME = re.compile(r"(postgres|postgresql)(\+[a-z0-9_]{1,20})?://", re.IGNORECASE)
"""Matches both URL schemes of libpq, with or without a driver's name as in SQLAlchemy. The name is ignored,
because Pressroom uses only one driver."""

_UNVERIFIED_MODES = ("require", "verify-ca")
"""TLS modes that encrypt but do not verify the host: they accept any server, or any server with a certificate
from a trusted authority."""

_NO_URL = "it is not a URL: percent-encode special characters of the password"


_CONNECTORS: WeakKeyDictionary[Engine, _Connector] = WeakKeyDictionary()


class DatabaseUrlError(ConfigurationError):
    """A Postgres URL that libpq cannot use."""

    code = "database_url_invalid"


def connection_parameters(url: str, *, variable: str = "PRESSROOM_DB_URL") -> dict[str, str]:
    """Return the connection parameters in the URL, as libpq parses it, so that all clients agree on them.

    Messages name `variable` as the source of the URL, but never quote the URL. Raises DatabaseUrlError.

    >>> connection_parameters("postgres://app:p%40ss@[::1]/news?sslmode=verify-full")["sslmode"]
    'verify-full'
    """
    scheme = _SCHEME.match(url)
    if scheme is None:
        raise _url_error(variable, "its scheme is not postgresql")
    try:
        read = conninfo_to_dict("postgresql://" + url[scheme.end() :])
    except psycopg.Error as error:
        raise _url_error(variable, _reason(str(error))) from None
    ports = read.get("port", "")
    if "@" in f"{read.get('host', '')}{read.get('dbname', '')}" or not re.fullmatch(r"[0-9,]*", str(ports)):
        raise _url_error(variable, _NO_URL)  # an unescaped slash in the password
    return {name: str(value) for name, value in read.items()}


def _reason(message: str) -> str:
    """Return why libpq refuses a URL.

    Only the name of an option is taken from its message, because the rest may contain the password.
    """
    option = re.search(r"invalid URI query parameter: \"([A-Za-z_]{1,40})\"", message)
    if option is not None:
        return f"its option {option[1]!r} is unknown to libpq"
    return _NO_URL


def _url_error(variable: str, reason: str) -> DatabaseUrlError:
    return DatabaseUrlError(
        f"the database URL in {variable} cannot be used: {reason}. Its form is "
        "postgresql://user:password@host:port/database; for TLS, add ?sslmode=verify-full&sslrootcert=FILE"
    )


def weakness(parameters: Mapping[str, str]) -> str | None:
    """Return a warning about what the connection's TLS does not verify; None if TLS is safe or not requested.

    >>> weakness({"host": "db", "sslmode": "verify-full"})
    """
    mode = parameters.get("sslmode")
    if mode not in _UNVERIFIED_MODES:
        return None
    unchecked = "its certificate is not" if mode == "require" else "the name in its certificate is not"
    return (
        f"Postgres at {parameters.get('host', 'localhost')}: sslmode={mode} encrypts, but {unchecked} "
        "verified, so another server could impersonate it: use sslmode=verify-full, which verifies both"
    )


def open_database(url: str, *, pool_size: int = 5, application_name: str = "pressroom") -> Engine:
    """Open a pool of connections. Each process needs one, which all its threads may share.

    Behind a pooler such as PgBouncer, settings are applied to each transaction, because every transaction may
    run in another session. Raises DatabaseUrlError if the URL is not a Postgres URL.
    """
    parameters = connection_parameters(url)
    engine = create_engine(
        URL.create("postgresql+psycopg", database=parameters.get("dbname")),  # repr() shows only this
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,  # a restarted server leaves dead connections in the pool
        hide_parameters=True,  # payload text must not reach a log through an error's message
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "keepalives_idle": KEEPALIVE_SECONDS,
            "keepalives_interval": KEEPALIVE_SECONDS,
            "keepalives_count": MAX_UNANSWERED_KEEPALIVES,
            "tcp_user_timeout": UNACKNOWLEDGED_MILLISECONDS,
            **parameters,
            "application_name": application_name,
            # Behind a pooler, names of prepared statements may collide. Doing without them costs nothing
            # measurable.
            "prepare_threshold": None,
        },
    )
    connector = _Connector()
    _CONNECTORS[engine] = connector
    event.listen(engine, "do_connect", connector.connect)
    event.listen(engine, "begin", connector.begin)
    return engine


def is_pooled(database: Engine) -> bool:
    """Return whether a pooler was detected in front of Postgres; always False before the first connection."""
    return bool(_CONNECTORS[database].is_pooled)


class _Connector:
    """Connects to Postgres, and detects with the first connection whether there is a pooler in between."""

    def __init__(self) -> None:
        self.is_pooled: bool | None = None

    def connect(
        self, _dialect: object, _record: object, _arguments: object, parameters: dict[str, Any]
    ) -> psycopg.Connection[Any]:
        """Connect with the settings of `_SETTINGS`, or without them if a pooler refuses them."""
        if not self.is_pooled:
            given = parameters.get("options", "")
            set_at_start = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())
            try:
                connection = psycopg.connect(**{**parameters, "options": f"{given} {set_at_start}".strip()})
            except psycopg.OperationalError as error:
                if "unsupported startup parameter" not in str(error):
                    raise
            else:
                if self.is_pooled is None:
                    self.is_pooled = _is_pooled(connection)
                return connection
            self.is_pooled = True
        return psycopg.connect(**parameters)

    def begin(self, connection: Connection) -> None:
        """Apply the settings to a new transaction, if there is a pooler."""
        if self.is_pooled:
            connection.exec_driver_sql(_SET_LOCAL)


def _is_pooled(connection: psycopg.Connection[Any]) -> bool:
    """Return whether the connection goes through a pooler, by comparing backend process ids.

    A pooler reports an invented id, because it has not chosen a session when the client connects.
    """
    with connection.cursor() as cursor:
        row = cursor.execute("SELECT pg_backend_pid()").fetchone()
    connection.rollback()
    return row is None or row[0] != connection.info.backend_pid


@contextmanager
def opened_database(url: str, *, application_name: str = "pressroom") -> Iterator[Engine]:
    """Open a pool for the duration of the block, and close its connections afterwards."""
    database = open_database(url, application_name=application_name)
    try:
        yield database
    finally:
        database.dispose()


READER = "reader"
"""Name of the read-only role. It may read all tables, but can neither write nor end sessions of Pressroom."""


def reader_password(own_password: str) -> str:
    """Return the reader's password, derived from the password of Pressroom's own role.

    Any process that knows Pressroom's own password, such as a worker, can derive the reader's.

    >>> len(reader_password("secret"))
    64
    """
    return hmac.digest(own_password.encode(), READER.encode(), hashlib.sha256).hex()
