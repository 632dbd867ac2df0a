"""A monitor: a watch list, where its documents come from, and how its entities are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from jobs.sources import Source, Variable, WebPlace
from kinds.sentiment.series.policy import Policy


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


class WebhookTarget(WebPlace):
    """Alerts as Standard Webhooks messages to a URL; variables are those of beat, or of a command."""

    type: Literal["webhook"] = "webhook"
    name: str = Field(min_length=1, max_length=64)
    secret_variable: Variable
    """Name of the environment variable that holds the signing secret ("whsec_..."); never the secret."""


class FileTarget(BaseModel):
    """Alerts as lines of JSON, appended to a file; "-" is stdout."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["file"] = "file"
    name: str = Field(min_length=1, max_length=64)
    path: str


Target = Annotated[WebhookTarget | FileTarget, Field(discriminator="type")]


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
    """The classifier."""
