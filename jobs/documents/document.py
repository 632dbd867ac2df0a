"""A document as sources provide it, such as news, a filing or a post, and the digests that identify it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

MAX_SYMBOLS = 100
"""Of one document; lists of the whole market say nothing of it."""

_BETWEEN = re.compile(r"[\s;,|]+")
_AROUND = " \t[](){}'\""
_EDGES = re.compile(r"^(?:\$|[A-Za-z]+\s?:\s?)|\s+")
_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9.&/^=-]{0,19}")
_KEYS = ("symbol", "ticker", "name")
_EMPTY = frozenset({"NAN", "NONE", "NULL", "N/A"})


def normal_ticker(ticker: str) -> str:
    """A ticker without its exchange.

    >>> normal_ticker("$aapl"), normal_ticker("NYSE: BRK.B")
    ('AAPL', 'BRK.B')
    """
    return _EDGES.sub("", ticker.strip()).upper()


def parse_symbols(value: object) -> tuple[str, ...]:
    """The symbols of a cell, a list or a table, in order and each once; what is none is left out.

    >>> [parse_symbols(each) for each in ("AAPL;MSFT", "['$A', 'NYSE:BRK.B']", ["A", {"symbol": "B"}])]
    [('AAPL', 'MSFT'), ('A', 'BRK.B'), ('A', 'B')]
    """
    found = (normal_ticker(part) for part in _parts(value))
    symbols = (each for each in found if _SYMBOL.fullmatch(each) and each not in _EMPTY)
    return tuple(dict.fromkeys(symbols))[:MAX_SYMBOLS]


def _parts(value: object) -> list[str]:
    if isinstance(value, str):
        joined = re.sub(r":\s+", ":", value)  # "NYSE: A" is one
        return [part.strip(_AROUND) for part in _BETWEEN.split(joined)]
    if isinstance(value, int) and not isinstance(value, bool):
        return [str(value)]
    if isinstance(value, dict):
        return next((_parts(value[key]) for key in _KEYS if key in value), [])
    if isinstance(value, list | tuple):
        return [part for each in value[:MAX_SYMBOLS] for part in _parts(each)]
    return []


MAX_TEXT_BYTES = 1_000_000
"""Of one document; a longer one is refused, not cut: what is not read must not be counted as read."""

RECORD_BYTES = 16
"""Of the digest of a record: so few that 2**64 of them are needed for two that are alike by chance."""

KnownRecords = Callable[[Sequence[bytes]], Collection[bytes]]
"""Asked with the digests of some records, in their order: those whose document need not be made again."""


def _in_utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC)


class Document(BaseModel):
    """One document, its time in UTC. Of one producer the same id is the same document."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1, max_length=200)
    text: str
    title: str = ""
    source: str = ""
    published_at: Annotated[AwareDatetime, AfterValidator(_in_utc)]
    language: str | None = None
    """ISO 639-1 as the source says; None if it does not."""
    symbols: tuple[str, ...] | None = None
    """Tickers that the source gives it, without exchanges: it is about these entities, named in it or not."""
    record: str | None = Field(default=None, pattern=f"^[0-9a-f]{{{2 * RECORD_BYTES}}}$")
    """What names the record it was read from (records.DocumentMaker.digest); no part of its content."""
    shared_id: str | None = None
    """The id that its source gives it, and others of the same reading; None if `id` is its source's."""


def document_digest(document: Document) -> str:
    """SHA-256, in hex, of what an analysis depends on: title, text, language, source, time and symbols.

    The fields are joined by NUL, which no document holds.
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
    """The id of a document whose source gives it none: 32 hex digits of what it says, where and when."""
    content = "\0".join((source, title, text, published_at))
    return f"sha256-{hashlib.sha256(content.encode()).hexdigest()[:32]}"


def version_number(document: Document) -> int:
    """Orders the versions of one id: the later `published_at` corrects, at equal times the larger digest.

    A function of the versions alone, so every order of reading them ends with the same one.
    """
    return order_of(document.published_at, document_digest(document))


def order_of(published_at: datetime, digest: str) -> int:
    """The version_number of a document of which no more is kept."""
    microseconds = round(published_at.timestamp() * 1_000_000)
    return microseconds << 64 | int(digest[:16], 16)
