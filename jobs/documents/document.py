"""Documents such as news, filings or posts, as sources provide them, and the digests that identify them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

MAX_SYMBOLS = 100
"""Maximum number of symbols of a document. A longer list, such as that of a whole market, does not show what
the document is about."""

_BETWEEN = re.compile(r"[\s;,|]+")
_AROUND = " \t[](){}'\""
_EDGES = re.compile(r"^(?:\$|[A-Za-z]+\s?:\s?)|\s+")
_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9.&/^=-]{0,19}")
_KEYS = ("symbol", "ticker", "name")
_EMPTY = frozenset({"NAN", "NONE", "NULL", "N/A"})


def normal_ticker(ticker: str) -> str:
    """Return a ticker in capital letters, without its exchange.

    >>> normal_ticker("$aapl"), normal_ticker("NYSE: BRK.B")
    ('AAPL', 'BRK.B')
    """
    return _EDGES.sub("", ticker.strip()).upper()


def parse_symbols(value: object) -> tuple[str, ...]:
    """Return the symbols in a cell, a list or a mapping, in order and without duplicates.

    Other values are ignored.

    >>> [parse_symbols(each) for each in ("AAPL;MSFT", "['$A', 'NYSE:BRK.B']", ["A", {"symbol": "B"}])]
    [('AAPL', 'MSFT'), ('A', 'BRK.B'), ('A', 'B')]
    """
    found = (normal_ticker(part) for part in _parts(value))
    symbols = (each for each in found if _SYMBOL.fullmatch(each) and each not in _EMPTY)
    return tuple(dict.fromkeys(symbols))[:MAX_SYMBOLS]


def _parts(value: object) -> list[str]:
    if isinstance(value, str):
        joined = re.sub(r":\s+", ":", value)  # "NYSE: A" is a single symbol
        return [part.strip(_AROUND) for part in _BETWEEN.split(joined)]
    if isinstance(value, int) and not isinstance(value, bool):
        return [str(value)]
    if isinstance(value, dict):
        return next((_parts(value[key]) for key in _KEYS if key in value), [])
    if isinstance(value, list | tuple):
        return [part for each in value[:MAX_SYMBOLS] for part in _parts(each)]
    return []


MAX_TEXT_BYTES = 1_000_000
"""Maximum size of each text of a document, in bytes of UTF-8. A larger document is refused rather than cut,
because text that is not read must not count as read."""

RECORD_BYTES = 16
"""Size of the digest of a record in bytes. With 16 bytes, a collision is expected only after 2**64
records."""

KnownRecords = Callable[[Sequence[bytes]], Collection[bytes]]
"""Function that takes the digests of records, in order, and returns those whose documents are known
already."""


def _in_utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC)


class Document(BaseModel):
    """A document, with its time in UTC. For one producer, the same id means the same document."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1, max_length=200)
    text: str
    title: str = ""
    source: str = ""
    published_at: Annotated[AwareDatetime, AfterValidator(_in_utc)]
    language: str | None = None
    """ISO 639-1 code given by the source, if any."""
    symbols: tuple[str, ...] | None = None
    """Tickers given by the source, without exchanges. The document is about them even if it does not name
    them."""
    record: str | None = Field(default=None, pattern=f"^[0-9a-f]{{{2 * RECORD_BYTES}}}$")
    """Digest of the record that the document was read from (DocumentMaker.digest). It is not part of the
    document's content."""
    shared_id: str | None = None
    """Id given by the source, if other documents of the same reading have it too. If None, `id` is the id
    given by the source."""


def document_digest(document: Document) -> str:
    """Return the SHA-256, in hex, of the fields that an analysis depends on.

    These are the title, text, language, source, time and symbols. They are joined by NUL characters, which
    documents cannot contain.
    """
    fields = (
        document.title,
        document.text,
        document.language or "",
        document.source,
        document.published_at.isoformat(),
        *sorted(document.symbols or ()),
    )
    return hashlib.sha256("\0".join(fields).encode()).hexdigest()


def derived_id(source: str, title: str, text: str, published_at: str) -> str:
    """Return an id for a document without one: 32 hex digits, derived from source, title, text and time."""
    content = "\0".join((source, title, text, published_at))
    return f"sha256-{hashlib.sha256(content.encode()).hexdigest()[:32]}"


def version_number(document: Document) -> int:
    """Return a number that orders the versions of a document, by `published_at` and then by digest.

    The number depends only on the version itself, so the order in which versions are read does not affect
    which of them is the latest.
    """
    return order_of(document.published_at, document_digest(document))


def order_of(published_at: datetime, digest: str) -> int:
    """Return the version_number of a document with this time and digest."""
    microseconds = round(published_at.timestamp() * 1_000_000)
    return microseconds << 64 | int(digest[:16], 16)
