"""Entries of an RSS or Atom feed, from bytes that were fetched or read by someone else."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

import feedparser

from jobs.documents.document import KnownRecords
from jobs.documents.identity import is_placeholder
from jobs.documents.reading import OnNote, Reading
from jobs.documents.records import DocumentMaker
from jobs.input_file import refuse_file

MAX_FEED_BYTES = 16 * 2**20
"""feedparser keeps the whole feed in memory, about ten times its size; feeds of agencies have under 1 MB."""

MAX_DEPTH = 200
"""Of open elements; feeds have ten, and the parsers keep a stack."""

_DECLARED = re.compile(
    rb"<[!]\s*(?:ENTITY|ATTLIST|ELEMENT|NOTATION)|<!DOCTYPE[^>\[<]{0,1000}\[", re.IGNORECASE
)
_ENCODING = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._\-]{1,40})["']""")
_ENCODINGS = re.compile(
    rb"utf-?8|us-ascii|ascii|iso-?8859-\d{1,2}|latin-?1|windows-125\d|cp125\d", re.IGNORECASE
)
"""Encodings in which ASCII is ASCII, so that what is looked for in the bytes is what the parser will see."""
_TAG = re.compile(rb"<(/?)[A-Za-z_][^<>]*?(/?)>")


def read_feed(
    name: str,
    body: bytes,
    *,
    now: datetime,
    known: KnownRecords | None = None,
    on_note: OnNote | None = None,
) -> Reading:
    """Documents of a feed in memory; `line` of a refused one is the entry's number from 1.

    Raises FileRejectedError: `body_too_large`, `feed_entities`, `feed_encoding`, `feed_malformed`.
    """
    maker = DocumentMaker(name, now=now, columns={})
    return Reading(feed_records(name, body), maker, known, is_snapshot=True, on_note=on_note)


def feed_records(name: str, body: bytes) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Entries as fields of a document; raises as read_feed."""
    _check(Path(name), body)
    # A stream: of bytes or text feedparser would ask whether they are the name of a file, or a URL.
    parsed = feedparser.parse(io.BytesIO(body), sanitize_html=False, resolve_relative_uris=False)
    if not parsed.version and not parsed.entries:
        reason = "is no RSS or Atom feed"
        raise refuse_file(Path(name), "feed_malformed", reason, "check the address in a browser")
    source = str(parsed.feed.get("title", ""))[:200]
    language = str(parsed.feed.get("language", ""))
    for number, entry in enumerate(parsed.entries, start=1):
        yield number, _fields(entry, source, language)


def _fields(entry: feedparser.FeedParserDict, source: str, language: str) -> dict[str, object]:
    contents = [str(content.get("value", "")) for content in entry.get("content", ())]
    text = max([*contents, str(entry.get("summary", ""))], key=len)
    guid, link = str(entry.get("id") or "").strip(), str(entry.get("link") or "").strip()
    return {
        "id": link if not guid or is_placeholder(guid) else guid,
        "link": link,
        "title": str(entry.get("title", "")),
        "text": text,
        "source": source,
        # As it is written: feedparser's own reading ignores what it does not know, such as AM and PM.
        "published_at": entry.get("published") or entry.get("updated") or entry.get("created"),
        "language": language,
    }


def _check(path: Path, body: bytes) -> None:
    if len(body) > MAX_FEED_BYTES:
        reason = f"has more than {MAX_FEED_BYTES:,} bytes"
        raise refuse_file(path, "body_too_large", reason, "split the feed")
    encoding = _ENCODING.match(body.removeprefix(b"\xef\xbb\xbf"))
    if b"\x00" in body[:4096] or (encoding is not None and not _ENCODINGS.fullmatch(encoding[1])):
        reason = "is in an encoding that is not read"
        raise refuse_file(path, "feed_encoding", reason, "publish the feed as UTF-8")
    if _DECLARED.search(body) is not None:
        reason = "declares entities or a document type of its own"
        raise refuse_file(path, "feed_entities", reason, "publish the feed without a DTD")
    depth = 0
    for tag in _TAG.finditer(body):
        depth += -1 if tag[1] else 0 if tag[2] else 1
        if depth > MAX_DEPTH:
            reason = f"nests more than {MAX_DEPTH} elements"
            raise refuse_file(path, "feed_malformed", reason, "look at the feed")
