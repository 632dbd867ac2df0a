"""Finds ids of a log that almost match one of the catalogue, to report or, on request, to match them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

_DECIMALS = re.compile(r"(?<=[0-9])\.0+$")
_SPACES = re.compile(r"\s+")

_DIFFERENCES: Mapping[str, Callable[[str], str]] = {
    "leading zeros": lambda text: text.lstrip("0") or "0",
    'a ".0" at the end': lambda text: _DECIMALS.sub("", text),
    "case": lambda text: text.casefold(),
    "spaces": lambda text: _SPACES.sub("", text),
}


def loose_id(text: str) -> str:
    """Return an id without the differences that spreadsheets and exports cause.

    >>> loose_id("00123"), loose_id("123.0"), loose_id(" ab 1"), loose_id("AB1")
    ('123', '123', 'ab1', 'ab1')
    """
    for plain in _DIFFERENCES.values():
        text = plain(text)
    return text


@dataclass(slots=True)
class NearMisses:
    """Ids of a log that would be in the catalogue if they were spelled as they are there."""

    catalogue_ids: Iterable[str]
    num_events: int = 0
    _examples: dict[str, tuple[str, str]] = field(default_factory=dict)
    _by_loose_id: dict[str, str | None] | None = None

    def find(self, text: str) -> str | None:
        """Return the only catalogue id that is almost this one, or None."""
        if self._by_loose_id is None:
            self._by_loose_id = {}
            for catalogue_id in self.catalogue_ids:
                key = loose_id(catalogue_id)
                self._by_loose_id[key] = None if key in self._by_loose_id else catalogue_id
        return self._by_loose_id.get(loose_id(text))

    def note(self, text: str, catalogue_id: str, num_events: int) -> None:
        """Count events, and keep an example of each difference."""
        self.num_events += num_events
        named = (name for name, plain in _DIFFERENCES.items() if plain(text) == plain(catalogue_id))
        self._examples.setdefault(next(named, "several of these"), (text, catalogue_id))

    def __str__(self) -> str:
        """Return a description with examples; it is empty if there are none."""
        if not self._examples:
            return ""
        differences = ", ".join(
            f"{name} ({text!r} in the log, {catalogue_id!r} in the catalogue)"
            for name, (text, catalogue_id) in self._examples.items()
        )
        return f"{self.num_events:,} events name an item that is in the catalogue but for {differences}"
