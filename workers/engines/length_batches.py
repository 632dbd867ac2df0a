"""What an encoder computes next: rows of like length, under a budget, and the oldest always among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[ItemT]):
    length: int
    order: int
    """Of arrival."""
    item: ItemT


class LengthBatches(Generic[ItemT]):
    """Items that wait, cut into batches by length. Not thread-safe.

    All that wait are sorted by length and cut; the batch with the oldest item goes first. So nothing starves:
    whatever arrives, each batch takes the one that has waited longest.
    """

    def __init__(self, *, max_batch_tokens: int, step_tokens: int) -> None:
        """A step costs as much as `step_tokens` tokens besides those that it computes: where padding would
        cost more than that, another step is begun.
        """
        self._max_batch_tokens = max_batch_tokens
        self._step_tokens = step_tokens
        self._new: list[_Waiting[ItemT]] = []
        self._batches: list[list[_Waiting[ItemT]]] = []
        self._num_added = 0
        self._num_waiting = 0

    def __len__(self) -> int:
        return self._num_waiting

    def add(self, length: int, item: ItemT) -> None:
        """Let an item of so many tokens wait."""
        self._new.append(_Waiting(length, self._num_added, item))
        self._num_added += 1
        self._num_waiting += 1

    def take(self) -> list[ItemT]:
        """The next batch, by length; empty if nothing waits. Number times longest keeps to the budget, but
        for a single item that does not.
        """
        if self._new:
            self._cut([each for batch in self._batches for each in batch] + self._new)
        if not self._batches:
            return []
        place = min(range(len(self._batches)), key=lambda each: min(one.order for one in self._batches[each]))
        batch = self._batches.pop(place)  # the others stay as they are: sorting again would cut them the same
        self._num_waiting -= len(batch)
        return [each.item for each in batch]

    def drop(self, is_dead: Callable[[ItemT], bool]) -> None:
        """Forget the items that nobody waits for any more."""
        alive = [each for batch in [*self._batches, self._new] for each in batch if not is_dead(each.item)]
        if len(alive) != self._num_waiting:
            self._num_waiting = len(alive)
            self._cut(alive)

    def _cut(self, waiting: list[_Waiting[ItemT]]) -> None:
        self._new = []
        self._batches = []
        waiting.sort(key=lambda each: (each.length, each.order))
        batch: list[_Waiting[ItemT]] = []
        num_tokens = 0
        for each in waiting:
            padded = (len(batch) + 1) * each.length
            if batch and (
                padded > self._max_batch_tokens or padded - num_tokens - each.length > self._step_tokens
            ):
                self._batches.append(batch)
                batch, num_tokens = [], 0
            batch.append(each)
            num_tokens += each.length
        if batch:
            self._batches.append(batch)
