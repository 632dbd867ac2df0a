"""Items for intake that know how many of them are held at a time."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

MAX_HELD = 3
"""The item that is read, the one before it, and one to spare."""


class _Item(dict[str, object]):
    """A mapping that can be referred to weakly."""


class CountedItems:
    """Tiny mappings, made one by one while they are iterated: `item-1`, `item-2`, ..."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._num_held = 0
        self.most_held = 0
        """The most of them that existed at any moment."""

    def __iter__(self) -> Iterator[_Item]:
        for number in range(1, self._number + 1):
            yield self._made(number)

    def _made(self, number: int) -> _Item:
        item = _Item(id=f"item-{number}", title="Night trains", length=40)
        self._num_held += 1
        self.most_held = max(self.most_held, self._num_held)
        weakref.finalize(item, self._gone)
        return item

    def _gone(self) -> None:
        self._num_held -= 1
