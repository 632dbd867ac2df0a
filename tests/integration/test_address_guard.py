"""One guard for every connection of a source or a target: metadata and link-local are never called."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime

import pytest

from jobs.errors import PressroomError
from jobs.sources import PrefixSource, QuerySource, SourceRefusedError
from kinds.recommendation.serving.serving import ServingError, ServingTarget, serve_release
from storage import open_store
from storage.memory import MemoryStore
from storage.store import StoreError, StoreRefusedError
from tests.integration.kinds.recommendation.test_serving import release
from workers.connectors.addresses import AddressGuard, AddressRefusedError, is_never_called
from workers.connectors.files import read_prefix_source
from workers.connectors.query import guarded_parameters, read_query_source

METADATA = (
    *("169.254.169.254", "169.254.170.23", "100.100.100.200", "168.63.129.16", "192.0.0.192", "0.0.0.0"),
    *("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42", "fe80::1"),
    *("fe80::a9fe:a9fe", "::ffff:169.254.169.254", "::ffff:0:169.254.169.254", "::169.254.169.254"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "64:ff9b:1:fffe::a9fe:101", "2002:a9fe:a9fe::1"),
    *("64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:a9fe:a9:fe00:808:808", "64:ff9b:1:fea9:fe:a9fe:808:808"),
    *("64:ff9b:1::a9:fea9:fe08:808", "2001:db8:64:6464:64:6464:c800::", "64:ff9b:1:a9fe:1:200::"),
    *("2001:db8:64::a9fe:a9fe", "fd12:3456::5efe:a9fe:101", "fd12:3456::200:5efe:a9fe:a9fe", "ff02::1", "::"),
)
NOW = datetime(2026, 3, 3, tzinfo=UTC)


@pytest.mark.attack("source at a metadata address")
@pytest.mark.parametrize("address", METADATA)
def test_metadata_and_link_local_are_never_called_even_in_ones_own_network(address: str) -> None:
    assert is_never_called(ipaddress.ip_address(address))
    with pytest.raises(AddressRefusedError) as refusal:
        AddressGuard(what="store", name="it", allow_private=True, resolver=lambda *_: [address]).addresses(
            "name", 80
        )
    assert refusal.value.code == "store_private_address"


@pytest.mark.parametrize(
    "address",
    ["10.1.2.3", "127.0.0.1", "::1", "fd12::1", "::ffff:192.168.1.1", "fd00:a::2", "64:ff9b:1::808:808"],
)
def test_private_address_is_called_only_where_that_is_allowed(address: str) -> None:
    assert AddressGuard(what="store", name="it", allow_private=True, resolver=lambda *_: [address]).addresses(
        "name", 80
    )
    with pytest.raises(AddressRefusedError):
        AddressGuard(what="store", name="it", allow_private=False, resolver=lambda *_: [address]).addresses(
            "name", 80
        )


@pytest.mark.attack("source at a metadata address")
@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fd00:ec2::254]", "[64:ff9b:1::a9fe:a9fe]", "2852039166"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_s3_source_never_reaches_metadata(monkeypatch: pytest.MonkeyPatch, scheme: str, host: str) -> None:
    monkeypatch.setenv("NEWS_BUCKET_URL", f"{scheme}://key:s3cret@{host}/bucket")
    source = PrefixSource(prefix="news/", url_variable="NEWS_BUCKET_URL")
    with pytest.raises(SourceRefusedError, match="NEWS_BUCKET_URL") as refusal:
        list(read_prefix_source(source, own_store=MemoryStore(), now=NOW))
    assert refusal.value.code == "store_private_address"
    assert "s3cret" not in str(refusal.value)


@pytest.mark.attack("source at a metadata address")
def test_s3_source_makes_no_bucket(monkeypatch: pytest.MonkeyPatch, s3_url: str) -> None:
    monkeypatch.setenv("NEWS_BUCKET_URL", s3_url)
    source = PrefixSource(prefix="news/", url_variable="NEWS_BUCKET_URL")
    for _ in range(2):
        with pytest.raises(SourceRefusedError) as refusal:
            list(read_prefix_source(source, own_store=MemoryStore(), now=NOW))
        assert refusal.value.code == "store_bucket_missing"
    with pytest.raises(StoreRefusedError):
        open_store(s3_url, makes_bucket=False)


def test_s3_source_goes_to_the_address_that_was_checked(s3_url: str) -> None:
    open_store(s3_url).put("news/a.csv", b"x", media_type="text/csv")
    asked: list[str] = []

    def resolver(host: str, _: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    guard = AddressGuard(what="store", name="it", allow_private=True, resolver=resolver)
    url = s3_url.replace("@127.0.0.1:", "@news.invalid:")
    store = open_store(url, addresses=guard.address_texts, makes_bucket=False)
    assert list(store.keys()) == ["news/a.csv"]  # by the same connection
    assert asked == ["news.invalid"]
    with pytest.raises((AddressRefusedError, StoreError)):
        open_store(url, addresses=guard.address_texts, makes_bucket=False)


@pytest.mark.attack("source at a metadata address")
@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("postgresql://app:s3cret@169.254.169.254/news", "query_private_address"),
        ("postgresql://app:s3cret@[fd00:ec2::254]/news", "query_private_address"),
        ("postgresql://app:s3cret@127.0.0.1,169.254.169.254/news", "query_private_address"),
        ("postgresql://app:s3cret@127.0.0.1/news?hostaddr=169.254.169.254", "query_private_address"),
        ("host=169.254.169.254 password=s3cret", "query_private_address"),
        ("postgresql://app:s3cret@/news?service=other", "source_url_invalid"),
        ("postgresql://app:s3cret%zz@host/news", "source_url_invalid"),
    ],
)
def test_query_source_never_reaches_metadata(monkeypatch: pytest.MonkeyPatch, url: str, code: str) -> None:
    monkeypatch.setenv("NEWS_DB", url)
    with pytest.raises(PressroomError, match="NEWS_DB") as refusal:
        list(read_query_source(QuerySource(url_variable="NEWS_DB", sql="SELECT 1"), now=NOW))
    assert refusal.value.code == code
    assert "s3cret" not in str(refusal.value)


def test_query_source_goes_to_the_address_that_was_checked() -> None:
    url = "postgresql://app:pw@db.test:6432,other.test:7432/news?sslmode=verify-full"
    parameters = guarded_parameters(
        url,
        AddressGuard(
            what="query",
            name="query",
            allow_private=False,
            resolver=lambda host, _: ["93.184.215.14"] * (1 + (host == "db.test")),
        ),
    )
    assert parameters["host"] == "db.test,db.test,other.test"
    assert parameters["hostaddr"] == "93.184.215.14,93.184.215.14,93.184.215.14"
    assert parameters["port"] == "6432,6432,7432"
    assert parameters["sslmode"] == "verify-full"
    with pytest.raises(SourceRefusedError, match="allow_private"):
        guarded_parameters(
            "postgresql:///news?host=/run/postgresql",
            AddressGuard(what="query", name="query", allow_private=False),
        )


@pytest.mark.attack("source at a metadata address")
def test_serving_place_never_reaches_metadata() -> None:
    with pytest.raises(ServingError) as refusal:
        serve_release(release(), ServingTarget(url="rediss://:s3cret@169.254.169.254/1", staging=2))
    assert refusal.value.code == "serving_private_address"
    assert "s3cret" not in str(refusal.value)
