"""How alembic reaches the tables: the URL comes from the caller, or from PRESSROOM_DB_URL."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection

from db.migrate import load_tables
from db.session import open_database
from db.tables import Base
from jobs.errors import ConfigurationError


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
    with context.begin_transaction():
        context.run_migrations()


def _run() -> None:
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _migrate(connection)
        return
    url = os.environ.get("PRESSROOM_DB_URL")
    if not url:
        raise ConfigurationError("set PRESSROOM_DB_URL, or use `pressroom db upgrade`")
    load_tables()
    with open_database(url).connect() as own:
        _migrate(own)


_run()
