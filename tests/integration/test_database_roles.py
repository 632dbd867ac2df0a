"""The embedded Postgres gives Pressroom a role that owns its schema and nothing else."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from db.migrate import check, upgrade
from db.session import opened_database
from pressroom.embedded import postgres
from pressroom.embedded.home import Home, Passwords
from pressroom.embedded.postgres import DATABASE, OWNER, USER, PostgresServer
from pressroom.embedded.server import ServerRunner


@contextmanager
def running(folder: Path, passwords: Passwords) -> Iterator[str]:
    """The URL of a Postgres in the folder."""
    runner = ServerRunner(PostgresServer(folder / "postgres", passwords), folder / "postgres.log", port=None)
    runner.spawn()
    try:
        runner.wait_until_ready()
        yield runner.url
    finally:
        runner.stop()


def restarted_within(runner: ServerRunner, seconds: float) -> bool:
    """Whether a look, as an owner takes one again and again, has started it again."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if runner.restart_if_ended():
            return True
        time.sleep(0.05)
    return False


def test_postgres_that_was_told_to_end_and_waits_for_a_session_is_started_again(tmp_path: Path) -> None:
    runner = ServerRunner(PostgresServer(tmp_path / "postgres", Passwords()), tmp_path / "log", port=None)
    runner.spawn()
    try:
        runner.wait_until_ready()
        assert not runner.restart_unless_serving()
        with closing(psycopg.connect(runner.url, autocommit=True)):
            assert runner.pid is not None
            os.kill(runner.pid, signal.SIGTERM)  # a smart shutdown: nobody is let in, nobody is sent away
            assert restarted_within(runner, 10)
        with psycopg.connect(runner.url) as another:
            assert another.execute("SELECT 1").fetchone() == (1,)
    finally:
        runner.stop()


FORBIDDEN = (
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "SELECT lo_import('/etc/passwd')",
    "COPY jobs TO '/tmp/stolen'",
    "COPY jobs TO PROGRAM 'cat'",
    "SET ROLE postgres",
    "CREATE ROLE more SUPERUSER",
    "CREATE DATABASE more",
    "CREATE EXTENSION file_fdw",
    "ALTER SYSTEM SET shared_preload_libraries = 'x'",
    "SELECT rolpassword FROM pg_authid",
)


@pytest.mark.attack("query that reads files or writes")
def test_pressrooms_role_owns_its_schema_and_nothing_else(tmp_path: Path) -> None:
    with running(tmp_path, Passwords()) as url:
        with opened_database(url) as database:
            upgrade(database)
            check(database)
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in FORBIDDEN:
                with pytest.raises(InsufficientPrivilege):
                    connection.execute(statement.encode())
            owned = connection.execute(
                "SELECT datname FROM pg_database WHERE datdba = current_user::regrole"
            ).fetchall()
            assert owned == []


def make_older_layout(folder: Path, password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster whose superuser is Pressroom's role, with all tables."""

    def make_database(port: int, passwords: Passwords) -> None:
        with psycopg.connect(
            host="127.0.0.1",
            port=port,
            user=USER,
            password=passwords.postgres,
            dbname="postgres",
            autocommit=True,
        ) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    with monkeypatch.context() as older:
        older.setattr(postgres, "OWNER", USER)
        older.setattr(postgres, "prepare_roles", make_database)
        with running(folder, Passwords(postgres=password, postgres_owner=password)) as url:
            with opened_database(url) as database:
                upgrade(database)
            with psycopg.connect(url) as connection:
                connection.execute("INSERT INTO leads VALUES ('beat', 'somebody', 7, now())")


def test_home_of_an_older_layout_is_changed_in_place_and_keeps_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_older_layout(tmp_path, "old", monkeypatch)
    for _ in range(2):  # the second time there is nothing to change
        with running(tmp_path, Passwords(postgres="old", postgres_owner="new")) as url:
            with psycopg.connect(url) as connection:
                row = connection.execute(
                    "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
                ).fetchone()
                assert row == (False,)
                assert connection.execute("SELECT fence FROM leads").fetchone() == (7,)
                roles = connection.execute("SELECT rolname FROM pg_roles WHERE rolsuper").fetchall()
                assert roles == [(OWNER,)]
            with opened_database(url) as database:
                upgrade(database)
                check(database)
            with psycopg.connect(url) as connection:
                connection.execute("ALTER TABLE jobs ADD COLUMN more int")  # it owns what it has to migrate
                connection.execute("ALTER TABLE jobs DROP COLUMN more")


def test_secrets_of_an_older_home_are_completed_and_kept(tmp_path: Path) -> None:
    home = Home(tmp_path)
    older = {"postgres": "p", "valkey": "v", "s3_access_key": "a", "s3_secret_key": "s"}
    (tmp_path / "secrets.json").write_text(json.dumps(older))
    passwords = home.passwords()
    assert older.items() <= passwords.model_dump().items()
    assert home.passwords() == passwords
