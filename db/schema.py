"""Tells a database that another version has made, by one query and without alembic."""

from __future__ import annotations

from sqlalchemy import Engine, column, select, table
from sqlalchemy.exc import ProgrammingError

from jobs.errors import ConfigurationError

CORE = "core"
"""Branch of the core's own revisions; each is named after its branch, such as `core_0001`."""

VERSIONS = table("alembic_version", column("version_num"))

_UNDEFINED_TABLE = "42P01"
"""SQLSTATE of a table that does not exist."""


class SchemaUnknownError(ConfigurationError):
    """The database has a schema that this version does not know."""

    code = "database_schema_unknown"


def schema_unknown(reason: str) -> SchemaUnknownError:
    """Return the error, with what to do about a newer and about an older schema."""
    return SchemaUnknownError(
        f"the database cannot be brought to this version's schema: {reason}. If a newer version made it, use "
        "that version, or another database. If an older one did, `pressroom db reset` drops its tables and "
        "makes them anew: batches and the rows of their results are lost, objects in the store stay"
    )


def refuse_unknown_schema(database: Engine) -> None:
    """Raise SchemaUnknownError if the database has revisions, and none of the core's branch.

    A database without any schema passes: what needs one says so itself.
    """
    with database.connect() as connection:
        try:
            revisions = list(connection.scalars(select(VERSIONS.c.version_num)))
        except ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) != _UNDEFINED_TABLE:
                raise
            return
    # A branch that depends on the core's may stand for it: then its own name has a number, too.
    if revisions and not any(_is_of_a_branch(str(revision)) for revision in revisions):
        raise schema_unknown(f"its revision {', '.join(sorted(map(str, revisions)))} is unknown")


def _is_of_a_branch(revision: str) -> bool:
    """Whether a revision is named as those of this version are.

    >>> _is_of_a_branch("core_0001"), _is_of_a_branch("594e3267f392")
    (True, False)
    """
    branch, _, number = revision.rpartition("_")
    return bool(branch) and number.isdecimal()
