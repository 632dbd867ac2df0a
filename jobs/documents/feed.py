"""Reads the entries of an RSS or Atom feed."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import feedparser

from jobs.documents.identity import is_placeholder
from jobs.intake.records import Record
from jobs.rejection import FileRejectedError, Refusal, Rejected, attempt, refuse_file

MAX_FEED_BYTES = 16 * 2**20
"""Maximum size of a feed in bytes. feedparser needs about ten times the feed's size in memory. The feeds of
news agencies are smaller than 1 MB."""

MAX_DEPTH = 200
"""Maximum depth of nested elements. Feeds have a depth of about ten, and the parsers need a stack frame for
each level."""

_DECLARED = re.compile(
    rb"<[!]\s*(?:ENTITY|ATTLIST|ELEMENT|NOTATION)|<!DOCTYPE[^>\[<]{0,1000}\[", re.IGNORECASE
)
_ENCODING = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._\-]{1,40})["']""")
_ENCODINGS = re.compile(
    rb"utf-?8|us-ascii|ascii|iso-?8859-\d{1,2}|latin-?1|windows-125\d|cp125\d", re.IGNORECASE
)
"""Matches encodings that are supersets of ASCII. In these, patterns find in the bytes what the parser will
find in the text."""
_REFERENCE = re.compile(rb"&#(?:(?P<decimal>[0-9]{8,})|[xX](?P<hex>[0-9a-fA-F]{8,}));?")
_MAX_DIGITS = 7
_ENTRY = re.compile(rb"<(?P<begin>item|entry)[\s>]|</(?:item|entry)\s{0,20}>", re.IGNORECASE)
_MAX_FRAME_BYTES = 2**18
"""Maximum size in bytes of the part of a feed outside its entries, if each entry is parsed separately. In
feeds of news agencies, this part has about a kilobyte."""
_TAG = re.compile(rb"<(/?)[A-Za-z_][^<>]*?(/?)>")
_MAX_REPEATED_BYTES = MAX_FEED_BYTES
"""Maximum number of bytes outside the entries, multiplied by the number of entries, because these bytes are
parsed again with every entry. Parsing this many bytes takes as long as parsing the largest feed."""
_ROOT = re.compile(rb"<\w")
_DECLARATION = re.compile(rb"\s*<\?[^\r\n?]{0,1000}\?>")
_MAX_AUTHOR_CHARACTERS = 1_000
_PREFIX = re.compile(rb"xmlns:([^\s=<>]{1,100})")
_ATTRIBUTE = re.compile(rb"""\s[^\s=<>"']{1,100}\s{0,5}=\s{0,5}["']""")
_LONG_TAG_BYTES = 2**12
_MAX_NAMES = 500
"""Maximum number of namespaces in a feed and of attributes in a tag, because the parser compares each with
all others."""


_TOO_DEEP = Refusal("feed_malformed", f"nests elements more than {MAX_DEPTH} levels deep")


def feed_records(name: str, body: bytes) -> Iterator[tuple[int, Mapping[str, object]] | Rejected]:
    """Yield the number of each entry, from 1, and its fields, or the rejection of the entry.

    Raises FileRejectedError for a feed that is unusable as a whole.
    """
    _check(Path(name), body)
    parsed = _TOO_DEEP if _is_deep(body) else attempt(_parse, body)
    if not isinstance(parsed, Refusal) and parsed.bozo and len(parsed.entries) < len(_spans(body)):
        parsed = Refusal("feed_malformed", "is not well-formed, so some entries are read as parts of others")
    if isinstance(parsed, Refusal):
        yield from _one_by_one(name, body, parsed)
        return
    if not parsed.version and not parsed.entries:
        raise _no_feed(name)
    yield from _entries(name, parsed, 1)


def _parse(body: bytes) -> feedparser.FeedParserDict:
    # feedparser gets a stream, because it would first use bytes or text as a file name or a URL.
    stream = io.BytesIO(_REFERENCE.sub(_bounded, _plain_head(body)))
    return feedparser.parse(stream, sanitize_html=False, resolve_relative_uris=False)


def _plain_head(body: bytes) -> bytes:
    """Return the feed with single spaces before its root element, and its declaration on a separate line.

    feedparser searches for the encoding in the whole first line, and for entities after any white space, with
    patterns whose running time grows faster than the length. Raises ValueError for a malformed declaration.
    """
    root = _ROOT.search(body)
    end = root.start() if root is not None else len(body)
    head = b" ".join(body[:end].removeprefix(b"\xef\xbb\xbf").split())
    if not head.startswith(b"<?"):
        return head + body[end:]
    declaration = _DECLARATION.match(head)
    if declaration is None:
        raise ValueError("the XML declaration is not closed")
    return head[: declaration.end()] + b"\n" + head[declaration.end() :] + body[end:]


def _with_short_author(sync: Callable[..., None]) -> Callable[..., None]:
    """Wrap a method of feedparser so that long author names are cut before it runs.

    feedparser searches an author's name for an address in quadratic time.
    """

    def bounded(self: Any, key: str = "author") -> None:
        context = self._get_context()
        if isinstance(name := context.get(key), str):
            context[key] = name[:_MAX_AUTHOR_CHARACTERS]
        sync(self, key)

    return bounded


feedparser.mixin._FeedParserMixin._sync_author_detail = _with_short_author(
    feedparser.mixin._FeedParserMixin._sync_author_detail
)


def _entries(
    name: str, parsed: feedparser.FeedParserDict, first: int
) -> Iterator[tuple[int, Mapping[str, object]] | Rejected]:
    source = str(parsed.feed.get("title", ""))[:200]
    language = str(parsed.feed.get("language", ""))
    for number, entry in enumerate(parsed.entries, start=first):
        fields = attempt(lambda each: _fields(each, source, language), entry)
        if isinstance(fields, Refusal):
            yield Record(name, number, {}).reject_unreadable(fields)
        else:
            yield number, fields


def _one_by_one(
    name: str, body: bytes, refusal: Refusal
) -> Iterator[tuple[int, Mapping[str, object]] | Rejected]:
    """Parse each entry of a feed separately, because the parser failed on the feed as a whole."""
    spans = _spans(body)
    head, tail = (body[: spans[0][0]], body[spans[-1][1] :]) if spans else (body, b"")
    if not spans or (
        len(head) + len(tail) > _MAX_FRAME_BYTES or (len(head) + len(tail)) * len(spans) > _MAX_REPEATED_BYTES
    ):
        raise refuse_file(Path(name), "feed_malformed", refusal.reason, "check the feed")
    for number, (begin, end) in enumerate(spans, start=1):
        is_deep = _is_deep(body[begin:end])
        parsed = _TOO_DEEP if is_deep else attempt(_parse, head + body[begin:end] + tail)
        if not isinstance(parsed, Refusal) and not parsed.entries:
            parsed = Refusal("feed_malformed", "cannot be read as an entry")
        if isinstance(parsed, Refusal):
            yield Record(name, number, {}).reject_unreadable(parsed)
        else:
            yield from _entries(name, parsed, number)


def _spans(body: bytes) -> list[tuple[int, int]]:
    """Return the start and the end of each entry. A nested entry is part of the outer one."""
    spans: list[tuple[int, int]] = []
    begin: int | None = None
    for tag in _ENTRY.finditer(body):
        if tag["begin"]:
            begin = tag.start() if begin is None else begin
        elif begin is not None:
            spans.append((begin, tag.end()))
            begin = None
    return spans


def _bounded(match: re.Match[bytes]) -> bytes:
    """Return a character reference unchanged, or U+FFFD if it has too many digits."""
    sign, digits = (b"", match["decimal"]) if match["decimal"] is not None else (b"x", match["hex"])
    digits = digits.lstrip(b"0") or b"0"
    return b"&#" + sign + digits + b";" if len(digits) <= _MAX_DIGITS else b"&#xFFFD;"


def _no_feed(name: str) -> FileRejectedError:
    reason = "is not an RSS or Atom feed"
    return refuse_file(Path(name), "feed_malformed", reason, "give the address or the file of a feed")


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
        # The date remains text, because feedparser's date parser ignores unknown parts, such as AM.
        "published_at": entry.get("published") or entry.get("updated") or entry.get("created"),
        "language": language,
    }


def _check(path: Path, body: bytes) -> None:
    if len(body) > MAX_FEED_BYTES:
        reason = f"has more than {MAX_FEED_BYTES:,} bytes"
        raise refuse_file(path, "body_too_large", reason, "split the feed")
    encoding = _ENCODING.match(body.removeprefix(b"\xef\xbb\xbf"))
    if b"\x00" in body[:4096] or (encoding is not None and not _ENCODINGS.fullmatch(encoding[1])):
        reason = "has an unsupported encoding"
        raise refuse_file(path, "feed_encoding", reason, "publish the feed as UTF-8")
    if _DECLARED.search(body) is not None:
        reason = "declares its own entities or document type"
        raise refuse_file(path, "feed_entities", reason, "publish the feed without a DTD")
    if _has_many_names(body):
        reason = f"has more than {_MAX_NAMES} namespaces, or a tag with more than {_MAX_NAMES} attributes"
        raise refuse_file(path, "feed_malformed", reason, "check the feed")


def _has_many_names(body: bytes) -> bool:
    if len(set(_PREFIX.findall(body))) > _MAX_NAMES:
        return True
    long = (part for part in body.split(b"<") if len(part) > _LONG_TAG_BYTES)
    return any(len(_ATTRIBUTE.findall(part)) > _MAX_NAMES for part in long)


def _is_deep(body: bytes) -> bool:
    depth = 0
    for tag in _TAG.finditer(body):
        depth += -1 if tag[1] else 0 if tag[2] else 1
        if depth > MAX_DEPTH:
            return True
    return False
