"""Connections to Postgres, and the role of its reader."""

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
"""Seconds after which a server that does not answer a connection is considered down."""

STATEMENT_TIMEOUT_MILLISECONDS = 120_000
"""Maximum duration of a statement. No normal statement of Pressroom takes longer, and a hung one must not
block a worker's heartbeat for ever."""

_SETTINGS = {"statement_timeout": str(STATEMENT_TIMEOUT_MILLISECONDS), "timezone": "UTC"}

_SET_LOCAL = "SELECT " + ", ".join(
    f"set_config('{name}', '{value}', true)" for name, value in _SETTINGS.items()
)

KEEPALIVE_SECONDS = 5
"""Interval of the TCP keepalive probes on an idle connection. A machine or network that goes silent sends no
reset, so that without probes a worker's heartbeat or the dispatcher's lead would hang for hours."""

MAX_UNANSWERED_KEEPALIVES = 3
"""Unanswered keepalive probes after which a connection is dropped. A silent peer is thus noticed within 20
seconds; a lease lasts 30 by default."""

UNACKNOWLEDGED_MILLISECONDS = 20_000
"""Time without acknowledgement after which a connection with a statement under way is dropped. Such a
connection sends no keepalive probes; Linux resends its bytes, by default for a quarter of an hour. A slow
statement is acknowledged and therefore not affected."""

_SCHEME = re.compile(r"(postgres|postgresql)(\+[a-z0-9_]{1,20})?://", re.IGNORECASE)
"""Matches both schemes of libpq, with or without a driver as in SQLAlchemy. The driver is ignored, because
only one is used here."""

_UNVERIFIED_MODES = ("require", "verify-ca")
"""TLS modes that encrypt but accept another server: any server at all, or any with a certificate from the
same authority."""

_NO_URL = "it is not a URL: percent-encode special characters of the password"


_CONNECTORS: WeakKeyDictionary[Engine, _Connector] = WeakKeyDictionary()


class DatabaseUrlError(ConfigurationError):
    """A Postgres URL that libpq cannot use."""

    code = "database_url_invalid"


def connection_parameters(url: str, *, variable: str = "PRESSROOM_DB_URL") -> dict[str, str]:
    """Return the parameters that libpq reads from the URL, so that all clients read it alike.

    `variable` names the source of the URL for messages, which never quote the URL. Raises DatabaseUrlError.

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
    """Return how the connection's TLS is weak; None if it is not, or if TLS was not requested.

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
    """Open a pool of connections, once per process; its threads share it.

    Settings do not outlive a transaction, because a pooler such as PgBouncer may hand each transaction of a
    connection to another session. Raises DatabaseUrlError if the URL is not a Postgres URL.
    """
    parameters = connection_parameters(url)
    engine = create_engine(
        URL.create("postgresql+psycopg", database=parameters.get("dbname")),  # all that its repr shows
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
            # Behind a pooler, another session may have prepared the same name. There is no measurable cost.
            "prepare_threshold": None,
        },
    )
    connector = _Connector()
    _CONNECTORS[engine] = connector
    event.listen(engine, "do_connect", connector.connect)
    event.listen(engine, "begin", connector.begin)
    return engine


def is_pooled(database: Engine) -> bool:
    """Return whether a pooler was detected in front of Postgres; known once a connection has been made."""
    return bool(_CONNECTORS[database].is_pooled)


class _Connector:
    """Connects, and detects at the first connection whether there is a pooler in between."""

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
        """Apply the settings to the transaction that begins, if there is a pooler."""
        if self.is_pooled:
            connection.exec_driver_sql(_SET_LOCAL)


def _is_pooled(connection: psycopg.Connection[Any]) -> bool:
    """Return whether there is a pooler: it announces an invented backend process id.

    When the connection is made, it has not chosen the session behind it yet.
    """
    with connection.cursor() as cursor:
        row = cursor.execute("SELECT pg_backend_pid()").fetchone()
    connection.rollback()
    return row is None or row[0] != connection.info.backend_pid


@contextmanager
def opened_database(url: str, *, application_name: str = "pressroom") -> Iterator[Engine]:
    """Open a pool for the duration of the block; its connections are closed afterwards."""
    database = open_database(url, application_name=application_name)
    try:
        yield database
    finally:
        database.dispose()


READER = "reader"
"""Name of the role. It may read all tables, but can neither write nor end a session of Pressroom."""


def reader_password(own_password: str) -> str:
    """Return the reader's password, derived from the password of Pressroom's own role.

    Whoever knows that one, such as a worker, can derive this one.

    >>> len(reader_password("secret"))
    64
    """
    return hmac.digest(own_password.encode(), READER.encode(), hashlib.sha256).hex()
