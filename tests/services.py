"""Real services for the tests: one set a session; database, Redis number and bucket fresh for each test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from redis import Redis
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from db.migrate import upgrade
from db.session import open_database
from pressroom.embedded.home import Home
from pressroom.embedded.postgres import OWNER
from pressroom.embedded.services import Services, ServiceUrls
from storage.s3 import S3Settings, S3Store
from storage.store import Store
from workers.settings import Settings

TEMPLATE_DATABASE = "pressroom_template"
NUM_REDIS_DATABASES = 16
"""Valkey's default."""


@pytest.fixture(scope="session")
def services_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("services")


@pytest.fixture(scope="session")
def services(services_home: Path) -> Iterator[ServiceUrls]:
    """Services of this session's own, whatever the environment configures."""
    with Services(embedded_settings(services_home), print) as running:
        # Safe against every crash but the machine's own, and several times faster at making databases.
        admin = admin_url(services_home, running.urls)
        _execute(admin, sql.SQL("ALTER SYSTEM SET fsync = off"))
        _execute(admin, sql.SQL("SELECT pg_reload_conf()"))
        _execute(admin, sql.SQL("ALTER ROLE app CREATEDB"))  # for the databases of the tests
        yield running.urls


@pytest.fixture(scope="session")
def services_admin(services: ServiceUrls) -> Callable[[str], None]:
    """Executes SQL as Pressroom's role, which owns the databases of the tests, outside of them."""
    return lambda statement: _execute(services.db_url, sql.SQL(statement))


@pytest.fixture(scope="session")
def superuser_url(services: ServiceUrls, services_home: Path) -> str:
    """The URL of the superuser, who may make roles and end every process of the server."""
    return admin_url(services_home, services)


@pytest.fixture(scope="session")
def template_database(services: ServiceUrls) -> str:
    """A migrated, empty database that nobody is connected to: Postgres clones it in milliseconds."""
    _execute(services.db_url, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE_DATABASE)))
    engine = open_database(_with_database(services.db_url, TEMPLATE_DATABASE))
    upgrade(engine)
    engine.dispose()
    return TEMPLATE_DATABASE


@pytest.fixture
def empty_database_url(services: ServiceUrls, superuser_url: str) -> Iterator[str]:
    """A database without tables, dropped after the test."""
    yield from _database(services.db_url, superuser_url, "template0")


@pytest.fixture
def database_url(services: ServiceUrls, superuser_url: str, template_database: str) -> Iterator[str]:
    """A migrated database without rows, dropped after the test with whoever is still connected."""
    yield from _database(services.db_url, superuser_url, template_database)


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    """A pool of connections to the migrated database."""
    engine = open_database(database_url, pool_size=8)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def redis_numbers() -> Iterator[int]:
    """Numbers of logical databases, in turn; 0 is left to the services' own URL."""
    return itertools.cycle(range(1, NUM_REDIS_DATABASES))


@pytest.fixture
def redis_url(services: ServiceUrls, redis_numbers: Iterator[int]) -> str:
    """An empty logical database of Valkey."""
    url = services.redis_url.rpartition("/")[0] + f"/{next(redis_numbers)}"
    with Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
def s3_url(services: ServiceUrls) -> str:
    """A bucket that does not exist yet."""
    head, _, options = services.s3_url.partition("?")
    return f"{head.rpartition('/')[0]}/test-{uuid4().hex}?{options}"


@pytest.fixture
def store(s3_url: str) -> Store:
    """An empty bucket of the S3 server."""
    return S3Store(S3Settings.from_url(s3_url))


def admin_url(home: Path, urls: ServiceUrls) -> str:
    """Return the URL of the superuser of the Postgres that runs in the home."""
    password = Home(home).passwords().postgres_owner
    return make_url(urls.db_url).set(username=OWNER, password=password).render_as_string(hide_password=False)


def embedded_settings(home: Path) -> Settings:
    """Settings that name no server, so that all three are embedded in the folder."""
    return Settings(home=home, db_url=None, redis_url=None, s3_url=None)


def _database(url: str, superuser_url: str, template: str) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    identifier = sql.Identifier(name)
    _execute(url, sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(identifier, sql.Identifier(template)))
    yield _with_database(url, name)
    # Only a superuser may end the server's own processes, such as an autovacuum of this database.
    _execute(superuser_url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))


def _execute(url: str, statement: sql.SQL | sql.Composed) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def _with_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)
