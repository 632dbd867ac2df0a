"""Tables of recommenders and of the releases that they make."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from db.tables import Base, Json


class RecommenderRow(Base):
    """A catalogue and a log whose recommendations are recomputed regularly."""

    __tablename__ = "recommenders"

    id: Mapped[UUID] = mapped_column(ForeignKey("schedules.id", ondelete="CASCADE"), primary_key=True)
    """Id of the recommender and of its schedule, which contains tenant, name, settings and language model."""
    sources: Mapped[Json | None]
    """A kinds.recommendation.recommender.RecommenderSources; None if `run` provides the files instead."""
    serving: Mapped[Json | None]
    """A kinds.recommendation.recommender.ServingPlace; None if releases are not served automatically."""
    published_release_id: Mapped[UUID | None]
    """Id of the published release. It is not a foreign key, because releases refer to this table."""
    rolled_back_at: Mapped[datetime | None]
    """Time of the last rollback; runs that began before it do not publish their release."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ReleaseRow(Base):
    """A release made by one run of a recommender. Only the time at which it was last published changes."""

    __tablename__ = "releases"
    __table_args__ = (UniqueConstraint("recommender_id", "number"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """Id of the job that made the release."""
    recommender_id: Mapped[UUID] = mapped_column(ForeignKey("recommenders.id", ondelete="CASCADE"))
    number: Mapped[int]
    """Number of the release within its recommender, from 1."""
    batch_id: Mapped[UUID]
    """Batch of the job. It is not a foreign key, so that a release survives the deletion of its batch."""
    submitted_at: Mapped[datetime]
    """Time at which the batch was accepted. The release of a later batch takes precedence even if it is made
    first."""
    manifest_sha256: Mapped[str]
    """Digest of the resource with the release's manifest, see kinds/recommendation/release.py."""
    figures: Mapped[Json]
    made_at: Mapped[datetime] = mapped_column(server_default=func.now())
    published_at: Mapped[datetime | None]


class WithdrawnItemRow(Base):
    """An item that was withdrawn from the published lists before the next release; `reason` explains why."""

    __tablename__ = "withdrawn_items"

    recommender_id: Mapped[UUID] = mapped_column(
        ForeignKey("recommenders.id", ondelete="CASCADE"), primary_key=True
    )
    item_id: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]
    since: Mapped[datetime] = mapped_column(server_default=func.now())
