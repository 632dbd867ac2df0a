"""The documents that a report's window counts, as a file and as one parent of the report.

The file, `documents.jsonl`, has a line for each mention of the entity in the window whose relevance is at
least the monitor's `min_relevance`, first reports and follow-ups, sorted by `document_id` (by code points,
which is the order of the UTF-8 bytes). All counts of the window follow from it: a line with `novelty` 1 is a
document of the window, any other is a follow-up, which is counted nowhere else; the largest of the three
probabilities is the document's class; `relevance`, at least 1, is its weight; and the mean score is the mean
of `score`, rounded to 1e-9, by weight.

The parent, of role `documents`, is named after the window. Its digest is the SHA-256 over a line for each
document, in the order of the file: the document's own SHA-256 in hex, a space, its id in UTF-8, a newline. An
id is printable, so it contains no newline. The digest is computed from the file by

    jq -r '.sha256 + " " + .document_id' documents.jsonl | sha256sum

With the documents at hand, `jobs.documents.document.document_digest` computes each one's own digest: the
SHA-256 over title, text, language, source and `published_at` in UTC (2026-03-02T09:00:00+00:00), as they were
read, joined by NUL. `first_id` names the document that a follow-up repeats; it may lie before the window, and
then has no line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from jobs.kind import Parent
from kinds.sentiment.series.mention import CountedDocument
from kinds.sentiment.series.time_windows import EntityWindow

DOCUMENTS = "documents.jsonl"


def counted_lines(documents: Iterable[CountedDocument]) -> bytes:
    """Return the content of the file. Floats keep all digits, so that sums over them are exact."""
    return b"".join(_line(document) for document in in_order(documents))


def counted_digest(documents: Iterable[CountedDocument]) -> str:
    """Return the digest of the parent.

    >>> counted_digest([])[:16]
    'e3b0c44298fc1c14'
    """
    lines = "".join(f"{document.sha256} {document.document_id}\n" for document in in_order(documents))
    return hashlib.sha256(lines.encode()).hexdigest()


def counted_parent(window: EntityWindow, documents: Iterable[CountedDocument]) -> Parent:
    """Return all documents of the window as one parent, named like "acme-steel/day/2026-03-02T00:00:00Z"."""
    name = f"{window.entity_id}/{window.size}/{window.starts_at:%Y-%m-%dT%H:%M:%SZ}"
    return Parent("documents", name, counted_digest(documents))


def in_order(documents: Iterable[CountedDocument]) -> list[CountedDocument]:
    """Return the documents sorted by id."""
    return sorted(documents, key=lambda document: document.document_id)


def _line(document: CountedDocument) -> bytes:
    line = {
        "document_id": document.document_id,
        "sha256": document.sha256,
        "published_at": document.published_at.isoformat().replace("+00:00", "Z"),
        "relevance": document.relevance,
        "p_negative": document.p_negative,
        "p_neutral": document.p_neutral,
        "p_positive": document.p_positive,
        "score": document.score,
        "novelty": document.novelty,
        "first_id": document.first_id,
    }
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
