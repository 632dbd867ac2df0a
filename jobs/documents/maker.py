"""Turns records from any source into documents. Each record is accepted or refused on its own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from urllib.parse import urlsplit

from jobs.documents.document import MAX_TEXT_BYTES, RECORD_BYTES, Document, derived_id, parse_symbols
from jobs.documents.identity import is_link, is_placeholder
from jobs.guards import find_secret, invalid_unicode_at, may_be_shown
from jobs.instants import DateOrder, Instants, implausible, unreadable
from jobs.intake.columns import LINK_NAMES, ColumnMappingError, assign, check_mapping, unread_columns
from jobs.intake.records import Record
from jobs.rejection import Refusal, Rejected, attempt

READER_VERSION = 2
"""Version of the reader. Increase it if a change affects what documents contain or which records are refused.
Every record is then read again, once."""

MAX_ID_CHARACTERS = 200
"""Maximum length of an id. The length is limited, because an id becomes a key in Postgres and an anchor in a
report."""

_MAX_SHAPES = 1_000
"""Maximum number of sets of columns that are cached. A normal file has one set; a hostile file may have a
different set in each line."""

_LANGUAGE = re.compile(r"([a-z]{2})(?:[-_][a-z0-9-_]+)?", re.IGNORECASE)
_UNKNOWN_LANGUAGES = frozenset({"un", "xx"})
_LETTER = re.compile(r"[^\W\d_]")
_NO_WORDS = re.compile(
    r"<[^<>]{0,1000}>|(?:https?://|www\.)\S+|&#?\w{1,10};|\b(?:AT_USER|URL)\b", re.IGNORECASE
)
"""Matches letters that are not words for a reader: tags, links, entities, and placeholders for names and
links."""


_MAY_BE_NO_WORD = re.compile("[<&]|://|[wW]{3}[.]|URL|AT_USER")
_BEGINS_WITH_A_WORD = re.compile(r"\A(?!url )[^\W\d_]{2,}+ ", re.IGNORECASE)
"""Matches texts that begin with a word, as most do. This check is faster than removing what _NO_WORDS
matches."""


class _RefusedError(Exception):
    def __init__(self, rejected: Rejected) -> None:
        super().__init__(str(rejected))
        self.rejected = rejected


class DocumentMaker:
    """Makes documents from the records of one file, feed or query. Not thread-safe."""

    def __init__(
        self,
        name: str,
        *,
        now: datetime,
        columns: Mapping[str, str],
        date_order: DateOrder | None = None,
        dates: Callable[[], Iterable[object]] | None = None,
    ) -> None:
        """Create a maker for the source `name`, in which `columns` maps fields to columns.

        `now` determines which dates are in the future. If a numeric date occurs and `date_order` is not
        given, `dates` is called to read the column of dates from its beginning. Raises ColumnMappingError for
        a field that documents do not have.
        """
        check_mapping(columns)
        self.name = name
        self._instants = Instants(date_order, dates)
        reader = repr((READER_VERSION, sorted(columns.items()), date_order)).encode()
        self._reader = hashlib.blake2b(reader, digest_size=hashlib.blake2b.PERSON_SIZE).digest()
        self._now = now
        self._columns = columns
        self._shapes: dict[tuple[str, ...], dict[str, str]] = {}

    def digest(self, record: bytes | Mapping[str, object]) -> tuple[bytes, int]:
        """Return a digest of everything that the record's document depends on, and the record's size.

        The digest has RECORD_BYTES, and the size is in bytes. The digest is the BLAKE2b of an unparsed line,
        or of the fields that are read. The reader's version and options are its personalisation rather than
        its key (RFC 7693), because a key would cost an additional block per record.
        """
        if not isinstance(record, bytes):
            read = {field: record[column] for field, column in self._assigned(record).items()}
            record = b"\n" + repr(read).encode()  # unlike any unparsed line, because no line begins with "\n"
        return hashlib.blake2b(record, digest_size=RECORD_BYTES, person=self._reader).digest(), len(record)

    def make(
        self, line: int, fields: Mapping[str, object], *, record: str | None = None
    ) -> Document | Rejected:
        """Return a document, or the rejection of the record. `record` is the record's digest in hex."""
        place = Record(self.name, line, {})
        try:
            made = attempt(lambda read: self._document(place, read, record), fields)
        except _RefusedError as refused:
            return replace(refused.rejected, id=self._shown_id(fields))
        if not isinstance(made, Refusal):
            return made
        return replace(place.reject_unreadable(made), id=self._shown_id(fields))

    def unread(self) -> str | None:
        """Return a message of one line about columns that are not read, or None if all are read."""
        names = dict.fromkeys(name for shape in self._shapes for name in shape)
        message = unread_columns(names, self._columns)
        return None if message is None else f"{self.name}: {message}"

    def link(self, fields: Mapping[str, object]) -> str:
        """Return the record's web address, or "" if it has none or if the address is read as the id."""
        column = assign(fields, {}, {"link": LINK_NAMES}).get("link")
        value = fields[column] if column is not None else None
        link = value.strip() if isinstance(value, str) and column != self._assigned(fields).get("id") else ""
        return link if is_link(link) else ""

    def _shown_id(self, fields: Mapping[str, object]) -> str | None:
        """Return the id of a refused record, or None if it has none or if it is not safe to show the id."""
        given = fields.get(self._assigned(fields).get("id", ""))
        text = str(given).strip() if isinstance(given, str | int) and not isinstance(given, bool) else ""
        is_shown = 0 < len(text) <= MAX_ID_CHARACTERS and text.isprintable() and may_be_shown(text)
        return text if is_shown else None

    def _document(self, record: Record, fields: Mapping[str, object], digest: str | None) -> Document:
        columns = self._assigned(fields)
        texts = _texts(record, fields, columns)
        title, text = texts.get("title", ""), texts.get("text", "")
        source, given_id = texts.get("source", ""), texts.get("id", "")
        if is_placeholder(given_id):
            given_id = self.link(fields)
        published_at = self._published_at(record, columns.get("published_at"), fields)
        _check_words(record, columns.get("text"), title, text)
        if is_link(given_id):
            source = source or _host(given_id)
        return Document(
            id=_id(record, columns, given_id) or derived_id(source, title, text, published_at.isoformat()),
            text=text,
            title=title,
            source=source,
            published_at=published_at,
            language=normal_language(texts["language"]) if "language" in texts else None,
            symbols=parse_symbols(fields[columns["symbols"]]) or None if "symbols" in columns else None,
            record=digest,
        )

    def _assigned(self, fields: Mapping[str, object]) -> dict[str, str]:
        shape = tuple(fields)
        columns = self._shapes.get(shape)
        if columns is None:
            if len(self._shapes) >= _MAX_SHAPES:
                self._shapes.clear()
            columns = self._shapes[shape] = assign(shape, self._columns)
        return columns

    def _published_at(self, record: Record, column: str | None, fields: Mapping[str, object]) -> datetime:
        value = fields.get(column) if column is not None else None
        if value is None or value == "":
            advice = "write the date into a column published_at, or name its column"
            raise _RefusedError(record.reject("document_undated", "has no date", advice, column))
        published_at = self._instants.parse(value)
        if published_at is None:
            reason, advice = unreadable(value)
            shown = value if isinstance(value, str) else None
            raise _RefusedError(record.reject("document_date_invalid", reason, advice, column, shown))
        if (reason := implausible(published_at, self._now) or "") != "":
            advice = "correct the date, and check its unit and time zone"
            raise _RefusedError(record.reject("document_date_implausible", reason, advice, column))
        return published_at


def require_columns(names: Iterable[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the column of each field that has one.

    Raises ColumnMappingError if a mapped column is missing, or if a field that documents need has no column.
    """
    given = list(names)
    for field, column in columns.items():
        if column not in given:
            raise ColumnMappingError(
                f"there is no column {column!r} for {field}: the file has {', '.join(given)}"
            )
    assigned = assign(given, columns)
    missing = [] if {"text", "title"} & set(assigned) else ["text or title"]
    missing += [] if "published_at" in assigned else ["published_at"]
    if missing:
        raise ColumnMappingError(
            f"has no column for {' and '.join(missing)}: rename one of {', '.join(given)}, or map one",
            code="missing_column",
        )
    return assigned


def normal_language(tag: str) -> str | None:
    """Return the ISO 639-1 code of a language tag, or of the word "English". None if the tag is unknown.

    >>> normal_language("en-US"), normal_language("und"), normal_language("English")
    ('en', None, 'en')
    """
    match = _LANGUAGE.fullmatch(tag)
    if match is None:
        return "en" if tag.lower() in ("english", "eng") else None
    code = match[1].lower()
    return None if code in _UNKNOWN_LANGUAGES else code


def _texts(record: Record, fields: Mapping[str, object], columns: Mapping[str, str]) -> dict[str, str]:
    texts = {
        field: _text(record, column, value)
        for field, column in columns.items()
        if field not in ("published_at", "symbols") and (value := fields[column]) is not None
    }
    # All texts are checked together, because few fail the check and each search has a fixed cost.
    everything = "\n".join(texts.values())
    if invalid_unicode_at(everything) is not None or find_secret(everything) is not None:
        for field, text in texts.items():
            _check_signs(record, columns[field], text)
    return {field: text.strip() for field, text in texts.items()}


def _check_signs(record: Record, column: str, text: str) -> None:
    if (at := invalid_unicode_at(text)) is not None:
        raise _RefusedError(record.reject_unicode(text, at, column))
    if (secret := find_secret(text)) is not None:
        raise _RefusedError(record.reject_secret(secret, column))


def _text(record: Record, column: str, value: object) -> str:
    if not isinstance(value, str):
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise _RefusedError(record.reject("field_invalid", "is not text", "write it as a string", column))
    if len(value) * 4 > MAX_TEXT_BYTES and len(value.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        reason, advice = (
            f"has more than {MAX_TEXT_BYTES:,} bytes",
            "split the document, or send its beginning",
        )
        raise _RefusedError(record.reject("document_too_large", reason, advice, column))
    return value


def _check_words(record: Record, column: str | None, title: str, text: str) -> None:
    if not title and not text:
        raise _RefusedError(
            record.reject("document_empty", "has no text", "write the text, or leave the line out", column)
        )
    for part in (title, text):
        if _BEGINS_WITH_A_WORD.match(part):
            return
        if _LETTER.search(_NO_WORDS.sub(" ", part) if _MAY_BE_NO_WORD.search(part) else part):
            return
    reason, advice = "contains no words, only signs, numbers or links", "leave the line out"
    raise _RefusedError(record.reject("document_without_words", reason, advice, column, text or title))


def _id(record: Record, columns: Mapping[str, str], given: str) -> str:
    if len(given) <= MAX_ID_CHARACTERS and given.isprintable():
        return given
    if is_link(given) and given.isprintable():
        return f"sha256-{hashlib.sha256(given.encode()).hexdigest()[:32]}"
    reason = f"is not a printable text of at most {MAX_ID_CHARACTERS} characters"
    raise _RefusedError(record.reject("field_invalid", reason, "shorten the id", columns["id"]))


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:
        return ""
