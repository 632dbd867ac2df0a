"""One URL means the same to every client of a service, and one that asks for TLS never sends a plain byte."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from db.session import DatabaseUrlError, connection_parameters, open_database, weakness
from pressroom.embedded.services import ServiceUrls
from tests.wire import TLS_HANDSHAKE, wire
from workers.celery import make_app
from workers.redis_server import RedisServer, RedisUrlError

SECRET = "s3cret-w0rd"


def ping(url: str) -> None:
    with RedisServer.from_url(url).client(retry=Retry(NoBackoff(), 0)) as client:
        client.ping()


def send_a_message(url: str) -> None:
    with make_app(lambda: url) as app:
        app.conf.broker_transport_options |= {"max_retries": 1, "interval_start": 0}
        app.send_task("a.task", retry=False)


def consume(url: str) -> None:
    """As the worker does, whose connections are asynchronous ones."""
    with make_app(lambda: url) as app, app.connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)
        channel: Any = connection.default_channel
        channel._create_client(asynchronous=True).ping()


REDIS_CLIENTS = (ping, send_a_message, consume)


@pytest.mark.parametrize("client", REDIS_CLIENTS)
@pytest.mark.parametrize(
    "url",
    [
        *("rediss://:{}@127.0.0.1:{}", "REDISS://user:{}@localhost:{}/3", "valkeys://:{}@127.0.0.1:{}/1"),
        *(
            "rediss://:{}@127.0.0.1:{}?ssl_cert_reqs=none",
            "rediss://u:{}@127.0.0.1:{}/0?ssl_cert_reqs=CERT_NONE",
        ),
    ],
)
def test_rediss_without_a_query_sends_no_plain_byte(client: Callable[[str], None], url: str) -> None:
    with wire() as tap, suppress(Exception):
        client(url.format(SECRET, tap.port))
    assert tap.sent
    assert all(sent.startswith(TLS_HANDSHAKE) for sent in tap.sent)
    assert not tap.heard(SECRET)


@pytest.mark.parametrize("client", REDIS_CLIENTS)
def test_every_client_reads_the_same_password_and_database(
    client: Callable[[str], None], redis_url: str
) -> None:
    scheme, _, rest = redis_url.partition("://")
    password, _, where = rest.removeprefix(":").partition("@")
    encoded = "".join(f"%{ord(character):02X}" for character in password)
    client(f"{scheme.upper()}://:{encoded}@{where}")
    client(f"valkey://default:{password}@{where.partition('/')[0]}?db={where.partition('/')[2]}")


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
@pytest.mark.parametrize("speaks_tls", [True, False])
def test_sslmode_that_asks_for_tls_sends_no_plain_byte(mode: str, speaks_tls: bool) -> None:
    with wire(speaks_tls=speaks_tls) as tap:
        url = f"postgresql://app:{SECRET}@127.0.0.1:{tap.port}/news?sslmode={mode}&sslrootcert=/dev/null"
        database = open_database(url.removesuffix("&sslrootcert=/dev/null") if mode == "require" else url)
        with pytest.raises(OperationalError) as refusal:
            database.connect()
        database.dispose()
    assert all(sent.startswith(TLS_HANDSHAKE) for sent in tap.sent if sent)
    assert not tap.heard(SECRET)
    assert not tap.heard("app")
    assert SECRET not in str(refusal.value)


def test_postgres_url_keeps_its_own_options(services: ServiceUrls) -> None:
    url = services.db_url.replace("postgresql://", "POSTGRES://") + "?options=-c%20search_path%3Dpg_catalog"
    database: Engine = open_database(url)
    with database.connect() as connection:
        assert connection.scalar(text("SHOW search_path")) == "pg_catalog"
        assert connection.scalar(text("SHOW timezone")) == "UTC"
    assert database.url.database == make_url(services.db_url).database
    database.dispose()


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("http://:s3cret@host", "scheme"),
        ("redis://:s3cret@", "host"),
        ("redis://:s3cret@host/queue", "number"),
        (f"redis://:s3cret@host/{'9' * 5000}", "number"),
        ("redis://:s3cret@host/1?db=2", "two databases"),
        ("rediss://:s3cret@host?ssl_cert_reqs=required&ssl_cert_reqs=none", "twice"),
        ("rediss://:s3cret@host?ssl_ca_certs=", "empty"),
        ("redis://:s3cret@host?ssl_ca_certs=/ca.pem", "rediss"),
        ("redis://:s3cret@host?ssl=true", "'ssl'"),
        ("rediss://:s3cret@host?ssl_cert_reqs=maybe", "ssl_cert_reqs"),
        ("rediss://:s3cret@host?ssl_ca_certs=/no/ca.pem", "ssl_ca_certs"),
        ("rediss://:s3cret@host?ssl_check_hostname=perhaps", "ssl_check_hostname"),
        ("redis://:s3cret@host:port", "percent-encode"),
        ("unix://run/valkey.sock", "three slashes"),
    ],
)
def test_redis_url_of_doubtful_meaning_is_refused_without_quoting_it(url: str, named: str) -> None:
    with pytest.raises(RedisUrlError, match="PRESSROOM_REDIS_URL") as refusal:
        RedisServer.from_url(url)
    assert named in str(refusal.value)
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("mysql://app:s3cret@host/news", "scheme"),
        ("postgresql://app:s3cret@host/news?sslmod=require", "'sslmod'"),
        ("postgresql://app:s3cret/word@host/news", "percent-encode"),
        ("postgresql://app:s3cret%zz@host/news", "percent-encode"),
    ],
)
def test_postgres_url_that_libpq_cannot_read_is_refused_without_quoting_it(url: str, named: str) -> None:
    with pytest.raises(DatabaseUrlError, match="PRESSROOM_DB_URL") as refusal:
        open_database(url)
    assert named in str(refusal.value)
    assert "s3cret" not in str(refusal.value)


def test_tls_that_verifies_nothing_is_warned_about() -> None:
    for mode, warns in {"require": True, "verify-ca": True, "verify-full": False, "prefer": False}.items():
        found = weakness(connection_parameters(f"postgresql://app:pw@host/news?sslmode={mode}"))
        assert (found is not None) is warns, mode
    assert RedisServer.from_url("rediss://host").warning is None
    assert "not verified" in (RedisServer.from_url("rediss://host?ssl_cert_reqs=none").warning or "")
    assert "not compared" in (RedisServer.from_url("rediss://host?ssl_check_hostname=no").warning or "")
