"""The columns of a file: those that a payload type needs, and those that are read as fields of a record.

A payload type's columns come from its JSON Schema. Fields of documents and other records are found by names
that are common elsewhere, or by a mapping.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from jobs.errors import InputError
from jobs.rejection import refuse_file, snippet

ID_COLUMN = "id"
"""The producer's own name for a line: every kind has it, no payload type holds it."""

MAX_COLUMNS = 10_000
"""Wider tables are matrices, not records; each record costs as much as its header is wide."""

_MAX_LISTED = 10
_MAX_COMPARED = 60
"""Characters of an unknown column that are compared with the names of columns: that is quadratic."""
_SEPARATORS = re.compile(r"[\s.\-]")

Require = Callable[[list[str]], Iterable[str]]
"""Of a file's columns, by the names that the file has, those that are wanted.

Raises InputError if the columns are no use."""


class ColumnsRefusedError(InputError):
    """A file's columns cannot make records; the code is that of the file's refusal."""

    def __init__(self, code: str, reason: str, advice: str) -> None:
        super().__init__(f"{reason} ({advice})", code=code)
        self.reason = reason
        self.advice = advice


def check_columns(path: Path, names: list[str], require: Require, line: int = 1) -> list[str]:
    """Those of a file's columns that are wanted. Raises FileRejectedError if they are no use."""
    if len(names) > MAX_COLUMNS:
        reason = f"has {len(names):,} columns, more than {MAX_COLUMNS:,}"
        raise refuse_file(path, "too_many_columns", reason, "keep the columns of a record", line)
    known: set[str] = set()
    for name in names:
        if name and name in known:
            reason = f"column {snippet(name)!r} stands twice"
            raise refuse_file(path, "duplicate_column", reason, "remove or rename one of them", line)
        known.add(name)
    try:
        return list(require(names))
    except ColumnsRefusedError as error:
        raise refuse_file(path, error.code, error.reason, error.advice, line) from error
    except InputError as error:
        raise refuse_file(path, error.code, str(error), "correct the header or the mapping", line) from error


def usual_name(name: str) -> str:
    """A column's name as fields are called: case, and spaces, dots or hyphens for low lines, do not matter.

    >>> usual_name(" Published-At ")
    'published_at'
    """
    return _SEPARATORS.sub("_", name.strip().lower())


def require_named(names: list[str], wanted: Iterable[str], advice: str) -> list[str]:
    """The file's columns of these names. Raises ColumnsRefusedError if one is not there."""
    given = {usual_name(name): name for name in names} | {name: name for name in names}
    found = []
    for name in wanted:
        column = given.get(name, given.get(usual_name(name)))
        if column is None:
            listed = ", ".join(snippet(each) or "''" for each in names[:_MAX_LISTED])
            reason = f"no column is named {snippet(name)!r}: there are {listed}"
            raise ColumnsRefusedError("missing_column", reason, advice)
        found.append(column)
    return list(dict.fromkeys(found))


def with_names(fields: Mapping[str, object], wanted: Iterable[str]) -> dict[str, object]:
    """A record's fields, those that are wanted by the names that they are wanted by."""
    named = dict(fields)
    for name in wanted:
        if name not in named:
            column = next((each for each in fields if usual_name(each) == usual_name(name)), None)
            if column is not None:
                named[name] = fields[column]
    return named


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of one payload type."""

    names: tuple[str, ...]
    """In the order of the fields, `id` first."""
    lists: frozenset[str]
    """Columns whose CSV cell is split at semicolons."""
    needed: tuple[frozenset[str], ...]
    """At least one of these sets must be there, whole: `required`, and `anyOf` of the model's JSON Schema."""
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
        """The field that a column is read as: its own name where there is none."""
        usual = usual_name(name)
        return usual if usual in self.names else name

    def require(self, header: list[str]) -> list[str]:
        """All of a file's columns. Raises ColumnsRefusedError if one is unknown, or if some are missing."""
        fields = [self.field_of(name) for name in header]
        shown = [snippet(name) or "" for name in header]
        if not set(fields) & set(self.names):
            listed = ", ".join(repr(name) for name in shown[:_MAX_LISTED])
            reason = f"none of its columns is known: it has {listed}"
            reason += f" and {len(shown) - _MAX_LISTED} more" if len(shown) > _MAX_LISTED else ""
            advice = f"the columns are {', '.join(self.names)}: is it another kind of file?"
            raise ColumnsRefusedError("unknown_column", reason, advice)
        for position, name in enumerate(fields):
            if name not in self.names:
                place = f"column {position + 1} ({repr(shown[position]) if name else 'without a name'})"
                raise ColumnsRefusedError("unknown_column", f"{place} is unknown", self.suggest(name))
        for position, name in enumerate(fields):
            if name in fields[:position]:
                first = shown[fields.index(name)]
                reason = f"columns {first!r} and {shown[position]!r} are both {name}"
                raise ColumnsRefusedError("duplicate_column", reason, "remove or rename one of them")
        if missing := self.missing(fields):
            raise ColumnsRefusedError("missing_column", f"has no column {missing}", "add it to the header")
        return header

    def suggest(self, name: str) -> str:
        """Name the column that an unknown one may have meant, if one is like it."""
        nearest = difflib.get_close_matches(usual_name(name)[:_MAX_COMPARED], self.names, n=1)
        meant = f"did you mean {nearest[0]!r}? " if nearest else ""
        return f"{meant}The columns are {', '.join(self.names)}"

    def advice(self, name: str | None) -> str:
        """What to write into a column, in the words of its field."""
        description = self.descriptions.get(name or "", "")
        return f"write {name} as {description}" if description else "correct the line"

    def missing(self, header: list[str]) -> str | None:
        """The columns that a header lacks, in words; None if it has enough."""
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
"""For each field, the names of columns that are read as it, the best one first. Case, spaces, dots, hyphens
and underscores do not matter: "Pub Date" is pub_date. Columns that are none of these are left alone."""

_ALL_SEPARATORS = re.compile(r"[\s._\-]+")
_WORDS = re.compile(r"[A-Z]{2,}(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_MAX_SHOWN = 20
_MAX_NAME_CHARACTERS = 60
_MIN_LIKENESS = 0.8
"""Of a word of a column and a usual name: "titel" is title."""


class ColumnMappingError(InputError):
    """The mapping names a field that documents do not have, or a column that the file does not have."""

    code = "column_mapping_invalid"


def check_mapping(
    columns: Mapping[str, str], *, fields: Iterable[str] = FIELDS, record: str = "a document"
) -> None:
    """Raise ColumnMappingError if a name on the left is no field of such a record."""
    names = list(fields)
    for field in columns:
        if field not in names:
            nearest = difflib.get_close_matches(field, names, n=1, cutoff=0.0)[0]
            raise ColumnMappingError(
                f"{field!r} is no field of {record}: did you mean {nearest!r}? "
                f"The fields are {', '.join(names)}"
            )


def assign(
    names: Iterable[str], columns: Mapping[str, str], fields: Mapping[str, tuple[str, ...]] = FIELDS
) -> dict[str, str]:
    """The column of each field that these column names hold; `columns` goes before the usual names.

    >>> assign(["URL", "Headline", "Pub Date", "likes"], {})
    {'id': 'URL', 'title': 'Headline', 'published_at': 'Pub Date'}
    """
    given = list(names)
    normal = {_plain(name): name for name in reversed(given)}
    taken = set(columns.values())
    assigned = {}
    for field, usual in fields.items():
        if field in columns:
            if columns[field] in given:
                assigned[field] = columns[field]
            continue
        plain = (normal.get(_plain(name)) for name in usual)
        found = next((name for name in plain if name is not None and name not in taken), None)
        if found is not None:
            assigned[field] = found
    return assigned


def unread_columns(
    names: Iterable[str],
    columns: Mapping[str, str],
    fields: Mapping[str, tuple[str, ...]] = FIELDS,
    *,
    wanted: Iterable[str] = ("title", "text"),
    option: str = "--column",
) -> str | None:
    """What to tell of columns that are none of the fields, with a guess for each; None if all are read.

    >>> unread_columns(["date", "text", "Titel", "likes"], {})
    "columns that are not read: 'Titel' (--column title=Titel), 'likes'; no column is read as title"
    """
    given = list(names)
    assigned = assign(given, columns, fields)
    used = set(assigned.values())
    unread = [name for name in given if name not in used and name.strip()]
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
    """The field that a column may be, by its words from the last one on; the last word says what it is."""
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
