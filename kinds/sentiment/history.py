"""The port through which a kind reads what earlier batches left; no SQL here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from kinds.sentiment.series.counted import CountedDocument
from kinds.sentiment.series.mention import Mention, Novelty
from kinds.sentiment.series.window import Alert, EntityWindow, WindowSize, WindowSums


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDocument:
    """A document that was analysed before."""

    sha256: str
    published_at: datetime
    entity_ids: tuple[str, ...]
    """Whose series it is part of."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The version of a document that stands."""

    sha256: str
    published_at: datetime
    record: bytes | None
    """Digest of the record it was read from; None if it was read from none."""


@dataclass(frozen=True, slots=True)
class Unsettled:
    """What of an entity's mentions its series does not show yet."""

    since: datetime
    """The earliest change."""
    number: int
    """Of the last change."""


class History(Protocol):
    """Reads committed rows, each method on a connection of its own; any thread may call it.

    All times are UTC, ranges include their begin and exclude their end.
    """

    def standing(self, monitor_id: UUID, ids: Sequence[str], *, analysis: str) -> dict[str, Standing]:
        """Those of these documents that were analysed in this way, by id."""
        ...

    def known_records(self, monitor_id: UUID, records: Sequence[bytes], *, analysis: str) -> frozenset[bytes]:
        """Those of these digests of records whose document stands, and was analysed in this way."""
        ...

    def documents(self, monitor_id: UUID, ids: Sequence[str]) -> dict[str, KnownDocument]:
        """What is kept of those documents that are known already, by id."""
        ...

    def shared_ids(self, monitor_id: UUID, ids: Sequence[str]) -> frozenset[str]:
        """Those of these ids that documents share, by jobs.documents.identity."""
        ...

    def now(self) -> datetime:
        """The database's clock; ask it before reading what a record's `read_at` shall vouch for."""
        ...

    def mentions(
        self, monitor_id: UUID, since: Mapping[str, datetime], *, until: datetime
    ) -> dict[str, list[Mention]]:
        """Return each entity's mentions since its instant, ordered by (published_at, document_id)."""
        ...

    def novelties(
        self, monitor_id: UUID, entity_id: str, *, since: datetime, until: datetime
    ) -> dict[str, Novelty]:
        """Return the novelty of an entity's mentions, by document, where its series was computed."""
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
        """What an entity's windows of this time count, first reports and follow-ups, in no order.

        Each with the document's digest as it is in the same instant; a mention whose series was not computed
        yet is in no window, and left out.
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
        """Return windows by entity, each ordered by starts_at."""
        ...

    def window_sums(
        self,
        monitor_id: UUID,
        since: Mapping[str, datetime],
        sizes: Sequence[WindowSize],
        *,
        until: datetime,
    ) -> dict[str, dict[WindowSize, list[WindowSums]]]:
        """What the windows of each entity hold, from the instant given for it on."""
        ...

    def alerts(
        self, monitor_id: UUID, entity_ids: Sequence[str], *, since: datetime, until: datetime
    ) -> dict[str, list[Alert]]:
        """Return alerts by entity, ordered by starts_at; withdrawn ones are left out."""
        ...

    def first_published_at(self, monitor_id: UUID, entity_ids: Sequence[str]) -> dict[str, datetime]:
        """When each entity's first mention was published; entities without one are left out."""
        ...

    def unsettled(self, monitor_id: UUID, entity_ids: Sequence[str]) -> dict[str, Unsettled]:
        """Entities whose mentions have changed since; ask before reading the mentions."""
        ...

    def last_window_at(
        self, monitor_id: UUID, entity_ids: Sequence[str], sizes: Sequence[WindowSize]
    ) -> dict[str, datetime]:
        """The earliest of the last starts of each entity's windows of these sizes.

        Left out are entities without any, or with one whose sums are not known.
        """
        ...

    def last_published_at(self, monitor_id: UUID) -> datetime | None:
        """Return when the newest of all documents of the monitor was published."""
        ...

    def read_until(self, monitor_id: UUID) -> datetime | None:
        """When the latest run was due that read all of the monitor's sources, and analysed what they held."""
        ...

    def classifications(
        self, model_sha256: str, digests: Sequence[bytes]
    ) -> dict[bytes, tuple[float, float, float]]:
        """Probabilities (negative, neutral, positive) that this model has given to these inputs."""
        ...
