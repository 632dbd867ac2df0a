"""Connections to Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from jobs.errors import ConfigurationError

CONNECT_TIMEOUT_SECONDS = 10
"""A server that does not answer a connection for this long is down as far as a worker is concerned."""

STATEMENT_TIMEOUT_MILLISECONDS = 120_000
"""No statement of Pressroom's own is longer; a hung one must not hold a worker's heartbeat for ever."""


def open_database(url: str, *, pool_size: int = 5, application_name: str = "pressroom") -> Engine:
    """A pool of connections; made once a process, shared by its threads.

    Raises ConfigurationError if the URL is not one of Postgres.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigurationError(
            "the database URL cannot be read: give postgresql://user:password@host:port/database"
        ) from error
    if parsed.get_backend_name() != "postgresql":
        raise ConfigurationError(
            f"the database URL names {parsed.get_backend_name()}: Pressroom needs postgresql://..."
        )
    return create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,  # a restarted server leaves dead connections in the pool
        hide_parameters=True,  # payload text must not reach a log through an error's message
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "application_name": application_name,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MILLISECONDS} -c timezone=UTC",
        },
    )


@contextmanager
def opened_database(url: str) -> Iterator[Engine]:
    """A pool for as long as the block runs; its connections are closed afterwards."""
    database = open_database(url)
    try:
        yield database
    finally:
        database.dispose()
