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
    "text": ("text", "body", "content", "full_text", "article", "article_text", "tweet", "message", "post",
             "description", "summary", "abstract", "snippet", "sentence"),
    "title": ("title", "headline", "subject", "heading"),
    "source": ("source", "publisher", "site", "outlet", "provider", "feed", "channel", "newspaper", "domain"),
    "published_at": ("published_at", "published", "publication_date", "pub_date", "pubdate", "date_published",
                     "date", "datetime", "timestamp", "created_at", "created", "time", "posted_at",
                     "filed_at", "filing_date", "updated_at", "updated"),
    "language": ("language", "lang", "locale"),
}  # fmt: skip
"""For each field, the names of columns that are read as it, the best one first. Case, spaces, dots and
hyphens do not matter: "Pub Date" is pub_date. Columns that are none of these are left alone."""

_SEPARATORS = re.compile(r"[\s.\-]+")


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
    normal = {_SEPARATORS.sub("_", name.strip().lower()): name for name in reversed(given)}
    taken = set(columns.values())
    assigned = {}
    for field, usual in fields.items():
        if field in columns:
            if columns[field] in given:
                assigned[field] = columns[field]
            continue
        found = next((normal[name] for name in usual if name in normal and normal[name] not in taken), None)
        if found is not None:
            assigned[field] = found
    return assigned
