"""The rows that a job leaves besides its artifacts; `kinds.sentiment.store.writer` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kinds.sentiment.series.mention import Mention, Novelty
from kinds.sentiment.series.policy import Policy
from kinds.sentiment.series.window import Alert, EntityWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentFacts:
    """What is kept of an analysed document; its text is in the block's artifact."""

    id: str
    sha256: str
    """Of what was analysed: title, text, language, source and time."""
    published_at: datetime
    language: str | None
    num_mentions: int
    flags: tuple[str, ...] = ()
    record: bytes | None = None
    """Digest of the record it was read from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysedDocuments:
    """A block of documents with their mentions; replaces what an earlier version of a document left."""

    monitor_id: UUID
    analysis: str
    """Digest of what the analysis depends on besides the document: watch list, models, the kind's version."""
    documents: Sequence[DocumentFacts]
    mentions: Sequence[Mention]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAgain:
    """Documents that stand and were read from other records than before: these name them from now on."""

    monitor_id: UUID
    records: Sequence[tuple[str, str, bytes]]
    """Id, digest of the document, digest of the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifications:
    """What a model said, by digest of what it was asked: asked again, it is not computed again."""

    model_sha256: str
    probabilities: Sequence[tuple[bytes, float, float, float]]
    """Digest, negative, neutral, positive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityHistory:
    """An entity's series from an instant on, in place of what stood there.

    Windows and alerts that were computed from a later reading of the mentions are left as they are.
    """

    monitor_id: UUID
    entity_id: str
    read_at: datetime
    """The database's time before the mentions were read."""
    since: datetime
    policy: Policy
    """By which it was computed: a series by another one than the monitor's is not kept."""
    novelties: Sequence[Novelty]
    windows: Sequence[EntityWindow]
    unsettled: int | None
    """Number of the entity's unsettled change that the series takes in, see History.unsettled."""
    alerts: Sequence[Alert]
    """All that stand from `since` on: those in the database that are not among them are withdrawn."""


Record = AnalysedDocuments | ReadAgain | Classifications | EntityHistory
