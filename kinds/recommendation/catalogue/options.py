"""Options for reading the files of a refresh."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from jobs.dialect import AS_FOUND, FileOptions, parse_decimal, parse_delimiter
from jobs.dropped import MAX_DROPPED_SHARE
from jobs.encodings import check_encoding
from jobs.instants import DateOrder

MAX_BLOCKS = 65_536
"""Maximum blocks of users, as two bytes of a hash determine the block."""

EVENT_WEIGHTS: Mapping[str, float] = {
    "view": 1, "click": 1, "pageview": 1,
    "cart": 3, "add_to_cart": 3, "addtocart": 3, "basket": 3,
    "purchase": 5, "buy": 5, "order": 5, "transaction": 5,
}  # fmt: skip

PURCHASE_KINDS = frozenset({"purchase", "buy", "order", "transaction"})

RETURN_KINDS = frozenset(
    {"return", "returned", "refund", "refunded", "cancel", "canceled", "cancelled", "cancellation"}
)
"""Kinds of events that undo a purchase, as a quantity below zero does."""


class MatchIds(StrEnum):
    """How ids of the log are matched with those of the catalogue."""

    EXACT = "exact"
    LOOSE = "loose"
    """Ignores case, spaces, leading zeros and a ".0" at the end."""


class IntakeOptions(BaseModel):
    """Columns, weights and limits that are stored with a refresh."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    catalogue_columns: Mapping[str, str] = Field(default_factory=dict)
    """Columns by field of an item, for columns that the usual names (fields.py) do not find."""
    interaction_columns: Mapping[str, str] = Field(default_factory=dict)
    delimiter: Annotated[str, AfterValidator(parse_delimiter)] | None = None
    """Delimiter of CSV files; like encoding and decimal sign, None detects it in each file."""
    encoding: Annotated[str, AfterValidator(check_encoding)] | None = None
    decimal: Annotated[str, AfterValidator(parse_decimal)] | None = None
    event_weights: Mapping[str, Annotated[float, Field(ge=0, le=1e6)]] = Field(
        default_factory=lambda: dict(EVENT_WEIGHTS)
    )
    """Weight by lower-case kind of event, times that of the row. Other kinds weigh 1; 0 ignores a kind."""
    purchase_kinds: frozenset[str] = PURCHASE_KINDS
    """Kinds of events after which the user owns the item."""
    date_order: DateOrder | None = None
    """Order of day and month in dates such as 12/1/2010; None detects it from the whole column."""
    match_ids: MatchIds = MatchIds.EXACT
    max_dropped_share: float = Field(default=MAX_DROPPED_SHARE, ge=0, le=1)
    """Maximum share of a file's rows that may be dropped; beyond it, the file is rejected."""
    users_per_block: int = Field(default=1_000, ge=1, le=1_000_000)
    num_blocks: int | None = Field(default=None, ge=1, le=MAX_BLOCKS)
    """Previous number of blocks of the refresh, a power of two; it is kept until the users have doubled."""
    max_events: int = Field(default=1_000, ge=1, le=1_000_000)
    """Events per user, of which the latest are kept; a user with more is a robot or a till."""

    def file_options(self, tell: Callable[[str], None] = AS_FOUND.tell) -> FileOptions:
        """Return the options for opening both files."""
        return FileOptions(delimiter=self.delimiter, encoding=self.encoding, decimal=self.decimal, tell=tell)

    def blocks_for(self, num_users: int) -> int:
        """Return the number of blocks for these users: a power of two, and never fewer than before.

        >>> IntakeOptions().blocks_for(5_000), IntakeOptions(num_blocks=8).blocks_for(15_000)
        (4, 8)
        """
        before = self.num_blocks or 0
        if before and num_users <= 2 * before * self.users_per_block:
            return before
        blocks = 1
        while blocks < MAX_BLOCKS and num_users > 1.5 * blocks * self.users_per_block:
            blocks *= 2
        return max(blocks, before)
