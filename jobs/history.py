"""The port through which a kind reads what earlier batches left; no SQL here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from jobs.series.mention import Mention
from jobs.series.window import Alert, EntityWindow, WindowSize


class History(Protocol):
    """Reads committed rows, each method on a connection of its own; any thread may call it.

    All times are UTC, ranges include their begin and exclude their end.
    """

    def now(self) -> datetime:
        """The database's clock; ask it before reading what a record's `read_at` shall vouch for."""
        ...

    def mentions(
        self, monitor_id: UUID, entity_ids: Sequence[str], *, since: datetime, until: datetime
    ) -> dict[str, list[Mention]]:
        """By entity, each ordered by (published_at, document_id)."""
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
        """By entity, each ordered by starts_at."""
        ...

    def alerts(
        self, monitor_id: UUID, entity_ids: Sequence[str], *, since: datetime, until: datetime
    ) -> dict[str, list[Alert]]:
        """By entity, ordered by starts_at; withdrawn ones are left out."""
        ...

    def first_published_at(self, monitor_id: UUID, entity_ids: Sequence[str]) -> dict[str, datetime]:
        """When each entity's first mention was published; entities without one are left out."""
        ...

    def classifications(
        self, model_sha256: str, digests: Sequence[bytes]
    ) -> dict[bytes, tuple[float, float, float]]:
        """Probabilities (negative, neutral, positive) that this model has given to inputs of these digests."""
        ...
