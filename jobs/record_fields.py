"""Which column of a file is which field of a document: names that are usual elsewhere, or a mapping."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from jobs.errors import InputError

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

_SEPARATORS = re.compile(r"[\s._\-]+")
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
    return _SEPARATORS.sub("", name.lower())


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
