"""The rows that a job leaves besides its artifacts; `kinds.recommendation.store.writer` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenCopy:
    """A text, by the digest of all that it was written from."""

    key: str
    audience: str
    text: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawnItems:
    """Items that leave the standing lists of a refresh at once, before new lists are made."""

    refresh_id: UUID
    reasons: Mapping[str, str]
    """By item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeRelease:
    """A release of a refresh: it is numbered, and published, with the job that made it."""

    refresh_id: UUID
    manifest_sha256: str
    figures: Mapping[str, object]


Record = WrittenCopy | WithdrawnItems | MadeRelease
