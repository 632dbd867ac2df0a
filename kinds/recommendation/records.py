"""Records that a job makes besides its artifacts, which `kinds.recommendation.store.writer` writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenCopy:
    """A text, by the digest of everything it was written from."""

    key: str
    audience: str
    text: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawnItems:
    """Items that are withdrawn from the published lists at once, before new lists are made."""

    refresh_id: UUID
    reasons: Mapping[str, str]
    """Reasons by item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeRelease:
    """A release of a refresh, which is numbered and published when the job that made it succeeds."""

    refresh_id: UUID
    manifest_sha256: str
    figures: Mapping[str, object]


Record = WrittenCopy | WithdrawnItems | MadeRelease
