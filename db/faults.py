"""Classifies errors of Postgres: outages, conflicts between transactions, and refusals.

Waiting resolves an outage or a conflict, but not a refusal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

import psycopg
from psycopg.errors import InsufficientPrivilege, InvalidSchemaName, UndefinedColumn, UndefinedTable
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from jobs.errors import ConfigurationError, PressroomError, TransientError

AWAY_CLASSES = ("08", "53", "57", "58", "XX")
"""SQLSTATE classes of outages: connection exceptions, insufficient resources (too many connections), operator
intervention (a shutdown, a statement cancelled by its timeout), system errors, and internal errors of the
server."""

FULL_STATE = "53100"
"""SQLSTATE of a full disk. It belongs to the class of insufficient resources, but is treated separately,
because a person has to fix it."""

AWAY_STATES = ("25006", "25P04")
"""SQLSTATEs of outages outside AWAY_CLASSES: a read-only transaction, as on a standby after a failover, and a
transaction that took too long."""

CONFLICT_CLASSES = ("23", "40")
"""SQLSTATE classes of integrity constraint violations, and of transaction rollbacks (serialisation failures
and deadlocks)."""

CONFLICT_STATES = ("55P03",)
"""SQLSTATE of a lock that was not available."""


class DatabaseFault(StrEnum):
    """A class of database errors. The value completes a sentence that begins with "Postgres"."""

    AWAY = "is unavailable"
    """Postgres cannot be reached, or cannot work now. Wait and try again."""
    FULL = "has no space left on its disk"
    """Postgres answers, but cannot write until somebody frees disk space. Wait and try again."""
    CONFLICT = "rolled back a transaction that conflicted with another one"
    """A conflicting transaction came first. Try again, unless the write violates a constraint for good."""
    MISUSE = "rejects a statement"
    """Trying again does not help: for example, a privilege or a table is missing, or a prepared statement of
    that name already exists, as it can behind a connection pooler."""

    @property
    def is_outage(self) -> bool:
        """Whether the fault is an outage, after which the same statement may succeed unchanged."""
        return self in (DatabaseFault.AWAY, DatabaseFault.FULL)


def fault_of(error: SQLAlchemyError) -> DatabaseFault:
    """Return the class of a database error, according to its SQLSTATE.

    >>> from psycopg import errors
    >>> fault_of(DBAPIError("SELECT 1", None, errors.DeadlockDetected()))
    <DatabaseFault.CONFLICT: 'rolled back a transaction that conflicted with another one'>
    >>> fault_of(DBAPIError("SELECT 1", None, errors.DuplicatePreparedStatement()))
    <DatabaseFault.MISUSE: 'rejects a statement'>
    """
    if isinstance(error, PoolTimeoutError):
        return DatabaseFault.AWAY
    if not isinstance(error, DBAPIError):
        return DatabaseFault.MISUSE
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return _fault_without_state(error)
    if state == FULL_STATE:
        return DatabaseFault.FULL
    if state[:2] in AWAY_CLASSES or state in AWAY_STATES:
        return DatabaseFault.AWAY
    if state[:2] in CONFLICT_CLASSES or state in CONFLICT_STATES:
        return DatabaseFault.CONFLICT
    return DatabaseFault.MISUSE


def _fault_without_state(error: DBAPIError) -> DatabaseFault:
    """Return the class of an error that has no SQLSTATE, because it comes from libpq or the driver."""
    if isinstance(error, IntegrityError):
        return DatabaseFault.CONFLICT
    is_connection = isinstance(error.orig, psycopg.OperationalError | psycopg.InterfaceError)
    return DatabaseFault.AWAY if is_connection or error.connection_invalidated else DatabaseFault.MISUSE


MAX_REASON_CHARACTERS = 500


class DatabaseRefusedError(ConfigurationError):
    """Postgres refuses the request, or its host name does not resolve. Waiting does not help."""

    code = "database_refused"


class DatabaseAwayError(TransientError):
    """Postgres does not answer, or cannot work yet."""

    code = "database_unavailable"


@dataclass(frozen=True, slots=True)
class _Refusal:
    pattern: re.Pattern[str]
    code: str
    advice: str


_PASSING = re.compile(r"SSL SYSCALL|closed (the connection )?unexpectedly|Connection reset|EOF detected")
"""Matches messages that seem to be about TLS or a refusal, but mean a lost connection."""

_BAD_OPTION = re.compile(r"bad value for \w+:")
"""Matches the driver's message about an invalid connect_timeout. The driver parses this option itself and
does not raise a connection error."""

_REFUSALS = (
    _Refusal(
        re.compile(r"failed to resolve host|could not translate host name"),
        "database_host_unknown",
        "correct the host in PRESSROOM_DB_URL",
    ),
    _Refusal(
        re.compile(r"no pg_hba\.conf entry.*no encryption"),
        "database_access_refused",
        "the server may require TLS for this user: add ?sslmode=verify-full to PRESSROOM_DB_URL, or allow "
        "unencrypted access in pg_hba.conf",
    ),
    _Refusal(
        re.compile(
            r"password authentication failed|no password supplied|authentication failed|no pg_hba\.conf entry"
            r"|role \".*\" does not exist|not permitted to log in|permission denied for database"
        ),
        "database_access_refused",
        "correct user and password in PRESSROOM_DB_URL, or grant the user access on the server",
    ),
    _Refusal(
        re.compile(r"database \".*\" (does not exist|is not currently accepting connections)"),
        "database_unknown",
        "create the database, or correct its name in PRESSROOM_DB_URL",
    ),
    _Refusal(
        re.compile(r"certificate|does not support SSL|SSL error|SSL negotiation|sslmode|sslrootcert"),
        "database_tls_refused",
        "give the authority's certificate with sslrootcert=FILE in PRESSROOM_DB_URL, or correct it",
    ),
    _Refusal(
        re.compile(
            r"connection is bad: invalid|invalid port number|invalid integer value|bad value for"
            r"|definition of service|could not parse network address|GSSAPI encryption required"
        ),
        "database_url_invalid",
        "correct PRESSROOM_DB_URL",
    ),
)
"""Known refusals. They are recognised by libpq's messages, because a failed connection has no SQLSTATE."""


def named(error: BaseException) -> PressroomError | None:
    """Translate a database error into a PressroomError.

    Returns None for errors that are not about the connection, the schema or privileges.
    """
    if isinstance(error, PoolTimeoutError):
        return DatabaseAwayError(
            "no connection to Postgres became available in time: the server is slow or unavailable"
        )
    if not isinstance(error, DBAPIError):
        return None
    cause = error.orig
    if isinstance(cause, UndefinedTable | UndefinedColumn | InvalidSchemaName):
        return DatabaseRefusedError(
            "the database has a different schema: run `pressroom db upgrade`", code="database_not_migrated"
        )
    reason = re.sub(r"\s+", " ", str(cause))[:MAX_REASON_CHARACTERS]
    if isinstance(cause, InsufficientPrivilege):
        return DatabaseRefusedError(
            f"Postgres denies access: {reason}; make the user of PRESSROOM_DB_URL the owner of the schema, "
            "or grant the privilege",
            code="database_privilege_missing",
        )
    if not fault_of(error).is_outage and not _BAD_OPTION.match(reason):
        return None
    for refusal in _REFUSALS:
        if refusal.pattern.search(reason) and not _PASSING.search(reason):
            message = f"Postgres cannot be used: {reason}; {refusal.advice}"
            return DatabaseRefusedError(message, code=refusal.code)
    if getattr(cause, "sqlstate", None) is not None:
        return DatabaseAwayError(
            f"Postgres cannot process requests at the moment: {reason}; check its log and its disk space"
        )
    return DatabaseAwayError(
        f"Postgres cannot be reached: {reason}; start it, or correct host and port in PRESSROOM_DB_URL"
    )


@contextmanager
def errors_named() -> Iterator[None]:
    """Replace database errors in the block with the DatabaseRefusedError or DatabaseAwayError from
    `named`."""
    try:
        yield
    except Exception as error:
        known = named(error)
        if known is None:
            raise
        raise known from error
