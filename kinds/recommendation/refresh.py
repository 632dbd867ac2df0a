"""A refresh: a catalogue and a log whose recommendations are made again and again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from jobs.ranges import MAX_SECONDS
from jobs.sources import Variable

KIND = "recommendation"
"""The kind whose batches are runs of refreshes."""


class RefreshSources(BaseModel):
    """Where a standing refresh reads its files: paths on the worker's machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    catalogue: str
    interactions: str


class ServingPlace(BaseModel):
    """Where the standing release of a refresh is served from by itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url_variable: Variable
    """Environment variable with redis://HOST:PORT/DATABASE, of the process that serves; never that URL."""
    staging: int = Field(default=15, ge=0, le=100_000)
    """A second logical database of that server."""
    expire_seconds: int | None = Field(default=None, ge=60, le=MAX_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """A refresh as Postgres has it."""

    id: UUID
    tenant: str
    name: str
    model: str
    """Writes the texts; empty for lists without texts."""
    settings: dict[str, object]
    """Of the kind, but for what each run adds."""
    sources: RefreshSources | None
    serving: ServingPlace | None = None
    published_release_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What one run of a refresh made, as Postgres has it."""

    id: UUID
    refresh_id: UUID
    number: int
    batch_id: UUID
    manifest_sha256: str
    figures: Mapping[str, object] = field(default_factory=dict)
    submitted_at: datetime
    """When its batch was accepted."""
    made_at: datetime
    published_at: datetime | None
    """When it last became the one that stands."""
