"""Outputs and records of jobs. Later stages and the export read outputs; the store writes records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from kinds.recommendation.payload import Materials, Sha256


class Why(StrEnum):
    """Reason why a text has to be written; the first that applies is used."""

    NEW = "new audience"
    ITEMS = "other items"
    ROW = "an item's row"
    BECAUSE = "other reason"
    POLICY = "template, model or policy"
    MISSING = "not written before"
    """The inputs are the same, but the text's job failed or its text was deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A text that has to be written, and why."""

    audience: str
    why: Why
    details: Mapping[str, object] = field(default_factory=dict)


class _Output(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CollectOutput(_Output):
    """Output of `collect`: the digest of the ingested files and their counts."""

    inputs_sha256: Sha256
    num_items: int
    num_rejected: int
    num_withdrawn: int


class EmbedOutput(_Output):
    """Output of an `embed` job: the vectors of some items."""

    vectors_sha256: Sha256
    num_embedded: int
    num_known: int
    """Number of vectors that were taken over from the previous release."""


class FitOutput(_Output):
    """Output of `fit`: the ranking model and the other resources that ranking needs."""

    materials: Materials
    num_blocks: int
    """Number of blocks of users."""
    is_carried: bool
    """Whether the model is that of the previous release."""


class RankOutput(_Output):
    """Output of a `rank` job: the lists of a block of users."""

    block: int
    interactions_sha256: Sha256
    basis: Sha256
    lists_sha256: Sha256
    num_users: int
    num_ranked: int
    """Number of users who got a new list; the lists of the others are carried over."""


class TextPlanOutput(_Output):
    """Output of a `plan_texts` job: the texts that some lists need."""

    first_block: int
    text_index_sha256: Sha256
    requests_sha256: Sha256 | None
    """Digest of the file of requests; None if there is nothing to write."""
    num_audiences: int
    num_texts: int
    num_to_write: int
    why: Mapping[str, int]
    """Number of audiences whose text has to be written, by reason."""
    changes: tuple[Change, ...]
    """The first of the changes that `why` counts, as examples."""


class TextOutput(_Output):
    """Output of a `texts` job, which has written a text or found that it exists."""

    is_known: bool
    """Whether the text was written for another block's users in the meantime."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """Items that are withdrawn from the published lists at once, before new lists are made."""

    recommender_id: UUID
    reasons: Mapping[str, str]
    """Reason of each withdrawal, by the id of the item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRelease:
    """A release of a recommender, which is numbered and published when the job that made it succeeds."""

    recommender_id: UUID
    manifest_sha256: str
    figures: Mapping[str, object]


Record = Withdrawal | NewRelease
