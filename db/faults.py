"""What an error of the database means: an outage, two transactions that met, or a refused statement."""

from __future__ import annotations

from enum import StrEnum

import psycopg
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

AWAY_CLASSES = ("08", "53", "57", "58", "XX")
"""Classes of SQLSTATE: connection exceptions, insufficient resources (too many connections), operator
intervention (a shutdown, a statement cancelled by its time-out), errors of the system and of the server
itself."""

FULL_STATE = "53100"
"""The disk is full: of the class of insufficient resources, and told apart, since a person can mend it."""

AWAY_STATES = ("25006", "25P04")
"""A read-only transaction, as on a standby after a failover; a transaction that took too long."""

CONFLICT_CLASSES = ("23", "40")
"""Integrity constraints, and transactions that were rolled back: serialisation failures and deadlocks."""

CONFLICT_STATES = ("55P03",)
"""A lock that was not to be had."""


class DatabaseFault(StrEnum):
    """The value completes a sentence that begins with "Postgres"."""

    AWAY = "is away"
    """It cannot be reached, or cannot work now: wait and try again."""
    FULL = "has no space left on its disk"
    """It answers, and can write nothing until somebody frees some space: wait and try again."""
    CONFLICT = "undid a transaction that met another one"
    """Another one was first: try again, unless a constraint forbids it for good."""
    MISUSE = "refuses a statement"
    """Trying again is no help: a missing privilege or table, a prepared statement of another session."""

    @property
    def is_outage(self) -> bool:
        """Whether it passes without a change of the statement or its rights."""
        return self in (DatabaseFault.AWAY, DatabaseFault.FULL)


def fault_of(error: SQLAlchemyError) -> DatabaseFault:
    """Which fault an error is, by its SQLSTATE.

    >>> from psycopg import errors
    >>> fault_of(DBAPIError("SELECT 1", None, errors.DeadlockDetected()))
    <DatabaseFault.CONFLICT: 'undid a transaction that met another one'>
    >>> fault_of(DBAPIError("SELECT 1", None, errors.DuplicatePreparedStatement()))
    <DatabaseFault.MISUSE: 'refuses a statement'>
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
    """Return the fault of an error of libpq or the driver: a connection that broke or could not be made."""
    if isinstance(error, IntegrityError):
        return DatabaseFault.CONFLICT
    is_connection = isinstance(error.orig, psycopg.OperationalError | psycopg.InterfaceError)
    return DatabaseFault.AWAY if is_connection or error.connection_invalidated else DatabaseFault.MISUSE
