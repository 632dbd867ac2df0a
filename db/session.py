"""Connections to Postgres."""

from __future__ import annotations

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
"""A server that does not answer a connection for this long is down as far as a worker is concerned."""

STATEMENT_TIMEOUT_MILLISECONDS = 120_000
"""No statement of Pressroom's own is longer; a hung one must not hold a worker's heartbeat for ever."""

_SETTINGS = {"statement_timeout": str(STATEMENT_TIMEOUT_MILLISECONDS), "timezone": "UTC"}

_SET_LOCAL = "SELECT " + ", ".join(
    f"set_config('{name}', '{value}', true)" for name, value in _SETTINGS.items()
)

KEEPALIVE_SECONDS = 5
"""An idle connection is asked this often whether its peer lives. A machine or network that goes silent sends
no reset: without this a worker's heartbeat or the dispatcher's lead would hang for hours."""

MAX_UNANSWERED_KEEPALIVES = 3
"""With the above: a silent peer is noticed within 20 seconds, a lease being 30 by default."""

UNACKNOWLEDGED_MILLISECONDS = 20_000
"""The same for a connection with a statement under way: unacknowledged bytes are not kept alive but sent
again, for a quarter of an hour by Linux's default. A slow statement is acknowledged and not meant."""

_SCHEME = re.compile(r"(postgres|postgresql)(\+[a-z0-9_]{1,20})?://", re.IGNORECASE)
"""Both names that libpq knows, and those that SQLAlchemy adds for its drivers; there is one driver here."""

_UNVERIFIED_MODES = ("require", "verify-ca")
"""Modes of TLS that encrypt and let another server answer: any at all, or any of the same authority."""

_NO_URL = "it is not a URL: percent-encode special characters of the password"


_CONNECTORS: WeakKeyDictionary[Engine, _Connector] = WeakKeyDictionary()


class DatabaseUrlError(ConfigurationError):
    """A URL of Postgres that libpq cannot use."""

    code = "database_url_invalid"


def connection_parameters(url: str, *, variable: str = "PRESSROOM_DB_URL") -> dict[str, str]:
    """What libpq reads out of the URL: the same for every client, whatever each would make of it by itself.

    `variable` is where the URL stands, for messages, which never quote it. Raises DatabaseUrlError.

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
        raise _url_error(variable, _NO_URL)  # a slash in the password ended the host
    return {name: str(value) for name, value in read.items()}


def _reason(message: str) -> str:
    """Why libpq refuses a URL; of its words only the name of an option, for others may hold the password."""
    option = re.search(r"invalid URI query parameter: \"([A-Za-z_]{1,40})\"", message)
    if option is not None:
        return f"its option {option[1]!r} is unknown to libpq"
    return _NO_URL


def _url_error(variable: str, reason: str) -> DatabaseUrlError:
    return DatabaseUrlError(
        f"the database URL in {variable} cannot be used: {reason}. It reads "
        "postgresql://user:password@host:port/database, with TLS ?sslmode=verify-full&sslrootcert=FILE"
    )


def weakness(parameters: Mapping[str, str]) -> str | None:
    """What is weak about the connection although TLS was asked for; None if nothing is.

    >>> weakness({"host": "db", "sslmode": "verify-full"})
    """
    mode = parameters.get("sslmode")
    if mode not in _UNVERIFIED_MODES:
        return None
    unchecked = "its certificate is not" if mode == "require" else "the name in its certificate is not"
    return (
        f"Postgres at {parameters.get('host', 'localhost')}: sslmode={mode} encrypts, but {unchecked} "
        "verified, so another server may answer: sslmode=verify-full verifies both"
    )


def open_database(url: str, *, pool_size: int = 5, application_name: str = "pressroom") -> Engine:
    """A pool of connections; made once a process, shared by its threads.

    Nothing that it sets outlives a transaction: a pooler such as PgBouncer may hand each transaction of a
    connection to another session. Raises DatabaseUrlError if the URL is not one of Postgres.
    """
    parameters = connection_parameters(url)
    engine = create_engine(
        URL.create("postgresql+psycopg", database=parameters.get("dbname")),  # what it shows of itself
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
            # Another session may have prepared the same name. It costs nothing that could be measured.
            "prepare_threshold": None,
        },
    )
    connector = _Connector()
    _CONNECTORS[engine] = connector
    event.listen(engine, "do_connect", connector.connect)
    event.listen(engine, "begin", connector.begin)
    return engine


def is_pooled(database: Engine) -> bool:
    """Whether a pooler was seen between here and Postgres; known once a connection was made."""
    return bool(_CONNECTORS[database].is_pooled)


class _Connector:
    """Connects, and learns at the first connection whether a pooler stands in between."""

    def __init__(self) -> None:
        self.is_pooled: bool | None = None

    def connect(
        self, _dialect: object, _record: object, _arguments: object, parameters: dict[str, Any]
    ) -> psycopg.Connection[Any]:
        """Make a connection with the settings of `_SETTINGS`, or without where a pooler refuses them."""
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
        """Behind a pooler the settings hold for the transaction that begins."""
        if self.is_pooled:
            connection.exec_driver_sql(_SET_LOCAL)


def _is_pooled(connection: psycopg.Connection[Any]) -> bool:
    """A pooler invents the process id that it announces, for the session behind it is not chosen yet."""
    with connection.cursor() as cursor:
        row = cursor.execute("SELECT pg_backend_pid()").fetchone()
    connection.rollback()
    return row is None or row[0] != connection.info.backend_pid


@contextmanager
def opened_database(url: str, *, application_name: str = "pressroom") -> Iterator[Engine]:
    """A pool for as long as the block runs; its connections are closed afterwards."""
    database = open_database(url, application_name=application_name)
    try:
        yield database
    finally:
        database.dispose()
