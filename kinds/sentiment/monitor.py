"""A monitor: a watch list, where its documents come from, and how its entities are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from jobs.sources import Source
from kinds.sentiment.series.policy import Policy
from workers.delivery.targets import Target

KIND = "sentiment_report"
"""The kind whose batches are runs of monitors."""


class AlertStatus(StrEnum):
    """Where an alert is."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    """Someone has seen it."""
    WITHDRAWN = "withdrawn"
    """Documents that came later took its ground away."""


class Told(StrEnum):
    """What a target was told of an alert last."""

    RAISED = "raised"
    WITHDRAWN = "withdrawn"
    UNSURE = "unsure"
    """Nobody knows: an attempt to tell it something failed, and may have reached it all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """A monitor as Postgres has it."""

    id: UUID
    tenant: str
    name: str
    watchlist_sha256: str
    """Of the resource that holds it as JSON: kinds.sentiment.documents.watchlist.Watchlist."""
    num_entities: int
    policy: Policy
    sources: tuple[Source, ...]
    targets: tuple[Target, ...]
    settings: dict[str, object]
    model: str
    """Classifier of the documents."""
