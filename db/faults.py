"""Classifies database errors: outages, conflicts between transactions, and refused statements."""

from __future__ import annotations

from enum import StrEnum

import psycopg
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

AWAY_CLASSES = ("08", "53", "57", "58", "XX")
"""SQLSTATE classes of outages: connection exceptions, insufficient resources (too many connections), operator
intervention (a shutdown, a statement cancelled by its timeout), errors of the system and of the server
itself."""

FULL_STATE = "53100"
"""SQLSTATE of a full disk. It belongs to the class of insufficient resources, but is distinguished because a
person can fix it."""

AWAY_STATES = ("25006", "25P04")
"""SQLSTATEs of a read-only transaction, as on a standby after a failover, and of a transaction that took too
long."""

CONFLICT_CLASSES = ("23", "40")
"""SQLSTATE classes of violated integrity constraints, and of transactions that were rolled back:
serialisation failures and deadlocks."""

CONFLICT_STATES = ("55P03",)
"""SQLSTATE of a lock that was not available."""


class DatabaseFault(StrEnum):
    """A class of database errors. The value completes a sentence that begins with "Postgres"."""

    AWAY = "is away"
    """It cannot be reached, or cannot work now. Wait and try again."""
    FULL = "has no space left on its disk"
    """It answers, but cannot write until somebody frees disk space. Wait and try again."""
    CONFLICT = "undid a transaction that met another one"
    """Another transaction was first. Try again, unless a constraint rules it out permanently."""
    MISUSE = "refuses a statement"
    """Trying again does not help: a privilege or table is missing, or another session has prepared the
    statement."""

    @property
    def is_outage(self) -> bool:
        """Whether the fault may pass without a change to the statement or its rights."""
        return self in (DatabaseFault.AWAY, DatabaseFault.FULL)


def fault_of(error: SQLAlchemyError) -> DatabaseFault:
    """Return the fault that an error means, by its SQLSTATE.

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
