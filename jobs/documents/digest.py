"""What names a document by its content."""

from __future__ import annotations

import hashlib
from datetime import datetime

from jobs.documents.document import Document


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
