"""Feeds from a server that may be hostile."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobs.documents.document import Document
from jobs.errors import PermanentError, PressroomError, TransientError
from jobs.rejection import Rejected
from jobs.sources import FeedSource
from tests.hostile_server import FEED, HostileServer, hostile_server
from workers.connectors import feed
from workers.connectors.addresses import AddressGuard
from workers.connectors.feed import fetch_feed, read_feed_source
from workers.logs import OWN_LOGGERS, set_up_logging

NOW = datetime(2026, 3, 10, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as running:
        yield running


def source(url: str, *, allow_private: bool = True) -> FeedSource:
    return FeedSource(url=url, allow_private=allow_private)


def refusal(url: str, *, allow_private: bool = True) -> PressroomError:
    return refusal_of(source(url, allow_private=allow_private))


def refusal_of(source: FeedSource) -> PressroomError:
    with pytest.raises(PressroomError) as caught:
        list(read_feed_source(source, now=NOW))
    return caught.value


def test_entries_of_a_feed_become_documents(server: HostileServer) -> None:
    documents = list(read_feed_source(source(server.url("/feed?key=secret")), now=NOW))

    assert [d.id for d in documents if isinstance(d, Document)] == ["a1", "a2"]
    assert {d.source for d in documents if isinstance(d, Document)} == {"Steel Wire"}
    assert server.seen[0].headers["accept"].startswith("application/rss+xml")


@pytest.mark.parametrize("path", ["/gzip", "/feed?type=text/plain", "/redirect?to=/feed"])
def test_feed_may_be_packed_mislabelled_or_moved(server: HostileServer, path: str) -> None:
    assert fetch_feed(source(server.url(path))) == FEED


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/feed",
        "http://localhost/feed",
        "http://10.1.2.3/feed",
        "http://192.168.0.1/feed",
        "http://172.16.0.1/feed",
        "http://100.64.0.1/feed",
        "http://169.254.169.254/latest/meta-data/",
        "http://0.0.0.0/feed",
        "http://224.0.0.1/feed",
        "http://2130706433/feed",
        "http://017700000001/feed",
        "http://0x7f000001/feed",
        "http://127.1/feed",
        "http://[::1]/feed",
        "http://[::]/feed",
        "http://[::ffff:127.0.0.1]/feed",
        "http://[::ffff:7f00:1]/feed",
        "http://[64:ff9b::7f00:1]/feed",
        "http://[2002:7f00:1::]/feed",
        "http://[fe80::1]/feed",
        "http://[fc00::1]/feed",
        "http://[fd00:ec2::254]/feed",
    ],
)
def test_private_address_is_refused_however_it_is_written(url: str) -> None:
    assert refusal(url, allow_private=False).code == "feed_private_address"


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/", "http://[::ffff:169.254.169.254]/", "http://168.63.129.16/"]
)
def test_cloud_metadata_is_refused_where_private_addresses_are_allowed(url: str) -> None:
    assert refusal(url).code == "feed_private_address"


@pytest.mark.parametrize("url", ["http://me:secret@example.com/", "http:///feed", "http://0177.0.0.1/feed"])
def test_url_that_hides_something_is_refused_and_its_secret_not_repeated(url: str) -> None:
    error = refusal(url)
    assert error.code == "feed_url_invalid"
    assert "secret" not in str(error)


def test_redirect_into_the_cloud_is_refused(server: HostileServer) -> None:
    error = refusal(server.url("/redirect?to=http://169.254.169.254/latest"))
    assert error.code == "feed_private_address"


@pytest.mark.parametrize("target", ["/loop", "/redirect?to=file:///etc/passwd", "/redirect?to=gopher://x/"])
def test_redirect_that_leads_nowhere_is_refused(server: HostileServer, target: str) -> None:
    assert refusal(server.url(target)).code == "feed_redirect"


def test_name_is_resolved_once_and_the_checked_address_is_called(server: HostileServer) -> None:
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.255.255.1"]

    url = server.url("/feed", host="rebinding.example")
    assert fetch_feed(source(url), resolver=rebinding) == FEED
    assert asked == ["rebinding.example"]
    assert server.seen[0].headers["host"] == f"rebinding.example:{server.port}"


def test_name_with_one_private_address_among_public_ones_is_refused() -> None:
    with pytest.raises(PermanentError) as caught:
        AddressGuard(
            what="feed",
            name="the feed",
            allow_private=False,
            resolver=lambda host, port: ["93.184.215.14", "10.0.0.7"],
        ).find_destination("https://mixed.example/")
    assert caught.value.code == "feed_private_address"


def test_next_address_is_tried_when_one_does_not_answer(server: HostileServer) -> None:
    body = fetch_feed(
        source(server.url("/feed", host="two.example")),
        resolver=lambda host, port: ["127.0.0.2", "127.0.0.1"],  # the server listens on one of them
    )
    assert body == FEED


@pytest.mark.attack("compressed file that expands without bound")
@pytest.mark.parametrize("path", ["/flood", "/bomb"])
def test_endless_or_exploding_body_is_refused(server: HostileServer, path: str) -> None:
    error = refusal(server.url(path))
    assert error.code == "body_too_large"
    assert isinstance(error, PermanentError)


@pytest.mark.parametrize("coding", ["gzip,gzip", "br", "deflate"])
def test_body_packed_as_nobody_asked_is_refused(server: HostileServer, coding: str) -> None:
    assert refusal(server.url(f"/gzip?as={coding}")).code == "body_encoding"


@pytest.mark.parametrize("path", ["/drip", "/silence"])
def test_body_that_never_ends_is_cut_off(
    server: HostileServer, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "TOTAL_SECONDS", 1.0)
    error = refusal(server.url(path))
    assert error.code == "feed_unreachable"
    assert isinstance(error, TransientError)


def test_feed_with_entities_of_its_own_is_refused(server: HostileServer) -> None:
    with pytest.raises(PermanentError) as caught:
        list(read_feed_source(source(server.url("/entities")), now=NOW))
    assert caught.value.code == "feed_entities"


def test_page_is_no_feed(server: HostileServer) -> None:
    assert refusal(server.url("/feed?type=text/html;charset=utf-8")).code == "feed_media_type"


@pytest.mark.parametrize(("code", "may_pass"), [(404, False), (403, False), (500, True), (429, True)])
def test_status_says_whether_to_try_again(server: HostileServer, code: int, may_pass: bool) -> None:
    error = refusal(server.url(f"/status?code={code}"))
    assert error.code == "feed_status"
    assert isinstance(error, TransientError) is may_pass


def test_server_that_is_down_may_come_back() -> None:
    error = refusal("http://127.0.0.1:1/feed?token=secret")
    assert isinstance(error, TransientError)
    assert "secret" not in str(error)


VARIABLE = "PAID_NEWS_URL"
IN_VARIABLE = FeedSource(url_variable=VARIABLE, allow_private=True)


def test_url_in_a_variable_is_called_whole_and_rows_are_said_to_be_of_the_variable(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, server.url("/undated/SECRET?key=SECRET"))
    documents = list(read_feed_source(IN_VARIABLE, now=NOW))

    assert server.seen[0].path == "/undated/SECRET?key=SECRET"
    assert [d.id for d in documents if isinstance(d, Document)] == ["a1"]
    (refused,) = [d for d in documents if isinstance(d, Rejected)]
    assert VARIABLE in refused.file
    assert "SECRET" not in repr(documents)


def test_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    error = refusal_of(IN_VARIABLE)
    assert error.code == "source_variable_missing"
    assert VARIABLE in str(error)


@pytest.mark.parametrize(
    "path",
    [
        "/status/SECRET?code=500&key=SECRET",
        "/status/SECRET?code=404&key=SECRET",
        "/feed/SECRET?type=text/html&key=SECRET",
        "/entities/SECRET?key=SECRET",
        "/flood/SECRET?key=SECRET",
        "/gzip/SECRET?as=br&key=SECRET",
        "/redirect/SECRET?to=/loop/SECRET",
        "/redirect/SECRET?to=/status/SECRET%3Fcode=403%26key=SECRET",
        "/redirect/SECRET?to=ftp://SECRET/",
        "/redirect/SECRET?to=http://169.254.169.254/SECRET",
    ],
)
def test_fault_of_a_url_in_a_variable_names_variable_and_host_and_no_more(
    server: HostileServer, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, server.url(path))
    said = str(refusal_of(IN_VARIABLE))
    assert VARIABLE in said
    assert "SECRET" not in said


@pytest.mark.parametrize(
    "url",
    [
        "SECRET",
        "ftp://127.0.0.1/SECRET",
        "https:/SECRET",
        "http://127.0.0.1:SECRET/",
        "http://me:SECRET@127.0.0.1/",
        "http://127.0.0.1:1/SECRET?key=SECRET",
        "http://[SECRET/",
    ],
)
def test_variable_that_holds_no_url_that_works_is_named_and_its_value_not_repeated(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, url)
    said = str(refusal_of(IN_VARIABLE))
    assert VARIABLE in said
    assert "SECRET" not in said


def test_no_library_writes_a_url_to_the_log(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    levels = {name: logging.getLogger(name).level for name in ("", "httpx", "psycopg", *OWN_LOGGERS)}
    try:
        set_up_logging("INFO", others="INFO")
        logging.getLogger().setLevel(logging.INFO)  # pytest has set its handlers up before
        fetch_feed(source(server.url("/feed?key=SECRET")))
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    assert "SECRET" not in caplog.text


def test_certificate_is_checked_against_the_name_not_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("makes its certificate with openssl")
    certificate = tmp_path / "both.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=feed.example", "-addext", "subjectAltName=DNS:feed.example"),
            *("-keyout", tmp_path / "key.pem", "-out", tmp_path / "certificate.pem"),
        ],
        check=True,
        capture_output=True,
    )
    certificate.write_text((tmp_path / "key.pem").read_text() + (tmp_path / "certificate.pem").read_text())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    with hostile_server(certificate) as server:
        url = server.url("/feed", host="feed.example")
        assert fetch_feed(source(url), resolver=lambda host, port: ["127.0.0.1"]) == FEED

        monkeypatch.setattr(feed, "TOTAL_SECONDS", 1.0)
        with pytest.raises(TransientError):
            fetch_feed(source(server.url("/drip", "feed.example")), resolver=lambda host, port: ["127.0.0.1"])
        with pytest.raises(TransientError, match="certificate"):
            fetch_feed(source(server.url("/feed", "other.example")), resolver=lambda h, p: ["127.0.0.1"])


@pytest.mark.attack("truncated body")
@pytest.mark.parametrize(
    "path",
    [
        *("/cut?by=length&bytes=300", "/cut?by=chunk&bytes=300", "/cut?by=none&bytes=300"),
        *("/packed?cut=-1", "/packed?cut=-9", "/packed?cut=60", "/packed?cut=1", "/packed?cut=0"),
    ],
)
def test_truncated_body_is_never_taken_for_the_whole(server: HostileServer, path: str) -> None:
    error = refusal(server.url(path))
    assert isinstance(error, TransientError)
    assert error.code in ("feed_unreachable", "body_truncated")
    assert "127.0.0.1" in str(error)


@pytest.mark.parametrize(
    "path", ["/cut?by=none&bytes=100000", "/packed?cut=100000", "/packed?cut=9999&then=0000"]
)
def test_body_whose_end_is_seen_needs_no_length(server: HostileServer, path: str) -> None:
    assert fetch_feed(source(server.url(path))) == FEED


def test_what_follows_the_end_of_gzip_is_refused(server: HostileServer) -> None:
    assert refusal(server.url("/packed?cut=99999&then=6b1f8b")).code == "body_encoding"
