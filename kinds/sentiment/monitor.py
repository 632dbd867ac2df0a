"""A monitor: a watch list, the sources of its documents, and the policy for analysing its entities."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from jobs.sources import Source
from kinds.sentiment.series.policy import Policy
from workers.delivery import Target

KIND = "sentiment_report"
"""Name of the kind whose batches are runs of monitors."""


class AlertStatus(StrEnum):
    """State of an alert."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    """Someone has seen the alert."""
    WITHDRAWN = "withdrawn"
    """Documents that arrived later no longer support the alert."""


class Notification(StrEnum):
    """State of an alert according to the last notification that a target has received."""

    RAISED = "raised"
    WITHDRAWN = "withdrawn"
    UNSURE = "unsure"
    """Unknown: an attempt to notify the target failed but may have reached it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """A monitor as stored in Postgres."""

    id: UUID
    tenant: str
    name: str
    watchlist_sha256: str
    """Digest of the resource that holds the watch list as JSON
    (kinds.sentiment.documents.watchlist.Watchlist)."""
    num_entities: int
    policy: Policy
    sources: tuple[Source, ...]
    targets: tuple[Target, ...]
    settings: dict[str, object]
    model: str
    """Name of the model that classifies the documents."""
