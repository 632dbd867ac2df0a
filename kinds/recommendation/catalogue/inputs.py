"""What a refresh begins with: catalogue and interactions as resources, and what was found on the way."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

Sha256 = str


class DroppedRows(BaseModel):
    """How many rows of a file were dropped, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_rows: int
    by_code: Mapping[str, int]


class Inputs(BaseModel):
    """The taken-in files of a refresh; a resource itself, as canonical JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    catalogue_sha256: Sha256
    """Resource that catalogue_file.read_catalogue_bytes reads."""
    num_items: int
    blocks: tuple[Sha256, ...]
    """Resources that interactions_file.read_block_bytes reads, by number of block; a power of two of them."""
    num_users: int
    num_interactions: int
    """Entries kept, of all blocks."""
    counts: Mapping[str, int] = Field(default_factory=dict)
    """What was noticed: unknown_item, duplicate, weight_invalid, in_future, user_cut, ...: events or rows."""
    dropped: tuple[DroppedRows, ...] = ()
    """Of the catalogue and of the log, in this order."""
    flagged: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Of injection_suspected, html_removed, text_cut, formula, ...: the first ids of the items, ordered."""
