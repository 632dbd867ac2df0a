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

KEEPALIVE_SECONDS = 5
"""An idle connection is asked this often whether its peer lives. A machine or network that goes silent sends
no reset: without this a worker's heartbeat or the dispatcher's lead would hang for hours."""

MAX_UNANSWERED_KEEPALIVES = 3
"""With the above: a silent peer is noticed within 20 seconds, a lease being 30 by default."""

UNACKNOWLEDGED_MILLISECONDS = 20_000
"""The same for a connection with a statement under way: unacknowledged bytes are not kept alive but sent
again, for a quarter of an hour by Linux's default. A slow statement is acknowledged and not meant."""


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
            "keepalives_idle": KEEPALIVE_SECONDS,
            "keepalives_interval": KEEPALIVE_SECONDS,
            "keepalives_count": MAX_UNANSWERED_KEEPALIVES,
            "tcp_user_timeout": UNACKNOWLEDGED_MILLISECONDS,
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
