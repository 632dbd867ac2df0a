"""Assigns the columns of a file to the fields of a payload type or of other records, such as documents.

The columns for a payload type come from its JSON Schema. Those for other records have one of the usual names,
or are given by a mapping.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator

from jobs.errors import InputError
from jobs.rejection import quoted, refuse_file

ID_COLUMN = "id"
"""Column with the producer's id for a line. Every kind accepts it, but payloads do not contain it."""

MAX_COLUMNS = 10_000
"""Maximum number of columns. Wider tables are matrices rather than records, and the cost of a record grows
with the number of columns."""

_MAX_LISTED = 10
_MAX_COMPARED = 60
"""Length at which an unknown name is cut before it is compared with known ones, because comparing takes
quadratic time."""
_SEPARATORS = re.compile(r"[\s.\-]")

Require = Callable[[list[str]], Iterable[str]]
"""Function that selects the columns to read, given the names of all columns of a file.

Raises InputError if the columns cannot be used."""


class ColumnsRefusedError(InputError):
    """The columns of a file cannot be used. The file is refused with the same code."""

    def __init__(self, code: str, reason: str, advice: str) -> None:
        super().__init__(f"{reason} ({advice})", code=code)
        self.reason = reason
        self.advice = advice


def check_columns(path: Path, names: list[str], require: Require, line: int = 1) -> list[str]:
    """Return the columns that `require` selects. Raises FileRejectedError if they cannot be used."""
    if len(names) > MAX_COLUMNS:
        reason = f"has {len(names):,} columns, more than {MAX_COLUMNS:,}"
        raise refuse_file(path, "too_many_columns", reason, "remove the columns that are not needed", line)
    known: set[str] = set()
    for name in names:
        if name and name in known:
            reason = f"column {quoted(name)} occurs twice"
            raise refuse_file(path, "duplicate_column", reason, "remove or rename one of the two", line)
        known.add(name)
    try:
        return list(require(names))
    except ColumnsRefusedError as error:
        raise refuse_file(path, error.code, error.reason, error.advice, line) from error
    except InputError as error:
        raise refuse_file(path, error.code, str(error), "correct the header or the mapping", line) from error


def usual_name(name: str) -> str:
    """Return a column's name in the form of a field's name, in lower case and with underscores.

    >>> usual_name(" Published-At ")
    'published_at'
    """
    return _SEPARATORS.sub("_", name.strip().lower())


def require_named(names: list[str], wanted: Iterable[str], advice: str) -> list[str]:
    """Return the file's columns with these names, or with names that have the same `usual_name`.

    Raises ColumnsRefusedError if a column is missing.
    """
    by_name = {usual_name(name): name for name in names} | {name: name for name in names}
    columns = []
    for name in wanted:
        column = by_name.get(name, by_name.get(usual_name(name)))
        if column is None:
            listed = ", ".join(quoted(each) for each in names[:_MAX_LISTED])
            reason = f"no column is named {quoted(name)}; the file has {listed}"
            raise ColumnsRefusedError("missing_column", reason, advice)
        columns.append(column)
    return list(dict.fromkeys(columns))


def with_names(fields: Mapping[str, object], wanted: Iterable[str]) -> dict[str, object]:
    """Return a record's fields. If the name of a field is a different form of a wanted name, its value
    appears under both names."""
    named = dict(fields)
    for name in wanted:
        if name not in named:
            column = next((each for each in fields if usual_name(each) == usual_name(name)), None)
            if column is not None:
                named[name] = fields[column]
    return named


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that a payload type allows and requires."""

    names: tuple[str, ...]
    """Names of the columns: `id`, and then the fields in their order."""
    lists: frozenset[str]
    """Columns whose CSV cells are split at semicolons."""
    needed: tuple[frozenset[str], ...]
    """Sets of columns, from `required` and `anyOf` in the JSON Schema. A file needs all columns of at least
    one set."""
    descriptions: dict[str, str]

    @classmethod
    def of(cls, payload_type: type[BaseModel]) -> Columns:
        """Read the columns from the payload type."""
        schema = payload_type.model_json_schema()
        properties: dict[str, dict[str, object]] = schema["properties"]
        required = frozenset(schema.get("required", ()))
        return cls(
            names=(ID_COLUMN, *properties),
            lists=frozenset(name for name, field in properties.items() if field.get("type") == "array"),
            needed=tuple(
                required | set(option["required"]) for option in schema.get("anyOf", [{"required": ()}])
            ),
            descriptions={name: str(field.get("description", "")) for name, field in properties.items()},
        )

    def field_of(self, name: str) -> str:
        """Return the field that a column is read as, or the column's name if there is no such field."""
        usual = usual_name(name)
        return usual if usual in self.names else name

    def require(self, header: list[str]) -> list[str]:
        """Return all columns of a file.

        Raises ColumnsRefusedError for unknown, missing or repeated columns.
        """
        fields = [self.field_of(name) for name in header]
        shown = [quoted(name) for name in header]
        if not set(fields) & set(self.names):
            listed = ", ".join(shown[:_MAX_LISTED])
            reason = f"none of its columns is known: it has {listed}"
            reason += f" and {len(shown) - _MAX_LISTED} more" if len(shown) > _MAX_LISTED else ""
            advice = f"the known columns are {', '.join(self.names)}; check that it is the right file"
            raise ColumnsRefusedError("unknown_column", reason, advice)
        for position, name in enumerate(fields):
            if name not in self.names:
                place = f"column {position + 1} ({shown[position] if name else 'without a name'})"
                raise ColumnsRefusedError("unknown_column", f"{place} is unknown", self.suggest(name))
        for position, name in enumerate(fields):
            if name in fields[:position]:
                first = shown[fields.index(name)]
                reason = f"columns {first} and {shown[position]} are both {name}"
                raise ColumnsRefusedError("duplicate_column", reason, "remove or rename one of the two")
        if missing := self.missing(fields):
            raise ColumnsRefusedError("missing_column", f"has no column {missing}", "add it to the header")
        return header

    def suggest(self, name: str) -> str:
        """Return a sentence that lists the known columns, and names the one that was probably meant."""
        nearest = difflib.get_close_matches(usual_name(name)[:_MAX_COMPARED], self.names, n=1)
        meant = f"did you mean {nearest[0]!r}? " if nearest else ""
        return f"{meant}The columns are {', '.join(self.names)}"

    def advice(self, name: str | None) -> str:
        """Return a sentence about what to write into a column, from the description of its field."""
        description = self.descriptions.get(name or "", "")
        return f"write {name} as {description}" if description else "correct the line"

    def missing(self, header: list[str]) -> str | None:
        """Return the columns that a header lacks, in words, or None if it is complete."""
        if any(option <= set(header) for option in self.needed):
            return None
        return " or ".join(" and ".join(sorted(option - set(header))) for option in self.needed)


LINK_NAMES = ("url", "link", "permalink")

FIELDS: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "document_id", "doc_id", "uid", "uuid", "guid", "tweet_id", "status_id", "post_id",
           "article_id", "news_id", "story_id", "accession_number", *LINK_NAMES),
    "text": ("text", "body", "content", "full_text", "article", "article_text", "article_body",
             "article_content", "news_text", "body_text", "tweet", "message", "post", "description",
             "summary", "abstract", "snippet", "sentence"),
    "title": ("title", "headline", "subject", "heading", "article_title", "article_headline", "news_title",
              "news_headline", "story_title", "headline_text"),
    "source": ("source", "publisher", "site", "outlet", "provider", "feed", "channel", "newspaper", "domain",
               "source_name", "publisher_name"),
    "symbols": ("symbols", "symbol", "tickers", "ticker", "stock_symbols", "stock_symbol", "stock_tickers",
                "stock_ticker", "related_symbols", "related_tickers", "stocks", "stock", "cashtags"),
    "published_at": ("published_at", "published", "publication_date", "pub_date", "pubdate", "date_published",
                     "date", "datetime", "timestamp", "created_at", "created", "time", "posted_at",
                     "filed_at", "filing_date", "publish_date", "published_date", "publish_time",
                     "published_time", "article_date", "news_date", "date_time", "updated_at", "updated"),
    "language": ("language", "lang", "locale"),
}  # fmt: skip
"""Usual column names for each field; if a file has several of them, the first one is read. Case, spaces,
dots, hyphens and underscores do not matter: "Pub Date" is read as pub_date. Other columns are ignored."""

_ALL_SEPARATORS = re.compile(r"[\s._\-]+")
_WORDS = re.compile(r"[A-Z]{2,}(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_MAX_SHOWN = 20
_MAX_NAME_CHARACTERS = 60
_MIN_LIKENESS = 0.8
"""Minimum similarity of a word in a column's name to a usual name, as difflib's ratio from 0 to 1. "titel"
and "title" have exactly this ratio."""


class ColumnMappingError(InputError):
    """A mapping contains a field that records do not have, or a column that the file does not have."""

    code = "column_mapping_invalid"


def parse_mapping(value: object) -> object:
    """Parse a text into a mapping from fields to columns. Any other value is returned unchanged.

    Raises ValueError.

    >>> parse_mapping("text=body, title=headline")
    {'text': 'body', 'title': 'headline'}
    """
    if not isinstance(value, str):
        return value
    pairs = [pair.partition("=") for pair in value.split(",")]
    for field, _, column in pairs:
        if not field.strip() or not column.strip():
            raise ValueError(f"{value!r} is not a list of FIELD=COLUMN, separated by commas")
    return {field.strip(): column.strip() for field, _, column in pairs}


FieldColumns = Annotated[dict[str, str], BeforeValidator(parse_mapping)]
"""Mapping from fields to columns. Options may contain it as a text, such as "text=body"."""


def check_mapping(
    columns: Mapping[str, str], *, fields: Iterable[str] = FIELDS, record: str = "a document"
) -> None:
    """Raise ColumnMappingError if a key of the mapping is not a field. The message calls a record
    `record`."""
    names = list(fields)
    for field in columns:
        if field not in names:
            nearest = difflib.get_close_matches(field, names, n=1, cutoff=0.0)[0]
            raise ColumnMappingError(
                f"{field!r} is not a field of {record}: did you mean {nearest!r}? "
                f"The fields are {', '.join(names)}"
            )


def assign(
    names: Iterable[str], columns: Mapping[str, str], fields: Mapping[str, tuple[str, ...]] = FIELDS
) -> dict[str, str]:
    """Return the column of each field that has one, by the mapping `columns` or else by the usual names.

    >>> assign(["URL", "Headline", "Pub Date", "likes"], {})
    {'id': 'URL', 'title': 'Headline', 'published_at': 'Pub Date'}
    """
    names = list(names)
    by_plain_name = {_plain(name): name for name in reversed(names)}
    mapped = set(columns.values())
    assigned = {}
    for field, usual_names in fields.items():
        if field in columns:
            if columns[field] in names:
                assigned[field] = columns[field]
            continue
        candidates = (by_plain_name.get(_plain(name)) for name in usual_names)
        column = next((name for name in candidates if name is not None and name not in mapped), None)
        if column is not None:
            assigned[field] = column
    return assigned


def unread_columns(
    names: Iterable[str],
    columns: Mapping[str, str],
    fields: Mapping[str, tuple[str, ...]] = FIELDS,
    *,
    wanted: Iterable[str] = ("title", "text"),
    option: str = "--column",
) -> str | None:
    """Return a message that lists the columns that are not read, with guesses at their fields.

    Returns None if all columns are read.

    >>> unread_columns(["date", "text", "Titel", "likes"], {})
    "columns that are not read: 'Titel' (--column title=Titel), 'likes'; no column is read as title"
    """
    names = list(names)
    assigned = assign(names, columns, fields)
    used = set(assigned.values())
    unread = [name for name in names if name not in used and name.strip()]
    if not unread:
        return None
    shown = [
        f"{name!r} ({option} {field}={name})" if (field := _guess(name, fields)) else repr(name)
        for name in unread[:_MAX_SHOWN]
    ]
    more = [f"and {len(unread) - _MAX_SHOWN} more"] if len(unread) > _MAX_SHOWN else []
    absent = [field for field in wanted if field not in assigned]
    ending = f"; no column is read as {' or '.join(absent)}" if absent else ""
    return f"columns that are not read: {', '.join(shown + more)}{ending}"


def _plain(name: str) -> str:
    return _ALL_SEPARATORS.sub("", name.lower())


def _guess(name: str, fields: Mapping[str, tuple[str, ...]]) -> str | None:
    """Return the field that a column probably contains, by comparing its words, last word first."""
    words = [word.lower() for word in _WORDS.findall(name[:_MAX_NAME_CHARACTERS])]
    for word in reversed(words):
        likeness = {
            field: max(difflib.SequenceMatcher(None, word, usual).ratio() for usual in usuals)
            for field, usuals in fields.items()
        }
        field = max(likeness, key=lambda each: likeness[each])
        if likeness[field] >= _MIN_LIKENESS:
            return field
    return None
