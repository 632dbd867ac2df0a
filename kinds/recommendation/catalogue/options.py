"""How the files of a refresh are read, as data."""

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
"""Of users: two bytes of a hash say which."""

EVENT_WEIGHTS: Mapping[str, float] = {
    "view": 1, "click": 1, "pageview": 1,
    "cart": 3, "add_to_cart": 3, "addtocart": 3, "basket": 3,
    "purchase": 5, "buy": 5, "order": 5, "transaction": 5,
}  # fmt: skip

PURCHASE_KINDS = frozenset({"purchase", "buy", "order", "transaction"})

RETURN_KINDS = frozenset(
    {"return", "returned", "refund", "refunded", "cancel", "canceled", "cancelled", "cancellation"}
)
"""They take a purchase back, as a quantity below zero does."""


class MatchIds(StrEnum):
    """When an id of the log is one of the catalogue."""

    EXACT = "exact"
    LOOSE = "loose"
    """Whatever their case, spaces, leading zeros, and a ".0" at the end."""


class IntakeOptions(BaseModel):
    """Columns, weights and limits; a refresh keeps them."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    catalogue_columns: Mapping[str, str] = Field(default_factory=dict)
    """Field of an item -> column of the file, where the usual names (fields.py) do not find it."""
    interaction_columns: Mapping[str, str] = Field(default_factory=dict)
    delimiter: Annotated[str, AfterValidator(parse_delimiter)] | None = None
    """Of both files, where they are CSV; None is found in each, as encoding and decimal sign are."""
    encoding: Annotated[str, AfterValidator(check_encoding)] | None = None
    decimal: Annotated[str, AfterValidator(parse_decimal)] | None = None
    event_weights: Mapping[str, Annotated[float, Field(ge=0, le=1e6)]] = Field(
        default_factory=lambda: dict(EVENT_WEIGHTS)
    )
    """By kind of event, in lower case; times the weight of the row. Others weigh 1; 0 leaves the kind out."""
    purchase_kinds: frozenset[str] = PURCHASE_KINDS
    """Kinds of events after which the user has the item."""
    date_order: DateOrder | None = None
    """Which number of 12/1/2010 is the month; None: what the whole column tells."""
    match_ids: MatchIds = MatchIds.EXACT
    max_dropped_share: float = Field(default=MAX_DROPPED_SHARE, ge=0, le=1)
    """Of the rows of a file: if more are dropped, nothing is made of it."""
    users_per_block: int = Field(default=1_000, ge=1, le=1_000_000)
    num_blocks: int | None = Field(default=None, ge=1, le=MAX_BLOCKS)
    """As many as the refresh had before, a power of two: kept until the users have doubled."""
    max_events: int = Field(default=1_000, ge=1, le=1_000_000)
    """Of one user; the latest are kept. Beyond that it is a robot or a till."""

    def file_options(self, tell: Callable[[str], None] = AS_FOUND.tell) -> FileOptions:
        """How both files are read."""
        return FileOptions(delimiter=self.delimiter, encoding=self.encoding, decimal=self.decimal, tell=tell)

    def blocks_for(self, num_users: int) -> int:
        """How many blocks these users make: a power of two, never fewer than before.

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
