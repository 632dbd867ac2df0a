"""A bucket where little is allowed, keys of every kind, and bodies that do not come whole."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.errors import ConfigurationError
from storage import open_store
from storage.resources import put_resource, read_resource
from storage.s3_settings import S3Settings
from storage.store import (
    ObjectNotFoundError,
    RangesUnsupportedError,
    Store,
    StoreRefusedError,
    StoreUnavailableError,
    check_access,
)
from tests.s3_proxy import ERROR, Answer, S3Proxy, s3_proxy
from tests.wire import TLS_HANDSHAKE, wire

LEAST = frozenset({"GetObject", "PutObject"})


@pytest.fixture
def proxy(s3_url: str) -> Iterator[S3Proxy]:
    """Before a bucket that is there."""
    open_store(s3_url)
    with s3_proxy(s3_url) as proxy:
        yield proxy


@pytest.fixture
def least(proxy: S3Proxy) -> Store:
    """A store that may get and put, and nothing else."""
    proxy.allowed = LEAST
    return open_store(proxy.url)


def test_get_and_put_are_enough_where_head_bucket_is_forbidden(least: Store, proxy: S3Proxy) -> None:
    check_access(least)
    digest = put_resource(least, b"shared", media_type="text/plain")
    least.put(f"artifacts/aa/{hashlib.sha256(b'made').hexdigest()}", b"made", media_type="text/plain")

    assert put_resource(least, b"shared", media_type="text/plain") == digest
    assert read_resource(least, digest) == b"shared"
    assert ("CreateBucket", "") not in proxy.asked


def whole(action: str, _: str, answer: Answer) -> Answer:
    """Ignore the Range header, as HTTP allows."""
    if action != "GetObject":
        return answer
    headers = [(name, value) for name, value in answer.headers if name.lower() != "content-range"]
    return dataclasses.replace(answer, status=200, headers=headers)


def shifted(action: str, _: str, answer: Answer) -> Answer:
    """Serve as many bytes, but others than were requested."""
    if not any(name.lower() == "content-range" for name, _ in answer.headers):
        return answer
    return dataclasses.replace(answer, body=b"?" * len(answer.body))


@pytest.mark.parametrize("fault", [whole, shifted])
def test_server_that_serves_ranges_wrongly_is_refused_at_start(
    least: Store, proxy: S3Proxy, fault: Callable[[str, str, Answer], Answer]
) -> None:
    proxy.rewrite = fault
    with pytest.raises(RangesUnsupportedError, match="Range header") as refusal:
        check_access(least)
    assert refusal.value.code == "store_ranges_unsupported"


def test_small_body_is_sent_without_asking_first(least: Store, proxy: S3Proxy) -> None:
    least.put("a/small", b"x" * 1000, media_type="text/plain")
    assert proxy.expecting == []
    least.put("a/large", b"x" * 2_000_000, media_type="text/plain")
    assert proxy.expecting == ["a/large"]


def test_head_of_a_missing_key_answered_by_403_is_a_missing_object(least: Store) -> None:
    assert not least.exists("a/missing")
    least.put("a/there", b"x", media_type="text/plain")
    assert least.exists("a/there")
    with pytest.raises(ObjectNotFoundError, match="s3:ListBucket"):
        least.get("a/missing")


def test_resource_made_by_a_job_is_found_without_listing(least: Store, proxy: S3Proxy) -> None:
    digest = hashlib.sha256(b"made").hexdigest()
    least.put(f"artifacts/{digest[:2]}/{digest}", b"made", media_type="text/plain")

    assert read_resource(least, digest) == b"made"
    assert "ListBucket" not in {action for action, _ in proxy.asked}


@pytest.mark.parametrize(
    ("forbidden", "named", "call"),
    [
        ("PutObject", "s3:PutObject", check_access),
        ("GetObject", "s3:GetObject", check_access),
        ("ListBucket", "s3:ListBucket", lambda store: list(store.keys("a/"))),
        ("DeleteObject", "s3:DeleteObject", lambda store: store.delete("a/b")),
    ],
)
def test_missing_permission_is_named_with_its_use(
    proxy: S3Proxy, forbidden: str, named: str, call: Callable[[Store], object]
) -> None:
    proxy.allowed -= {forbidden}
    store = open_store(proxy.url)
    with pytest.raises(StoreRefusedError, match=named) as refusal:
        call(store)
    assert refusal.value.code == "store_permission_missing"
    assert "which is used to" in str(refusal.value)
    assert "PRESSROOM_S3_URL" in str(refusal.value)


def test_bucket_that_may_not_be_made_is_named(proxy: S3Proxy) -> None:
    proxy.allowed -= {"CreateBucket"}
    head, _, options = proxy.url.partition("?")
    with pytest.raises(StoreRefusedError, match="s3:CreateBucket"):
        open_store(f"{head}-elsewhere?{options}")


def test_permission_that_goes_after_it_worked_is_an_outage(least: Store, proxy: S3Proxy) -> None:
    check_access(least)
    proxy.allowed = frozenset()
    with pytest.raises(StoreUnavailableError, match="s3:PutObject"):
        least.put("a/b", b"x", media_type="text/plain")


@pytest.mark.parametrize(
    ("status", "code", "named", "told"),
    [
        (403, "InvalidAccessKeyId", "store_keys_refused", "access key"),
        (403, "SignatureDoesNotMatch", "store_keys_refused", "secret key"),
        (400, "ExpiredToken", "store_keys_refused", "session token"),
        (403, "RequestTimeTooSkewed", "store_clock_differs", "clock"),
        (400, "AuthorizationHeaderMalformed", "store_region_differs", "region=eu-west-3"),
        (404, "NoSuchBucket", "store_bucket_missing", "no such bucket"),
        (501, "NotImplemented", None, "NotImplemented"),
    ],
)
def test_what_is_wrong_is_told_by_the_servers_code(
    proxy: S3Proxy, status: int, code: str, named: str | None, told: str
) -> None:
    body = ERROR.format(code, "no").replace("</Error>", "<Region>eu-west-3</Region></Error>").encode()
    refused = Answer(status, [("Content-Length", str(len(body)))], body)
    proxy.allowed = LEAST
    store = open_store(proxy.url)
    proxy.rewrite = lambda *_: refused
    with pytest.raises(StoreRefusedError if named else StoreUnavailableError, match=told) as refusal:
        store.put("a/b", b"x", media_type="text/plain")
    assert named is None or refusal.value.code == named


def test_unknown_host_is_told_at_once() -> None:
    with pytest.raises(StoreRefusedError, match="PRESSROOM_S3_URL") as refusal:
        open_store("https://key:s3cret@no-such-host.invalid/bucket")
    assert refusal.value.code == "store_host_unknown"
    assert "s3cret" not in str(refusal.value)


def test_https_store_sends_no_plain_byte_and_its_certificate_is_verified() -> None:
    with wire() as tap, pytest.raises((StoreRefusedError, StoreUnavailableError)):
        open_store(f"HTTPS://key:s3cret@127.0.0.1:{tap.port}/bucket")
    assert tap.sent
    assert all(sent.startswith(TLS_HANDSHAKE) for sent in tap.sent)


def _cut(answer: Answer) -> Answer:
    return dataclasses.replace(answer, body=answer.body[: len(answer.body) // 2], is_cut=True)


def _without_length(answer: Answer) -> Answer:
    headers = [
        (name, value) for name, value in answer.headers if name.lower() not in ("content-length", "etag")
    ]
    return dataclasses.replace(_cut(answer), headers=headers)


def _wrong_chunk(answer: Answer) -> Answer:
    headers = [(name, value) for name, value in answer.headers if name.lower() != "content-length"]
    chunked = [*headers, ("TE", "no"), ("Transfer-Encoding", "chunked")]
    return dataclasses.replace(answer, headers=chunked, body=b"4\r\nhalf\r\n", is_cut=True)


@pytest.mark.attack("truncated body")
@pytest.mark.parametrize("damage", [_cut, _without_length, _wrong_chunk])
def test_truncated_object_is_read_again_and_never_taken_for_the_whole(
    proxy: S3Proxy, damage: Callable[[Answer], Answer]
) -> None:
    store = open_store(proxy.url)
    store.put("a/b", b"0123456789" * 1000, media_type="text/plain")
    cut = iter([True, True, False])
    proxy.rewrite = lambda action, _, answer: (
        damage(answer) if action == "GetObject" and next(cut, False) else answer
    )
    assert store.get("a/b") == b"0123456789" * 1000
    assert next(cut, None) is None


@pytest.mark.attack("truncated body")
def test_truncated_object_is_named_when_it_never_comes_whole(
    proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.s3.MAX_TRIES", 2)
    store = open_store(proxy.url)
    store.put("a/b", b"0123456789" * 1000, media_type="text/plain")
    for damage in (_cut, _without_length, _wrong_chunk):
        proxy.rewrite = lambda action, _, answer, damage=damage: (  # type: ignore[misc]
            damage(answer) if action == "GetObject" else answer
        )
        with pytest.raises(StoreUnavailableError, match="'a/b'"):
            store.get("a/b")


def test_truncated_listing_is_read_again(proxy: S3Proxy) -> None:
    store = open_store(proxy.url)
    store.put("a/b", b"x", media_type="text/plain")
    cut = iter([True, False])
    proxy.rewrite = lambda action, _, answer: (
        _cut(answer) if action == "ListBucket" and next(cut, False) else answer
    )
    assert list(store.keys()) == ["a/b"]


def test_session_token_and_styles_are_options_of_the_url(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("certificates")
    url = f"https://key:s%2Fcret@s3.eu-west-3.amazonaws.com/bucket?session_token=t%2Bk&addressing_style=virtual&ca_bundle={bundle}"
    settings = S3Settings.from_url(url)

    assert (settings.secret_key, settings.session_token) == ("s/cret", "t+k")
    assert (settings.addressing_style, settings.ca_bundle) == ("virtual", str(bundle))
    assert settings.region == "eu-west-3"
    assert "cret" not in repr(settings)
    assert "t+k" not in repr(settings)


def test_url_without_keys_takes_those_of_the_environment(
    proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, _, place = proxy.url.partition("@")
    access, _, secret = head.removeprefix("http://").partition(":")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    check_access(open_store(f"http://{place}"))


def test_url_with_keys_takes_nothing_from_the_environment(
    proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "no-such-thing")
    check_access(open_store(proxy.url))


@pytest.mark.parametrize(
    "options",
    [
        *("?acl=public", "?region=", "?addressing_style=both", "?session_tokn=x", "#x"),
        *("?ca_bundle=/no/such/file.pem", "?verify=false", "?region=a&region=b"),
    ],
)
def test_unknown_option_of_the_url_is_refused_by_name(options: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        S3Settings.from_url(f"https://key:s3cret@host/bucket{options}")
    assert refusal.value.code == "store_url_invalid"
    assert options.strip("?#").partition("=")[0] in str(refusal.value) or "%23" in str(refusal.value)
    assert "s3cret" not in str(refusal.value)
