"""Connects alembic to the database, the tables and the migrations.

`db.migrate` passes its connection. If alembic's own command line is used, the URL comes from
PRESSROOM_DB_URL, and the migrations of kinds in other packages are added to those that pyproject.toml lists.
"""

from __future__ import annotations

import os

from alembic import context
from alembic.script.revision import RevisionMap
from sqlalchemy import Connection

from db.migrate import load_tables
from db.schema import store_migration_digests
from db.session import open_database
from db.tables import Base
from jobs.errors import ConfigurationError
from jobs.registry import migration_folders


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
    with context.begin_transaction():
        context.run_migrations()
        heads = context.get_context().get_current_heads()
        applied = context.script.iterate_revisions(heads, "base") if heads else ()
        store_migration_digests(connection, [script.revision for script in applied])


def _add_branches_of_kinds() -> None:
    """Let alembic's own command line find the migrations of all installed kinds."""
    script = context.script
    folders = dict.fromkeys([*map(str, script._version_locations), *map(str, migration_folders().values())])
    script.version_locations = list(folders)
    vars(script).pop("_version_locations", None)  # alembic caches it
    script.revision_map = RevisionMap(script._load_revisions)


def _run() -> None:
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _migrate(connection)
        return
    url = os.environ.get("PRESSROOM_DB_URL")
    if not url:
        raise ConfigurationError("set PRESSROOM_DB_URL, or use `pressroom db upgrade`")
    load_tables()
    _add_branches_of_kinds()
    with open_database(url).connect() as own:
        _migrate(own)


_run()
