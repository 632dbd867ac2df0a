"""Outputs of the jobs of each stage, which later stages and the export read."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from kinds.recommendation.changes import Change
from kinds.recommendation.payload import Materials, Sha256


class _Output(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CollectOutput(_Output):
    """The ingested files."""

    inputs_sha256: Sha256
    num_items: int
    num_rejected: int
    num_withdrawn: int


class EmbedOutput(_Output):
    """The vectors of some items."""

    vectors_sha256: Sha256
    num_embedded: int
    num_known: int
    """Vectors taken over from the previous release."""


class FitOutput(_Output):
    """The ranking model."""

    materials: Materials
    num_blocks: int
    """Number of blocks of users."""
    is_carried: bool
    """Whether the model is that of the previous release."""


class RankOutput(_Output):
    """The lists of a block of users."""

    block: int
    interactions_sha256: Sha256
    basis: Sha256
    lists_sha256: Sha256
    num_users: int
    num_ranked: int
    """Users who were ranked; the lists of the others are carried over."""


class BriefOutput(_Output):
    """The texts that some lists need."""

    first_block: int
    copy_index_sha256: Sha256
    briefs_sha256: Sha256 | None
    """Digest of the file of briefs; None if there is nothing to write."""
    num_audiences: int
    num_texts: int
    num_to_write: int
    why: Mapping[str, int]
    """Number of audiences whose text is rewritten, by reason."""
    changes: tuple[Change, ...]
    """The first of these changes, as examples."""


class CopyOutput(_Output):
    """A written text."""

    is_known: bool
    """Whether the text was written for another block's users in the meantime."""
