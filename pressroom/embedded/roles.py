"""The roles of the embedded Postgres: Pressroom's own role owns its schema and nothing else.

At each start of the server, the superuser creates the database and the other roles if they are missing; it is
used for nothing else. In clusters of an older version, Pressroom's role was the superuser; they are changed
in place.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from db.session import READER, reader_password
from pressroom.embedded.home import Passwords

OWNER = "postgres"
"""Superuser that initdb creates."""

USER = "app"
DATABASE = "pressroom"

_INTERIM = "interim"
"""Superuser that exists while an older layout is changed, because no role can rename itself."""

_OWNED = """
    SELECT format('ALTER %s %s OWNER TO app', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW'
        WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, c.oid::regclass)
    FROM pg_class AS c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'S', 'v', 'm')
    AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype IN ('a', 'i')
        AND d.refclassid = 'pg_class'::regclass)
    UNION ALL
    SELECT format('ALTER ROUTINE %s OWNER TO app', p.oid::regprocedure)
    FROM pg_proc AS p WHERE p.pronamespace = 'public'::regnamespace
"""
"""Query for the statements that give Pressroom's role what an older version created as superuser.

A sequence of a column goes with its table.
"""


def prepare_roles(port: int, passwords: Passwords) -> None:
    """Create missing roles and the database.

    Raises psycopg.OperationalError while the server accepts no connections.
    """
    try:
        with _connect(port, OWNER, passwords.postgres_owner) as connection:
            _make_missing(connection, passwords)
    except psycopg.OperationalError as error:
        if not _is_refused(error):
            raise
        _change_older_layout(port, passwords)
        with _connect(port, OWNER, passwords.postgres_owner) as connection:
            _make_missing(connection, passwords)
    with _connect(port, OWNER, passwords.postgres_owner, DATABASE) as connection:
        connection.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(sql.Identifier(USER)))


def _make_missing(connection: psycopg.Connection, passwords: Passwords) -> None:
    roles = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
    for role, password in ((USER, passwords.postgres), (READER, reader_password(passwords.postgres))):
        if role not in roles:
            _make_role(connection, role, password)
    connection.execute(sql.SQL("GRANT pg_read_all_data TO {}").format(sql.Identifier(READER)))
    connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(_INTERIM)))
    if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def _make_role(connection: psycopg.Connection, role: str, password: str, options: str = "") -> None:
    statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} " + options)
    connection.execute(statement.format(sql.Identifier(role), sql.Literal(password)))


def _change_older_layout(port: int, passwords: Passwords) -> None:
    """Separate the superuser from Pressroom's role; if this is interrupted, the next start repeats it."""
    with _connect(port, USER, passwords.postgres) as connection:
        connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(_INTERIM)))
        _make_role(connection, _INTERIM, passwords.postgres_owner, "SUPERUSER")
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
    database = DATABASE if known else "postgres"
    with (
        _connect(port, _INTERIM, passwords.postgres_owner, database) as connection,
        connection.transaction(),
    ):
        connection.execute(
            sql.SQL("ALTER ROLE {} RENAME TO {}").format(sql.Identifier(USER), sql.Identifier(OWNER))
        )
        connection.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                sql.Identifier(OWNER), sql.Literal(passwords.postgres_owner)
            )
        )
        _make_role(connection, USER, passwords.postgres)
        for (statement,) in connection.execute(_OWNED).fetchall():
            connection.execute(statement)


def _is_refused(error: psycopg.OperationalError) -> bool:
    return "password authentication failed" in str(error)


def _connect(port: int, role: str, password: str, database: str = "postgres") -> psycopg.Connection:
    return psycopg.connect(
        host="127.0.0.1",
        port=port,
        user=role,
        password=password,
        dbname=database,
        connect_timeout=5,
        autocommit=True,
    )
