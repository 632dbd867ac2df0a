"""What waiting does not mend is told once, with its code and the way out; what may pass is an outage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from redis import Redis
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from db.faults import DatabaseAwayError, DatabaseRefusedError, errors_named
from db.migrate import upgrade
from db.schema import SchemaUnknownError
from db.session import open_database
from jobs.errors import PressroomError
from pressroom.embedded.services import ServiceUrls
from storage import open_store
from tests.acceptance.running import pressroom
from tests.certificates import make_certificate
from tests.factories import wait_until
from tests.s3_proxy import s3_proxy
from tests.tls_proxy import tls_proxy
from tests.workers import START_SECONDS, supervised
from workers.preflight import (
    BrokerAwayError,
    BrokerRefusedError,
    check_broker,
    check_database,
    check_services,
)
from workers.supervisor import WorkerStartError

SECRET = "wr0ng-w0rd"


def altered(url: str, **parts: object) -> str:
    return make_url(url).set(**parts).render_as_string(hide_password=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("alter", "code", "error"),
    [
        ({"password": SECRET}, "database_access_refused", DatabaseRefusedError),
        ({"username": "nobody", "password": SECRET}, "database_access_refused", DatabaseRefusedError),
        ({"database": "no_such_database"}, "database_unknown", DatabaseRefusedError),
        ({"host": "no-such-host.invalid"}, "database_host_unknown", DatabaseRefusedError),
        ({"query": {"sslmode": "require"}}, "database_tls_refused", DatabaseRefusedError),
        (
            {"query": {"sslmode": "verify-full", "sslrootcert": "/no/ca"}},
            "database_tls_refused",
            DatabaseRefusedError,
        ),
        ({"query": {"sslmode": "bogus"}}, "database_tls_refused", DatabaseRefusedError),
        ({"query": {"connect_timeout": "soon"}}, "database_url_invalid", DatabaseRefusedError),
        ({"query": {"keepalives_idle": "x"}}, "database_url_invalid", DatabaseRefusedError),
        ({"query": {"service": "nowhere"}}, "database_url_invalid", DatabaseRefusedError),
        ({"port": 1}, "database_unavailable", DatabaseAwayError),
    ],
)
def test_postgres_that_refuses_is_told_apart_from_one_that_is_away(
    services: ServiceUrls, alter: dict[str, object], code: str, error: type[PressroomError]
) -> None:
    with pytest.raises(error, match="PRESSROOM_DB_URL") as refusal:
        check_database(altered(services.db_url, **alter))
    assert refusal.value.code == code
    assert SECRET not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_missing_schema_and_missing_privilege_are_named(
    empty_database_url: str, database_url: str, superuser_url: str
) -> None:
    with pytest.raises(DatabaseRefusedError, match="pressroom db upgrade") as refusal:
        check_services(db_url=empty_database_url, is_migrated=True)
    assert refusal.value.code == "database_not_migrated"

    with psycopg.connect(superuser_url, autocommit=True) as superuser:
        superuser.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    guest = open_database(altered(database_url, username="guest", password="guest"))
    try:
        with pytest.raises(DatabaseRefusedError) as refusal, errors_named(), guest.connect() as connection:
            connection.execute(text("SELECT * FROM batches"))
    finally:
        guest.dispose()
        with psycopg.connect(superuser_url, autocommit=True) as superuser:
            superuser.execute("DROP ROLE guest")
    assert refusal.value.code == "database_privilege_missing"


def test_schema_of_a_newer_version_is_named(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO alembic_version VALUES ('core_9999')"))
    with pytest.raises(SchemaUnknownError, match="core_9999"):
        upgrade(database)


@pytest.fixture
def limited_user(redis_url: str) -> Iterator[str]:
    """A URL of a user who may connect and nothing else."""
    with Redis.from_url(redis_url) as admin:
        admin.execute_command("ACL", "SETUSER", "limited", "on", f">{SECRET}", "-@all", "+auth", "+hello")
        yield f"redis://limited:{SECRET}@{redis_url.rpartition('@')[2]}"
        admin.execute_command("ACL", "DELUSER", "limited")


def test_valkey_that_refuses_is_told_apart_from_one_that_is_away(redis_url: str, limited_user: str) -> None:
    where = redis_url.rpartition("@")[2]
    cases = {
        f"redis://:{SECRET}@{where}": "broker_access_refused",
        f"redis://{where}": "broker_access_refused",
        limited_user: "broker_permission_missing",
        f"{redis_url.rpartition('/')[0]}/99999": "broker_database_unknown",
        f"redis://:{SECRET}@no-such-host.invalid": "broker_host_unknown",
    }
    for url, code in cases.items():
        with pytest.raises(BrokerRefusedError) as refusal:
            check_broker(url)
        assert refusal.value.code == code
        assert SECRET not in str(refusal.value)
    with pytest.raises(BrokerAwayError):
        check_broker("redis://127.0.0.1:1")


def test_rediss_verifies_the_certificate_and_its_name(redis_url: str, tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    head, _, where = redis_url.rpartition("@")
    address, _, number = where.partition("/")
    with tls_proxy(address, made.both) as port:
        tls = head.replace("redis://", "rediss://")
        check_broker(f"{tls}@localhost:{port}/{number}?ssl_ca_certs={made.certificate}")
        check_broker(f"{tls}@localhost:{port}/{number}?ssl_cert_reqs=none")
        for url in (f"{tls}@localhost:{port}", f"{tls}@127.0.0.1:{port}?ssl_ca_certs={made.certificate}"):
            with pytest.raises(BrokerRefusedError) as refusal:
                check_broker(url)
            assert refusal.value.code == "broker_tls_refused"


def test_worker_whose_bucket_forbids_ends_its_supervisor_with_the_permission(
    database: Engine, database_url: str, redis_url: str, s3_url: str, tmp_path: Path
) -> None:
    open_store(s3_url)
    with s3_proxy(s3_url) as proxy:
        proxy.allowed -= {"PutObject"}
        urls = ServiceUrls(db_url=database_url, redis_url=redis_url, s3_url=proxy.url)
        with supervised(tmp_path, urls) as supervisor, pytest.raises(WorkerStartError) as refusal:
            wait_until(lambda: bool(supervisor.check()), "the worker ended", seconds=START_SECONDS)
    assert str(refusal.value).count("s3:PutObject") == 1
    assert "Traceback" not in str(refusal.value)


def test_command_ends_with_one_line_for_a_wrong_password(services: ServiceUrls, tmp_path: Path) -> None:
    given = replace(services, db_url=altered(services.db_url, password=SECRET))
    urls = {"db_url": given.db_url, "redis_url": given.redis_url, "s3_url": given.s3_url}
    with pressroom(tmp_path / "home", "batches", **urls) as run:
        code, output = run.finish_text()
        assert (code, output) == (1, "")
        (line,) = run.stderr.splitlines()
    assert line.startswith("error [database_access_refused]")
    assert SECRET not in line
