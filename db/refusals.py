"""Classifies errors of Postgres: refusals that waiting does not resolve, and temporary outages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg.errors import InsufficientPrivilege, InvalidSchemaName, UndefinedColumn, UndefinedTable
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from db.faults import fault_of
from jobs.errors import ConfigurationError, PressroomError, TransientError

MAX_REASON_CHARACTERS = 500


class DatabaseRefusedError(ConfigurationError):
    """Postgres answers with a refusal, or its name does not resolve; waiting does not help."""

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
"""Messages that seem to be about TLS or a refusal, but mean a lost connection."""

_BAD_OPTION = re.compile(r"bad value for \w+:")
"""Message of the driver, which parses connect_timeout itself and does not raise a connection error."""

_REFUSALS = (
    _Refusal(
        re.compile(r"failed to resolve host|could not translate host name"),
        "database_host_unknown",
        "correct the host in PRESSROOM_DB_URL",
    ),
    _Refusal(
        re.compile(r"no pg_hba\.conf entry.*no encryption"),
        "database_access_refused",
        "the server may want TLS of this user: add ?sslmode=verify-full to PRESSROOM_DB_URL, or allow it in "
        "pg_hba.conf",
    ),
    _Refusal(
        re.compile(
            r"password authentication failed|no password supplied|authentication failed|no pg_hba\.conf entry"
            r"|role \".*\" does not exist|not permitted to log in|permission denied for database"
        ),
        "database_access_refused",
        "correct user and password in PRESSROOM_DB_URL, or what the server allows them",
    ),
    _Refusal(
        re.compile(r"database \".*\" (does not exist|is not currently accepting connections)"),
        "database_unknown",
        "make the database, or correct its name in PRESSROOM_DB_URL",
    ),
    _Refusal(
        re.compile(r"certificate|does not support SSL|SSL error|SSL negotiation|sslmode|sslrootcert"),
        "database_tls_refused",
        "give the authority's certificate by sslrootcert=FILE in PRESSROOM_DB_URL, or correct it",
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
"""Refusals by libpq's wording, because it gives no SQLSTATE for a connection that was never made."""


def named(error: BaseException) -> PressroomError | None:
    """Return the error as a PressroomError; None if it is not about the connection, schema or rights."""
    if isinstance(error, PoolTimeoutError):
        return DatabaseAwayError("no connection to Postgres came free in time: it is slow, or away")
    if not isinstance(error, DBAPIError):
        return None
    cause = error.orig
    if isinstance(cause, UndefinedTable | UndefinedColumn | InvalidSchemaName):
        return DatabaseRefusedError(
            "the database has another schema: run `pressroom db upgrade`", code="database_not_migrated"
        )
    reason = re.sub(r"\s+", " ", str(cause))[:MAX_REASON_CHARACTERS]
    if isinstance(cause, InsufficientPrivilege):
        return DatabaseRefusedError(
            f"Postgres refuses: {reason}; let the user of PRESSROOM_DB_URL own the schema, or grant it",
            code="database_privilege_missing",
        )
    if not fault_of(error).is_outage and not _BAD_OPTION.match(reason):
        return None
    for refusal in _REFUSALS:
        if refusal.pattern.search(reason) and not _PASSING.search(reason):
            message = f"Postgres cannot be used: {reason}; {refusal.advice}"
            return DatabaseRefusedError(message, code=refusal.code)
    if getattr(cause, "sqlstate", None) is not None:
        return DatabaseAwayError(f"Postgres cannot work now: {reason}; look at its log and its disk")
    return DatabaseAwayError(
        f"Postgres cannot be reached: {reason}; start it, or correct host and port in PRESSROOM_DB_URL"
    )


@contextmanager
def errors_named() -> Iterator[None]:
    """Raise DatabaseRefusedError or DatabaseAwayError in place of errors that `named` translates."""
    try:
        yield
    except Exception as error:
        known = named(error)
        if known is None:
            raise
        raise known from error
