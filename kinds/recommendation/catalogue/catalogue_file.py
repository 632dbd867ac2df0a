"""Stores a catalogue as JSON, one item per line and ordered by id, so that equal items give equal bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable

from pydantic import TypeAdapter

from kinds.recommendation.catalogue.item import Item

MEDIA_TYPE = "application/json"

_ITEMS = TypeAdapter(tuple[Item, ...])


def catalogue_bytes(items: Iterable[Item]) -> bytes:
    """Return the resource of these items, whose ids are unique.

    Raises ValueError for a number that is not finite, and for an id that occurs twice.
    """
    by_id: dict[str, Item] = {}
    for item in items:
        if by_id.setdefault(item.id, item) is not item:
            raise ValueError(f"two items have the id {item.id!r}")
    lines = (_line(by_id[item_id]) for item_id in sorted(by_id))
    return b"[\n" + b",\n".join(lines) + b"\n]\n"


def read_catalogue_bytes(body: bytes) -> tuple[Item, ...]:
    """Return the items by id. Raises pydantic.ValidationError if catalogue_bytes did not write the bytes."""
    return _ITEMS.validate_json(body)


def _line(item: Item) -> bytes:
    row = item.model_dump(mode="json", exclude_defaults=True)
    return json.dumps(
        row, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    ).encode()
