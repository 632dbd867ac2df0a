"""Reads the rows of a Postgres query as documents; connects only to checked addresses."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from psycopg.types.datetime import DateLoader, TimestampLoader, TimestamptzLoader
from psycopg.types.json import JsonbLoader, JsonLoader

from db.session import READER, connection_parameters, reader_password
from jobs.documents.document import Document, KnownRecords
from jobs.documents.maker import require_columns
from jobs.documents.reading import OnNote, read_rows
from jobs.rejection import Rejected
from jobs.sources import QuerySource, SourceDownError, SourceRefusedError
from workers.connectors.addresses import AddressGuard, required_variable
from workers.settings import read_settings

DEFAULT_PORT = "5432"


DEADLINE_SECONDS = 60.0
"""Time limit in seconds of the query, and of fetching each further part of its rows. It is enforced here,
because a statement can change settings of its session such as statement_timeout."""

CONNECT_SECONDS = 10
FETCH_ROWS = 500
"""Maximum number of rows in memory at a time."""

CANCEL_SECONDS = 5.0
"""Seconds for the server to end a cancelled query. If the query has not ended by then, the server hangs or is
unreachable, and the connection is closed."""

_PRIVILEGES = """
    SELECT 'a superuser' FROM pg_roles WHERE rolname = current_user AND rolsuper
    UNION ALL SELECT rolname FROM pg_roles
    WHERE (
        rolsuper AND rolname <> current_user
        OR rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
    )
    AND pg_has_role(current_user, oid, 'MEMBER')
"""
"""Query for the role's privileges that would let a SELECT read files of the server or run programs on it.

The result includes the privileges of the roles of which this role is a member, because a SELECT can assume
such a role with set_config('role', ...).
"""


def read_query_source(
    source: QuerySource,
    *,
    now: datetime,
    known: KnownRecords | None = None,
    on_note: OnNote | None = None,
) -> Iterator[Document | Rejected]:
    """Yield the query's rows as documents, fetched as needed in a read-only transaction.

    Raises SourceDownError, SourceRefusedError and ColumnMappingError.
    """
    name = f"query of {source.url_variable}"
    url = required_variable(source.url_variable)
    try:
        with (
            closing(_connect(source, url, name)) as connection,  # closing does not wait for the server
            # A server-side cursor accepts only one SELECT, and keeps at most FETCH_ROWS rows here.
            _cursor(connection) as cursor,
        ):
            with _deadline(connection):
                cursor.execute(source.sql.strip().rstrip(";").encode())
            require_columns([column.name for column in cursor.description or ()], {})
            rows = _fetch(cursor, connection)
            yield from read_rows(name, rows, now=now, known=known, on_note=on_note)
    except psycopg.OperationalError as error:
        raise SourceDownError(
            f"the database of the {name} is unavailable, or the query is too slow: {_server_message(error)}"
        ) from error
    except psycopg.Error as error:
        raise SourceRefusedError(
            f"the {name} failed: {_server_message(error)}; try it with psql", code="source_query_failed"
        ) from error


def _load_leniently(loader: Any) -> type[Loader]:
    """Return a subclass of psycopg's loader that returns a value as text if Python cannot represent it.

    Examples are `infinity` and the year 20000. Such a value then fails only its own row, not the whole query.
    """

    class Lenient(loader):  # type: ignore[misc]
        def load(self, data: Buffer) -> object:
            try:
                return super().load(data)
            except (psycopg.DataError, ValueError, RecursionError):
                return bytes(data).decode("utf-8", "replace")

    return Lenient


_LENIENT = {
    "date": _load_leniently(DateLoader),
    "timestamp": _load_leniently(TimestampLoader),
    "timestamptz": _load_leniently(TimestamptzLoader),
    "json": _load_leniently(JsonLoader),
    "jsonb": _load_leniently(JsonbLoader),
}


def _connect(source: QuerySource, url: str, name: str) -> psycopg.Connection[Any]:
    """Return a read-only connection of a role that can neither read the server's files nor run programs.

    If the URL has Pressroom's own role, READER is used instead. Raises SourceRefusedError.
    """
    guard = AddressGuard(what="query", name=name, allow_private=source.allow_private)
    parameters = guarded_parameters(url, guard)
    is_own = _is_own_role(parameters)
    if is_own:
        parameters |= {"user": READER, "password": reader_password(str(parameters["password"]))}
    try:
        connection: psycopg.Connection[Any] = psycopg.connect(
            **parameters
            | {
                "connect_timeout": CONNECT_SECONDS,
                "application_name": "pressroom-source",
                "prepare_threshold": None,  # a pooler in front of the server can lose prepared statements
            }
        )
    except psycopg.OperationalError as error:
        if is_own and "password authentication failed" in str(error):
            raise _role_error(name, "is the role of Pressroom itself") from error
        raise
    try:
        connection.read_only = True
        for name_of_type, loader in _LENIENT.items():
            connection.adapters.register_loader(name_of_type, loader)
        with _deadline(connection), connection.cursor() as cursor:
            privileges = cursor.execute(_PRIVILEGES).fetchall()
            connection.rollback()
        if privileges:
            raise _role_error(name, f"has the privileges of {', '.join(row[0] for row in privileges)}")
    except BaseException:
        connection.close()
        raise
    return connection


def guarded_parameters(url: str, guard: AddressGuard) -> dict[str, Any]:
    """Return psycopg's parameters with each host's name, for certificates, and its checked addresses.

    Raises SourceRefusedError, AddressRefusedError and UnreachableError.
    """
    try:
        parameters: dict[str, Any] = dict(conninfo_to_dict(url))
    except psycopg.Error:
        raise _refused(guard.name, "has a URL that libpq cannot read: percent-encode the password") from None
    if "service" in parameters:
        raise _refused(
            guard.name, "names a service, whose host cannot be checked: give the host and the port instead"
        )
    hosts = str(parameters.get("host") or os.environ.get("PGHOST", "")).split(",")
    numeric = str(parameters.get("hostaddr", "")).split(",") if parameters.get("hostaddr") else hosts
    ports = str(parameters.get("port") or DEFAULT_PORT).split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    if not len(hosts) == len(numeric) == len(ports):
        raise _refused(guard.name, "names different numbers of hosts, addresses and ports")
    rows: list[tuple[str, str, str]] = []
    for host, target, port in zip(hosts, numeric, ports, strict=True):
        if not target or target.startswith(("/", "@")):  # a Unix socket on this machine
            if not guard.allow_private:
                raise _refused(guard.name, "is on this machine: set allow_private if the database is yours")
            rows.append((host, "", port))
            continue
        number = int(port or DEFAULT_PORT) if (port or DEFAULT_PORT).isdecimal() else 0
        addresses = guard.addresses(target, number)
        rows.extend((host or str(address), str(address), port) for address in addresses)
    host, hostaddr, port = (",".join(part) for part in zip(*rows, strict=True))
    return parameters | {"host": host, "port": port} | ({"hostaddr": hostaddr} if hostaddr.strip(",") else {})


def _refused(name: str, reason: str) -> SourceRefusedError:
    return SourceRefusedError(f"the {name} {reason}", code="source_url_invalid")


def _is_own_role(parameters: Mapping[str, Any]) -> bool:
    """Return whether the URL has the user and password of Pressroom's own database connections."""
    own = read_settings().db_url
    if own is None or not parameters.get("password"):
        return False
    own_parameters = connection_parameters(own.get_secret_value())
    return all(own_parameters.get(part) == str(parameters.get(part)) for part in ("user", "password"))


def _role_error(name: str, what: str) -> SourceRefusedError:
    return SourceRefusedError(
        f"the role of the {name} {what}: a source needs a separate role that can only read. Create one with "
        "CREATE ROLE news LOGIN PASSWORD '...' and GRANT SELECT ON table TO news, and use it in the URL",
        code="source_role_too_powerful",
    )


@contextmanager
def _deadline(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Cancel the running statement after DEADLINE_SECONDS; if that fails, close the connection."""
    is_over = threading.Event()
    watch = threading.Thread(target=_end_late, args=(connection, is_over), name="deadline", daemon=True)
    watch.start()
    try:
        yield
    finally:
        is_over.set()
        watch.join()  # so that no later statement is cancelled


def _end_late(connection: psycopg.Connection[Any], is_over: threading.Event) -> None:
    if is_over.wait(DEADLINE_SECONDS):
        return
    with suppress(psycopg.Error):
        connection.cancel_safe(timeout=CANCEL_SECONDS)
    if is_over.wait(CANCEL_SECONDS):
        return
    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.pgconn.socket)) as copy:
        copy.shutdown(socket.SHUT_RDWR)


@contextmanager
def _cursor(connection: psycopg.Connection[Any]) -> Iterator[psycopg.ServerCursor[dict[str, Any]]]:
    cursor = connection.cursor("pressroom", row_factory=dict_row)
    try:
        yield cursor
    finally:
        with _deadline(connection):
            cursor.close()


def _fetch(
    cursor: psycopg.ServerCursor[dict[str, Any]], connection: psycopg.Connection[Any]
) -> Iterator[dict[str, Any]]:
    while True:
        with _deadline(connection):
            rows = cursor.fetchmany(FETCH_ROWS)
        if not rows:
            return
        yield from rows


def _server_message(error: psycopg.Error) -> str:
    """Return the server's message; the driver's message can contain parts of the URL, even a password."""
    message = error.diag.message_primary
    return message.splitlines()[0] if message else "check the URL and the server"
