"""Reads RSS and Atom feeds over HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

import httpx

from jobs.documents.document import Document, KnownRecords
from jobs.documents.feed import MAX_FEED_BYTES
from jobs.documents.reading import OnNote, read_feed
from jobs.rejection import Rejected
from jobs.sources import FeedSource, SourceDownError, SourceRefusedError
from workers.connectors.addresses import AddressGuard, Resolve, name_of, required_variable, resolve
from workers.connectors.http import exchange, read_body

MAX_REDIRECTS = 5
"""Maximum number of redirects. Two or three are usual: to the new address of a feed that has moved, from http
to https, and to a content delivery network."""

TOTAL_SECONDS = 60.0
"""Time limit of each request in seconds, including its body; a redirect begins a new request."""

ACCEPT = "application/rss+xml, application/atom+xml, application/xml;q=0.9, text/xml;q=0.9, */*;q=0.1"

END_BYTES = 4096
"""Number of bytes at the end of a body within which its root element must be closed."""

_END = re.compile(rb"</(?:[A-Za-z0-9_]{1,40}:)?(?:rss|feed|RDF)\s{0,20}>", re.IGNORECASE)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})
_NO_FEED = ("text/html", "image/", "audio/", "video/", "font/", "application/pdf", "application/zip")


def read_feed_source(
    source: FeedSource,
    *,
    now: datetime,
    resolver: Resolve = resolve,
    known: KnownRecords | None = None,
    on_note: OnNote | None = None,
) -> Iterator[Document | Rejected]:
    """Yield the documents that the feed currently contains.

    Raises SourceDownError, SourceRefusedError and FileRejectedError, and the errors of `exchange` and
    `read_body`, such as `feed_private_address` and `body_too_large`.
    """
    name = name_of(source, _url(source))
    body = fetch_feed(source, resolver=resolver)
    return read_feed(name, body, now=now, known=known, on_note=on_note)


def _url(source: FeedSource) -> str:
    return source.url or required_variable(str(source.url_variable))


def fetch_feed(source: FeedSource, *, resolver: Resolve = resolve) -> bytes:
    """Return the feed's bytes; the URL of every redirect is checked like the first one."""
    url = _url(source)
    for _ in range(MAX_REDIRECTS + 1):
        name = name_of(source, url)
        with exchange(
            "GET",
            url,
            AddressGuard(what="feed", name=name, allow_private=source.allow_private, resolver=resolver),
            headers={"Accept": ACCEPT},
            total_seconds=TOTAL_SECONDS,
        ) as response:
            if response.status_code in _REDIRECTS:
                url = _next_hop(name, url, response)
                continue
            _check(name, response)
            return read_body(response, name=name, max_bytes=MAX_FEED_BYTES, is_whole=_has_end)
    raise SourceRefusedError(
        f"{name_of(source, _url(source))} redirects more than {MAX_REDIRECTS} times: use the URL at which "
        "the redirects end",
        code="feed_redirect",
    )


def _has_end(body: bytes) -> bool:
    """Return whether the root element of a feed is closed; comments, such as those of a cache, can follow.

    >>> _has_end(b"<rss><channel/></rss><!-- cached -->"), _has_end(b"<rss><channel/>")
    (True, False)
    """
    return _END.search(body[-END_BYTES:]) is not None


def _next_hop(name: str, url: str, response: httpx.Response) -> str:
    location = response.headers.get("location", "")
    try:
        there = httpx.URL(url).join(location)
    except (httpx.InvalidURL, TypeError) as error:
        raise _refused(name, "redirects to an invalid URL", "feed_redirect") from error
    if not location or there.scheme not in ("http", "https"):
        raise _refused(name, "redirects to an address that is not http or https", "feed_redirect")
    if httpx.URL(url).scheme == "https" and there.scheme != "https":
        raise _refused(name, "redirects from https to http", "feed_redirect")
    return str(there)


def _check(name: str, response: httpx.Response) -> None:
    status = response.status_code
    if status != httpx.codes.OK:
        message = f"{name} responds with status {status}: open it in a browser to see why"
        if status in _MAY_PASS:
            raise SourceDownError(message, code="feed_status")
        raise SourceRefusedError(message, code="feed_status")
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type.startswith(_NO_FEED):
        raise _refused(name, f"has the type {media_type[:60]}, which is not a feed", "feed_media_type")


def _refused(name: str, reason: str, code: str) -> SourceRefusedError:
    return SourceRefusedError(f"{name} {reason}: open it in a browser, and correct the URL", code=code)
