"""Records that a job writes besides its artifacts; `kinds.sentiment.store.history` stores them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kinds.sentiment.series.mention import Mention, Novelty
from kinds.sentiment.series.policy import Alert, Policy
from kinds.sentiment.series.time_windows import EntityWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentFacts:
    """What the database keeps of an analysed document; the text is in the block's artifact."""

    id: str
    sha256: str
    """SHA-256 of the analysed content: title, text, language, source and time."""
    published_at: datetime
    language: str | None
    num_mentions: int
    flags: tuple[str, ...] = ()
    record: bytes | None = None
    """Digest of the record that the document was read from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysedDocuments:
    """A block of documents with their mentions, which replace those of earlier versions of the documents."""

    monitor_id: UUID
    analysis: str
    """Digest of what the analysis depends on besides the document: watch list, models, the kind's version."""
    documents: Sequence[DocumentFacts]
    mentions: Sequence[Mention]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAgain:
    """Known documents that were read from other records than before, which will identify them from now on."""

    monitor_id: UUID
    records: Sequence[tuple[str, str, bytes]]
    """Document id, digest of the document, digest of the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifications:
    """Answers of a classifier by digest of its input, kept so that none is computed twice."""

    model_sha256: str
    probabilities: Sequence[tuple[bytes, float, float, float]]
    """Digest of the input and the probabilities of negative, neutral and positive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityHistory:
    """An entity's series from an instant on, which replaces what was stored from there on.

    Windows and alerts that were computed from a later reading of the mentions are left as they are.
    """

    monitor_id: UUID
    entity_id: str
    read_at: datetime
    """Time of the database just before the mentions were read."""
    since: datetime
    policy: Policy
    """Policy that the series was computed with; the series is not stored if the monitor's has changed."""
    novelties: Sequence[Novelty]
    windows: Sequence[EntityWindow]
    unsettled: int | None
    """Number of the entity's unsettled change that this series covers, see History.unsettled."""
    alerts: Sequence[Alert]
    """All valid alerts from `since` on: stored ones that are missing here are withdrawn."""


Record = AnalysedDocuments | ReadAgain | Classifications | EntityHistory
