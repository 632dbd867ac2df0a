"""Detects a database that another version created, with few queries and without alembic.

The digests of the migrations that created a database are stored in it, as the comment of alembic's own table.
A database is refused if one of its revisions is unknown, or if a migration was edited after it had run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path

from sqlalchemy import Connection, Engine, column, func, select, table, text
from sqlalchemy.exc import ProgrammingError

from jobs.errors import ConfigurationError
from jobs.registry import migration_folders

CORE = "core"
"""Name of the core's branch. Each revision is named after its branch, such as `core_0001`."""

VERSIONS = table("alembic_version", column("version_num"))

_REVISION_FILE = re.compile(r"(?P<revision>[\w-]{1,80}_\d{1,8})_")
"""Matches the start of a migration's file name: its revision, such as `core_0001`."""

_UNDEFINED_TABLE = "42P01"
"""SQLSTATE of a query for a table that does not exist."""


class SchemaUnknownError(ConfigurationError):
    """The database has a schema that this version does not know."""

    code = "database_schema_unknown"


def schema_unknown(reason: str) -> SchemaUnknownError:
    """Return the error. Its message explains what to do if the schema is newer, and if it is older."""
    return SchemaUnknownError(
        f"the database cannot be upgraded to this version's schema: {reason}. If a newer version created "
        "it, use that version, or another database. If an older version created it, `pressroom db reset` "
        "drops its tables and creates them again: batches and the rows of their results are lost, but "
        "objects in the store are kept"
    )


def refuse_unknown_schema(database: Engine) -> None:
    """Raise SchemaUnknownError if the database has unknown revisions, or was made by edited migrations.

    A database without any schema is accepted here, because whatever needs the schema reports that itself.
    """
    with database.connect() as connection:
        try:
            revisions = set(connection.scalars(select(VERSIONS.c.version_num)))
        except ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) != _UNDEFINED_TABLE:
                raise
            return
        # Alembic lists no revision of the core if a kind's revision depends on it. Both have the same form.
        if revisions and not any(_is_of_a_branch(revision) for revision in revisions):
            raise schema_unknown(f"its revision {', '.join(sorted(revisions))} is unknown")
        refuse_edited_migrations(connection, revisions)


def refuse_edited_migrations(connection: Connection, revisions: Iterable[str]) -> None:
    """Raise SchemaUnknownError if a migration was edited after it had run on the database.

    `revisions` are the current revisions of the database. Migrations that this version lacks are ignored.
    """
    stored, own = _stored_digests(connection), migration_digests()
    edited = {name for name in {*revisions, *stored} & own.keys() if stored.get(name) != own[name]}
    if edited:
        raise schema_unknown(f"it was made by another version of the migration {', '.join(sorted(edited))}")


def store_migration_digests(connection: Connection, revisions: Iterable[str]) -> None:
    """Store the digests of the migrations that have run.

    Digests that the database has for kinds that are not installed here are kept.
    """
    stored, own = _stored_digests(connection), migration_digests()
    digests = {name: digest for name, digest in stored.items() if name not in own}
    digests |= {name: own[name] for name in revisions if name in own}
    if digests != stored:
        comment = connection.scalar(select(func.quote_literal(json.dumps(digests, sort_keys=True))))
        connection.exec_driver_sql(f"COMMENT ON TABLE {VERSIONS.name} IS {comment}")


def migration_digests() -> dict[str, str]:
    """Return a digest for each revision of the core and of the installed kinds.

    Comments, the module's docstring and layout do not affect the digest.
    """
    folders = [Path(str(files("db") / "migrations" / "versions")), *migration_folders().values()]
    return {
        match["revision"]: _digest(path.read_text(encoding="utf-8"))
        for folder in folders
        for path in sorted(folder.glob("*.py"))
        if (match := _REVISION_FILE.match(path.name)) is not None
    }


def _digest(source: str) -> str:
    """Return a digest of a migration's code.

    >>> _digest("x = f(1)  # one\\n") == _digest("x = f(\\n    1,\\n)\\n") != _digest("x = f(2)\\n")
    True
    """
    code = source.split('"""', 2)[-1]  # without the docstring
    lines = (line.partition("  #")[0].strip() for line in code.splitlines())
    joined = "".join(line for line in lines if not line.startswith("#")).replace(" ", "")
    for bracket in ")]}":
        joined = joined.replace(f",{bracket}", bracket)
    return hashlib.sha256(joined.encode()).hexdigest()


def _stored_digests(connection: Connection) -> Mapping[str, str]:
    comment = connection.scalar(text(f"SELECT obj_description(to_regclass('{VERSIONS.name}'), 'pg_class')"))
    digests: Mapping[str, str] = json.loads(comment) if comment else {}
    return digests


def _is_of_a_branch(revision: str) -> bool:
    """Return whether a revision is named after a branch, as this version names revisions.

    >>> _is_of_a_branch("core_0001"), _is_of_a_branch("594e3267f392")
    (True, False)
    """
    branch, _, number = revision.rpartition("_")
    return bool(branch) and number.isdecimal()
