"""A document as sources give it: news, a filing, a post."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

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
