"""A recommender: a catalogue and a log whose recommendations are recomputed regularly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from jobs.ranges import MAX_SECONDS
from jobs.sources import Variable

KIND = "recommendation"
"""The kind whose batches are runs of recommenders."""


class RecommenderSources(BaseModel):
    """Files that a scheduled recommender reads, as paths on the worker's machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    catalogue: str
    interactions: str


class ServingPlace(BaseModel):
    """Redis database from which the published release of a recommender is served automatically."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url_variable: Variable
    """Name of the environment variable with the URL (redis://HOST:PORT/DATABASE) in the serving process;
    never the URL itself."""
    staging: int = Field(default=15, ge=0, le=100_000)
    """Number of a second logical database on that server, in which new rows are prepared."""
    expire_seconds: int | None = Field(default=None, ge=60, le=MAX_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommender:
    """A recommender as it is stored in Postgres."""

    id: UUID
    tenant: str
    name: str
    model: str
    """Name of the language model that writes the texts; empty for lists without texts."""
    settings: dict[str, object]
    """Settings of the kind, except those that each run adds."""
    sources: RecommenderSources | None
    serving: ServingPlace | None = None
    published_release_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release made by one run of a recommender, as it is stored in Postgres."""

    id: UUID
    recommender_id: UUID
    number: int
    batch_id: UUID
    manifest_sha256: str
    figures: Mapping[str, object] = field(default_factory=dict)
    submitted_at: datetime
    """Time at which the release's batch was accepted."""
    made_at: datetime
    published_at: datetime | None
    """Time at which the release was last published; None if it was never published."""
