"""The input files of a recommender: the columns that are read, the options, and the stored content."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from jobs.instants import DateOrder
from jobs.intake.columns import ColumnMappingError, assign, check_mapping
from jobs.intake.dialect import AS_FOUND, FileOptions, parse_decimal, parse_delimiter
from jobs.intake.formats import check_encoding
from jobs.rejection import MAX_DROPPED_SHARE, quoted

MAX_BLOCKS = 65_536
"""Maximum number of blocks of users, because two bytes of a hash determine the block."""

EVENT_WEIGHTS: Mapping[str, float] = {
    "view": 1, "click": 1, "pageview": 1,
    "cart": 3, "add_to_cart": 3, "addtocart": 3, "basket": 3,
    "purchase": 5, "buy": 5, "order": 5, "transaction": 5,
}  # fmt: skip

PURCHASE_KINDS = frozenset({"purchase", "buy", "order", "transaction"})

RETURN_KINDS = frozenset(
    {"return", "returned", "refund", "refunded", "cancel", "canceled", "cancelled", "cancellation"}
)
"""Kinds of events that undo a purchase, as a negative quantity does."""

ITEM_FIELDS: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "item_id", "item", "product_id", "productid", "product", "sku", "article_id", "asin", "isbn",
           "movie_id", "book_id", "itemid", "variant_id", "parent_asin", "stock_code", "stockcode",
           "item_code", "product_code"),
    "title": ("title", "name", "product_name", "item_name", "product_title", "original_title", "label"),
    "text": ("text", "description", "body", "body_html", "summary", "overview", "details", "about", "blurb"),
    "category": ("category", "product_type", "product_category", "main_category", "categories", "genre",
                 "genres", "department", "type"),
    "price": ("price", "sale_price", "list_price", "unit_price"),
    "currency": ("currency", "price_currency", "currency_code"),
    "available": ("available", "is_available", "availability", "in_stock", "instock", "stock", "quantity",
                  "inventory"),
    "available_from": ("available_from", "from_date", "start_date", "launch_date", "availability_date"),
    "available_until": ("available_until", "until_date", "end_date", "expires_at", "expiration_date",
                        "expires"),
}  # fmt: skip
"""Usual column names of each field, preferred names first. Each other column becomes an attribute."""

DATE_FIELDS = ("available_from", "available_until")

INTERACTION_FIELDS: Mapping[str, tuple[str, ...]] = {
    "user": ("user", "user_id", "userid", "customer", "customer_id", "customerid", "visitor_id", "visitorid",
             "member_id", "account_id", "session_id", "u", "uid"),
    "item": ("item", "item_id", "itemid", "product_id", "productid", "product", "sku", "article_id", "asin",
             "stock_code", "stockcode", "item_code", "product_code", "parent_asin", "movie_id", "movieid",
             "book_id", "isbn", "content_id", "i", "iid"),
    "kind": ("kind", "event", "event_type", "eventtype", "event_name", "action", "type", "interaction",
             "interaction_type", "behavior", "behaviour"),
    "weight": ("weight", "rating", "score", "stars", "count", "plays", "value"),
    "quantity": ("quantity", "qty", "units", "order_quantity", "quantity_ordered", "item_quantity"),
    "time": ("time", "timestamp", "ts", "at", "created_at", "event_time", "occurred_at", "datetime", "date",
             "published_at", "unix_timestamp", "invoice_date", "invoicedate", "order_date", "orderdate",
             "purchase_date", "transaction_date"),
}  # fmt: skip

_QUANTITY = {"quantity": INTERACTION_FIELDS["quantity"]}
_MAX_SHOWN = 30

Sha256 = str


class MatchIds(StrEnum):
    """Method of matching the ids of the log with those of the catalogue."""

    EXACT = "exact"
    LOOSE = "loose"
    """Ignores case, spaces, leading zeros and a ".0" at the end."""


class IntakeOptions(BaseModel):
    """Columns, weights and limits that are stored with a recommender."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    catalogue_columns: Mapping[str, str] = Field(default_factory=dict)
    """Column name of each field of an item whose column does not have a usual name (see ITEM_FIELDS)."""
    interaction_columns: Mapping[str, str] = Field(default_factory=dict)
    delimiter: Annotated[str, AfterValidator(parse_delimiter)] | None = None
    """Delimiter of CSV files. None detects it in each file; the same applies to `encoding` and `decimal`."""
    encoding: Annotated[str, AfterValidator(check_encoding)] | None = None
    decimal: Annotated[str, AfterValidator(parse_decimal)] | None = None
    event_weights: Mapping[str, Annotated[float, Field(ge=0, le=1e6)]] = Field(
        default_factory=lambda: dict(EVENT_WEIGHTS)
    )
    """Weight of each kind of event, by the kind in lower case; it multiplies the weight of the row. By
    default, a return has the weight of a purchase, and any other kind has weight 1. Events of a kind with
    weight 0 are ignored."""
    purchase_kinds: frozenset[str] = PURCHASE_KINDS
    """Kinds of events after which the user owns the item."""
    date_order: DateOrder | None = None
    """Order of day and month in dates such as 12/1/2010; None detects it from the whole column."""
    match_ids: MatchIds = MatchIds.EXACT
    max_dropped_share: float = Field(default=MAX_DROPPED_SHARE, ge=0, le=1)
    """Maximum share of a file's rows that may be dropped; beyond it, the file is rejected."""
    users_per_block: int = Field(default=1_000, ge=1, le=1_000_000)
    num_blocks: int | None = Field(default=None, ge=1, le=MAX_BLOCKS)
    """Previous number of blocks, a power of two. It is kept as long as blocks have, on average, at most twice
    `users_per_block` users."""
    max_events: int = Field(default=1_000, ge=1, le=1_000_000)
    """Maximum number of events per user; only the latest are kept. A user with more events is probably a
    robot or a cash register."""

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


def check_item_mapping(columns: Mapping[str, str]) -> None:
    """Raise ColumnMappingError if a key of the mapping is not a field of an item."""
    check_mapping(columns, fields=ITEM_FIELDS, record="an item")


def check_interaction_mapping(columns: Mapping[str, str]) -> None:
    """Raise ColumnMappingError if a key of the mapping is not a field of an interaction."""
    check_mapping(columns, fields=INTERACTION_FIELDS, record="an interaction")


def item_columns(names: list[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the column of each field of an item.

    Raises ColumnMappingError if there is no column for the id or the title.
    """
    swapped = "" if "user" not in assign(names, {}, INTERACTION_FIELDS) else "a log of interactions"
    return _columns_of(names, columns, ITEM_FIELDS, needed=("id", "title"), looks_like=swapped)


def interaction_columns(names: list[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the column of each field of an interaction.

    Raises ColumnMappingError if there is no column for the user or the item.
    """
    swapped = "" if "title" not in assign(names, {}, ITEM_FIELDS) else "a catalogue"
    _columns_of(names, columns, INTERACTION_FIELDS, needed=("user", "item"), looks_like=swapped)
    return assign_interaction(names, columns)


def assign_interaction(names: Iterable[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the column of each field of an interaction, without fields that have no column.

    A column with a usual name of a quantity remains the quantity even if it is mapped as the weight.
    """
    assigned = assign(names, columns, INTERACTION_FIELDS)
    weight = assigned.get("weight")
    if weight is not None and assign([weight], {}, _QUANTITY):
        assigned["quantity"] = assigned.pop("weight")  # a negative quantity is a return
    return assigned


def _columns_of(
    names: list[str],
    columns: Mapping[str, str],
    fields: Mapping[str, tuple[str, ...]],
    *,
    needed: tuple[str, ...],
    looks_like: str,
) -> dict[str, str]:
    names_shown = ", ".join(quoted(name) for name in names[:_MAX_SHOWN])
    for field, column in columns.items():
        if column not in names:
            raise ColumnMappingError(f"there is no column {column!r} for {field}: the file has {names_shown}")
    assigned = assign(names, columns, fields)
    missing = [field for field in needed if field not in assigned]
    if missing:
        hint = f"; it looks like {looks_like}: were the files swapped?" if looks_like else ""
        raise ColumnMappingError(
            f"has no column for {' and '.join(missing)}: rename one of {names_shown}, or map it{hint}",
            code="missing_column",
        )
    return assigned


class DroppedRows(BaseModel):
    """Dropped rows of one file. `num_rows` counts all its rows, and `by_code` the dropped ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_rows: int
    by_code: Mapping[str, int]


class Inputs(BaseModel):
    """Digests and counts of a recommender's ingested files; stored as a resource in canonical JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    catalogue_sha256: Sha256
    """Digest of the resource that item.read_catalogue_bytes reads."""
    num_items: int
    blocks: tuple[Sha256, ...]
    """Digests of the blocks in the order of their numbers; the number of blocks is a power of two. See
    interactions.read_block_bytes."""
    num_users: int
    num_interactions: int
    """Number of entries in all blocks."""
    counts: Mapping[str, int] = Field(default_factory=dict)
    """Counts of rows, events, items or users by code, such as unknown_item, duplicate or user_cut."""
    dropped: tuple[DroppedRows, ...] = ()
    """Dropped rows of the catalogue and of the log, in this order."""
    flagged: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Ids of the items with each flag, sorted, at most the first MAX_FLAGGED: injection_suspected,
    html_removed, text_cut, ..."""
