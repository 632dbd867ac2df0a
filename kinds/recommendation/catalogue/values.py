"""Parses prices, availability and attributes as files write them, with pure functions."""

from __future__ import annotations

import math
import re
from decimal import Decimal

from jobs.cells import as_text
from jobs.intake_json import MAX_INTEGER
from kinds.recommendation.catalogue.item import AttributeValue

MAX_PRICE = 1e9
_PRICE = re.compile(
    r"(?:(?P<before>[$€£¥]|[A-Za-z]{3})\s?)?(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,12}(?:\.\d+)?)"
    r"(?:\s?(?P<after>[$€£¥]|[A-Za-z]{3}))?"
)
_SIGNS = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY"}

_AVAILABLE = frozenset({"true", "t", "yes", "y", "available", "in stock", "instock", "in_stock", "active",
                        "on sale", "limited availability", "limitedavailability"})  # fmt: skip
_UNAVAILABLE = frozenset({"false", "f", "no", "n", "unavailable", "out of stock", "outofstock",
                          "out_of_stock", "sold out", "soldout", "discontinued", "inactive"})  # fmt: skip


def parse_price(value: object) -> tuple[float, str | None] | None:
    """Return the amount and its currency, or None if the value is not a price.

    "12,99" is not accepted, because it may mean 12.99 or 1299.

    >>> parse_price("€1,299.00"), parse_price("12,99"), parse_price("-1")
    ((1299.0, 'EUR'), None, None)
    """
    if isinstance(value, str):
        match = _PRICE.fullmatch(value.strip())
        if match is None:
            return None
        number, sign = float(match["number"].replace(",", "")), match["before"] or match["after"]
        return (number, _SIGNS.get(sign, sign.upper()) if sign else None) if number <= MAX_PRICE else None
    if isinstance(value, bool):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]  # numbers of JSON or Parquet, Decimals included
    except (TypeError, ValueError):
        return None
    return (number + 0.0, None) if 0 <= number <= MAX_PRICE else None


def parse_available(value: object) -> bool | None:
    """Return whether an item is available, from words or from the number in stock; None if it is unclear.

    >>> parse_available("In Stock"), parse_available("0"), parse_available(12), parse_available("maybe")
    (True, False, True, None)
    """
    if isinstance(value, str):
        word = value.strip().lower().removeprefix("https://schema.org/").removeprefix("http://schema.org/")
        if word in _AVAILABLE or word in _UNAVAILABLE:
            return word in _AVAILABLE
        try:
            value = float(word)
        except ValueError:
            return None
    if isinstance(value, int | float) and math.isfinite(value):
        return value > 0
    return None


def parse_attribute(value: object) -> AttributeValue | None:
    """Return an attribute from a value of JSON, Parquet or CSV, or None if it is empty.

    A text with vertical bars is a list, and "true" or "false" is a Boolean. Digits remain text, since they
    may be codes or sizes with leading zeros. Raises ValueError for a nested table.

    >>> parse_attribute("red|blue"), parse_attribute("TRUE"), parse_attribute("07"), parse_attribute(3)
    (('red', 'blue'), True, '07', 3.0)
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = value.strip()
        if "|" in text:
            parts = tuple(part.strip() for part in text.split("|") if part.strip())
            return parts if len(parts) > 1 else "".join(parts) or None
        return text.lower() == "true" if text.lower() in ("true", "false") else text or None
    if isinstance(value, int | float | Decimal):
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            return str(value)
        return float(value) + 0.0 if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return tuple(part for each in value if (part := as_text(each))) or None
    single = as_text(value)
    if single is not None:
        return single or None
    raise ValueError(f"{type(value).__name__} is no attribute")
