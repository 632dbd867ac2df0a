"""Inputs of a refresh: catalogue and interactions as resources, and what was noticed during ingest."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

Sha256 = str


class DroppedRows(BaseModel):
    """Number of rows of a file that were dropped, by code."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_rows: int
    by_code: Mapping[str, int]


class Inputs(BaseModel):
    """Ingested files of a refresh, which are themselves stored as a resource of canonical JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    catalogue_sha256: Sha256
    """Digest of the resource that catalogue_file.read_catalogue_bytes reads."""
    num_items: int
    blocks: tuple[Sha256, ...]
    """Digests of the blocks that interactions_file.read_block_bytes reads, by number; a power of two."""
    num_users: int
    num_interactions: int
    """Entries of all blocks."""
    counts: Mapping[str, int] = Field(default_factory=dict)
    """Counts of events or rows by code: unknown_item, duplicate, weight_invalid, in_future, user_cut, ..."""
    dropped: tuple[DroppedRows, ...] = ()
    """Dropped rows of the catalogue and of the log, in this order."""
    flagged: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """First ids of items by flag, sorted: injection_suspected, html_removed, text_cut, formula, ..."""
