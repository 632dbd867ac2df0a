"""The history of a monitor: the port through which a job reads it, and the records that a job adds to it.

This module contains no SQL; `kinds.sentiment.store.history` implements the port and writes the records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from kinds.sentiment.series.mention import CountedDocument, Mention, Novelty
from kinds.sentiment.series.policy import Alert, Policy
from kinds.sentiment.series.time_windows import EntityWindow, WindowSize, WindowSums


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDocument:
    """A document that has already been analysed."""

    sha256: str
    published_at: datetime
    entity_ids: tuple[str, ...]
    """Ids of the entities that the document mentions."""


@dataclass(frozen=True, slots=True)
class DocumentVersion:
    """The current version of a document."""

    sha256: str
    published_at: datetime
    record: bytes | None
    """Digest of the record that the document was read from; None if there was none."""


@dataclass(frozen=True, slots=True)
class PendingChange:
    """Changes of an entity's mentions that its series does not include yet."""

    since: datetime
    """Time of the earliest mention that changed."""
    number: int
    """Serial number of the last change."""


class History(Protocol):
    """A port that reads committed rows. Each method uses its own connection; any thread may call it.

    All times are UTC; ranges include their beginning and exclude their end.
    """

    def versions(self, monitor_id: UUID, ids: Sequence[str], *, analysis: str) -> dict[str, DocumentVersion]:
        """Return, by id, the versions of these documents that were stored with this `analysis`."""
        ...

    def known_records(self, monitor_id: UUID, records: Sequence[bytes], *, analysis: str) -> frozenset[bytes]:
        """Return the digests of those records whose documents were stored with this `analysis`."""
        ...

    def documents(self, monitor_id: UUID, ids: Sequence[str]) -> dict[str, KnownDocument]:
        """Return the stored data of these documents, by id; unknown documents are left out."""
        ...

    def shared_ids(self, monitor_id: UUID, ids: Sequence[str]) -> frozenset[str]:
        """Return the ids that several documents share; see jobs.documents.identity."""
        ...

    def now(self) -> datetime:
        """Return the database's current time; call it before reading to get the `read_at` of a record."""
        ...

    def mentions(
        self, monitor_id: UUID, since: Mapping[str, datetime], *, until: datetime
    ) -> dict[str, list[Mention]]:
        """Return each entity's mentions in [since[entity_id], until), by (published_at, document_id)."""
        ...

    def novelties(
        self, monitor_id: UUID, entity_id: str, *, since: datetime, until: datetime
    ) -> dict[str, Novelty]:
        """Return, by document, the novelty of an entity's mentions.

        Mentions whose novelty has not been computed yet are left out.
        """
        ...

    def counted(
        self,
        monitor_id: UUID,
        entity_id: str,
        *,
        since: datetime,
        until: datetime,
        min_relevance: int,
    ) -> list[CountedDocument]:
        """Return the documents that count for an entity and were published in [since, until).

        Follow-ups are included, and the order is arbitrary. Mentions and document digests are read at the
        same instant. A mention whose series has not been computed yet is in no window and is left out.
        """
        ...

    def windows(
        self,
        monitor_id: UUID,
        entity_ids: Sequence[str],
        size: WindowSize,
        *,
        since: datetime,
        until: datetime,
    ) -> dict[str, list[EntityWindow]]:
        """Return the windows that begin in [since, until), by entity, ordered by starts_at."""
        ...

    def window_sums(
        self,
        monitor_id: UUID,
        since: Mapping[str, datetime],
        sizes: Sequence[WindowSize],
        *,
        until: datetime,
    ) -> dict[str, dict[WindowSize, list[WindowSums]]]:
        """Return the sums of each entity's windows that begin in [since[entity_id], until)."""
        ...

    def alerts(
        self, monitor_id: UUID, entity_ids: Sequence[str], *, since: datetime, until: datetime
    ) -> dict[str, list[Alert]]:
        """Return the alerts of windows that begin in [since, until), by entity, ordered by starts_at.

        Withdrawn alerts are left out.
        """
        ...

    def first_published_at(self, monitor_id: UUID, entity_ids: Sequence[str]) -> dict[str, datetime]:
        """Return when each entity's first mention was published; entities without mentions are left out."""
        ...

    def pending_changes(self, monitor_id: UUID, entity_ids: Sequence[str]) -> dict[str, PendingChange]:
        """Return, by entity, the changes of its mentions since its series was computed.

        Entities without changes are left out. Call this method before reading mentions.
        """
        ...

    def last_window_at(
        self, monitor_id: UUID, entity_ids: Sequence[str], sizes: Sequence[WindowSize]
    ) -> dict[str, datetime]:
        """Return when each entity's latest window began.

        Of the latest windows of several sizes, the one that began first counts. Entities without windows are
        left out.
        """
        ...

    def last_published_at(self, monitor_id: UUID) -> datetime | None:
        """Return when the monitor's newest document was published; None without documents."""
        ...

    def read_until(self, monitor_id: UUID) -> datetime | None:
        """Return when the latest run that read all sources and analysed all their documents was due.

        The result is None if there is no such run.
        """
        ...

    def classifications(
        self, model_sha256: str, digests: Sequence[bytes]
    ) -> dict[bytes, tuple[float, float, float]]:
        """Return the probabilities (negative, neutral, positive) that this model gave to these inputs."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentFacts:
    """An analysed document as the database stores it; its text is in the block's artifact."""

    id: str
    sha256: str
    """SHA-256 of the analysed content: title, text, language, source and time."""
    published_at: datetime
    language: str | None
    num_mentions: int
    flags: tuple[str, ...] = ()
    record: bytes | None = None
    """Digest of the record that the document was read from; None if there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysedDocuments:
    """A block of documents with their mentions, which replace those of earlier versions of the documents."""

    monitor_id: UUID
    analysis: str
    """Digest of what the analysis depends on besides the document: watch list, models, the kind's version."""
    documents: Sequence[DocumentFacts]
    mentions: Sequence[Mention]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDigests:
    """Known documents that were read from new records; from now on these records identify them."""

    monitor_id: UUID
    records: Sequence[tuple[str, str, bytes]]
    """Document id, digest of the document, digest of the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifications:
    """Answers of a classifier by digest of its input, stored so that they are not computed again."""

    model_sha256: str
    probabilities: Sequence[tuple[bytes, float, float, float]]
    """Digest of the input and the probabilities of negative, neutral and positive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityHistory:
    """An entity's series from `since` on, which replaces the one stored from there on.

    Windows and alerts that were computed from a later reading of the mentions are left as they are.
    """

    monitor_id: UUID
    entity_id: str
    read_at: datetime
    """Time of the database just before the mentions were read."""
    since: datetime
    policy: Policy
    """Policy that the series was computed with. If the monitor's policy has changed, the series is not
    stored."""
    novelties: Sequence[Novelty]
    windows: Sequence[EntityWindow]
    change_number: int | None
    """Number of the entity's pending change that this series covers, see History.pending_changes; None if
    there was none."""
    alerts: Sequence[Alert]
    """All valid alerts from `since` on. Stored alerts that are missing here are withdrawn."""


Record = AnalysedDocuments | RecordDigests | Classifications | EntityHistory
