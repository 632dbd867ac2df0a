"""An item that is recommended and written about, and a catalogue of items as a resource."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from jobs.provenance import payload_digest

CATALOGUE_TYPE = "application/json"


AttributeValue = str | float | bool | tuple[str, ...]


def _in_utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC)


Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""Instant in UTC, so that equal instants have equal digests."""


class Item(BaseModel):
    """One row of a catalogue."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    id: str = Field(min_length=1, max_length=200)
    title: str = Field(min_length=1, max_length=500)
    text: str = ""
    """Description as plain text."""
    category: str | None = None
    attributes: Mapping[str, AttributeValue] = Field(default_factory=dict)
    """Everything else that is known: brand, colour, material, pages, ..."""
    price: float | None = Field(default=None, ge=0, le=1e15)
    currency: str | None = None
    available: bool = True
    available_from: Instant | None = None
    available_until: Instant | None = None
    """Instant from which the item is no longer available."""

    def is_available(self, at: datetime) -> bool:
        """Return whether the item is available at this instant, by its flag and its dates."""
        begun = self.available_from is None or self.available_from <= at
        return self.available and begun and (self.available_until is None or at < self.available_until)

    @property
    def sha256(self) -> str:
        """Digest of the whole row."""
        return payload_digest(self.model_dump(mode="json"))

    def part(self, fields: tuple[str, ...]) -> dict[str, object]:
        """Return the values of those named fields and attributes that are set."""
        row = self.model_dump(mode="json", exclude={"attributes"}) | dict(self.attributes)
        return {name: row[name] for name in fields if row.get(name) not in (None, "", (), [])}


_ITEMS = TypeAdapter(tuple[Item, ...])


def catalogue_bytes(items: Iterable[Item]) -> bytes:
    """Return the bytes of the resource with these items, whose ids are unique.

    Raises ValueError for a number that is not finite, and for an id that occurs twice.
    """
    by_id: dict[str, Item] = {}
    for item in items:
        if by_id.setdefault(item.id, item) is not item:
            raise ValueError(f"two items have the id {item.id!r}")
    lines = (_line(by_id[item_id]) for item_id in sorted(by_id))
    return b"[\n" + b",\n".join(lines) + b"\n]\n"


def read_catalogue_bytes(body: bytes) -> tuple[Item, ...]:
    """Return the items ordered by id.

    Raises pydantic.ValidationError if catalogue_bytes did not write the bytes.
    """
    return _ITEMS.validate_json(body)


def _line(item: Item) -> bytes:
    row = item.model_dump(mode="json", exclude_defaults=True)
    return json.dumps(
        row, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    ).encode()
