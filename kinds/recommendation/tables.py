"""The tables of refreshes: what is refreshed, the releases that came of it, and the texts they share."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from db.tables import Base, Json


class RefreshRow(Base):
    """A catalogue and a log whose recommendations are kept fresh."""

    __tablename__ = "refreshes"

    id: Mapped[UUID] = mapped_column(ForeignKey("schedules.id", ondelete="CASCADE"), primary_key=True)
    """Of the schedule that it is, which has its tenant, name, settings and language model."""
    sources: Mapped[Json | None]
    """kinds.recommendation.refresh.RefreshSources; None for one that only files of `run` go through."""
    serving: Mapped[Json | None]
    """kinds.recommendation.refresh.ServingPlace; None where nothing is served by itself."""
    published_release_id: Mapped[UUID | None]
    """What stands. Not a foreign key: releases point here."""
    rolled_back_at: Mapped[datetime | None]
    """A run that began before does not publish over it."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ReleaseRow(Base):
    """What one run of a refresh made; immutable but for when it was published last."""

    __tablename__ = "releases"
    __table_args__ = (UniqueConstraint("refresh_id", "number"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """The job that made it."""
    refresh_id: Mapped[UUID] = mapped_column(ForeignKey("refreshes.id", ondelete="CASCADE"))
    number: Mapped[int]
    """Of the refresh, from 1."""
    batch_id: Mapped[UUID]
    """Not a foreign key: a batch may be deleted, its release stays."""
    submitted_at: Mapped[datetime]
    """When its batch was accepted: what a later batch made stands, whichever ends first."""
    manifest_sha256: Mapped[str]
    """Of the resource, see kinds/recommendation/releases/release.py."""
    figures: Mapped[Json]
    made_at: Mapped[datetime] = mapped_column(server_default=func.now())
    published_at: Mapped[datetime | None]


class CopyRow(Base):
    """A text, by the digest of all that it was written from; asked for again, it is not written again."""

    __tablename__ = "copies"
    __table_args__ = (Index("ix_copies_made_at", "made_at"),)

    key: Mapped[str] = mapped_column(primary_key=True)
    audience: Mapped[str]
    text: Mapped[Json]
    """kinds.recommendation.texts.policy.CopyText."""
    num_new_tokens: Mapped[int]
    """What it cost: the next plan's estimate."""
    job_id: Mapped[UUID]
    """Whose statement is its provenance. Not a foreign key: texts outlive batches."""
    made_at: Mapped[datetime] = mapped_column(server_default=func.now())


class WithdrawnItemRow(Base):
    """An item that left the standing lists before the next release: sold out, expired."""

    __tablename__ = "withdrawn_items"

    refresh_id: Mapped[UUID] = mapped_column(ForeignKey("refreshes.id", ondelete="CASCADE"), primary_key=True)
    item_id: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]
    since: Mapped[datetime] = mapped_column(server_default=func.now())
