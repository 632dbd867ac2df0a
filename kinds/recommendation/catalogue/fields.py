"""Assigns columns of a file to the fields of an item or an interaction, by usual names or by a mapping."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from jobs.record_fields import ColumnMappingError, assign, check_mapping
from jobs.rejection import snippet

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
"""Usual column names of each field, best first; every other column becomes an attribute of that name."""

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


def check_item_mapping(columns: Mapping[str, str]) -> None:
    """Raise ColumnMappingError if a name on the left is not a field of an item."""
    check_mapping(columns, fields=ITEM_FIELDS, record="an item")


def check_interaction_mapping(columns: Mapping[str, str]) -> None:
    """Raise ColumnMappingError if a name on the left is not a field of an interaction."""
    check_mapping(columns, fields=INTERACTION_FIELDS, record="an interaction")


def item_columns(names: list[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the column of each field of an item. Raises ColumnMappingError if a needed one is missing."""
    swapped = "" if "user" not in assign(names, {}, INTERACTION_FIELDS) else "a log of interactions"
    return _columns(names, columns, ITEM_FIELDS, needed=("id", "title"), looks_like=swapped)


def interaction_columns(names: list[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the column of each field of an interaction.

    Raises ColumnMappingError if a needed one is missing.
    """
    swapped = "" if "title" not in assign(names, {}, ITEM_FIELDS) else "a catalogue"
    _columns(names, columns, INTERACTION_FIELDS, needed=("user", "item"), looks_like=swapped)
    return assign_interaction(names, columns)


def assign_interaction(names: Iterable[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the column of each field among these names; a quantity mapped as a weight stays a quantity."""
    found = assign(names, columns, INTERACTION_FIELDS)
    weight = found.get("weight")
    if weight is not None and assign([weight], {}, _QUANTITY):
        found["quantity"] = found.pop("weight")  # a quantity below zero is a return
    return found


def _columns(
    names: list[str],
    columns: Mapping[str, str],
    fields: Mapping[str, tuple[str, ...]],
    *,
    needed: tuple[str, ...],
    looks_like: str,
) -> dict[str, str]:
    given = ", ".join(repr(snippet(name) or "") for name in names[:_MAX_SHOWN])
    for field, column in columns.items():
        if column not in names:
            raise ColumnMappingError(f"there is no column {column!r} for {field}: the file has {given}")
    found = assign(names, columns, fields)
    missing = [field for field in needed if field not in found]
    if missing:
        hint = f"; it looks like {looks_like}: were the files swapped?" if looks_like else ""
        raise ColumnMappingError(
            f"has no column for {' and '.join(missing)}: rename one of {given}, or map it{hint}",
            code="missing_column",
        )
    return found
