"""What the jobs of each stage leave for later ones, and for the export."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from kinds.recommendation.changes import Change
from kinds.recommendation.payload import Materials, Sha256


class _Output(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CollectOutput(_Output):
    """The files, as resources."""

    inputs_sha256: Sha256
    num_items: int
    num_rejected: int
    num_withdrawn: int


class EmbedOutput(_Output):
    """The vectors of some items."""

    vectors_sha256: Sha256
    num_embedded: int
    num_known: int
    """Of the release before."""


class FitOutput(_Output):
    """The ranking model."""

    materials: Materials
    num_blocks: int
    """Of users."""
    is_carried: bool
    """The model is that of the release before."""


class RankOutput(_Output):
    """The lists of a block of users."""

    block: int
    interactions_sha256: Sha256
    basis: Sha256
    lists_sha256: Sha256
    num_users: int
    num_ranked: int
    """The others' lists are carried over."""


class BriefOutput(_Output):
    """Which texts some lists need."""

    first_block: int
    copy_index_sha256: Sha256
    briefs_sha256: Sha256 | None
    """None where nothing is to be written."""
    num_audiences: int
    num_texts: int
    num_to_write: int
    why: Mapping[str, int]
    """Audiences whose text is written anew, by reason."""
    changes: tuple[Change, ...]
    """The first of them, for people."""


class CopyOutput(_Output):
    """A text."""

    is_known: bool
    """It was written for another block's users meanwhile."""
