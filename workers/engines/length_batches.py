"""What an encoder computes next: rows of like length, under a budget, and the oldest always among them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")

MAX_ROUND = 2_000
"""Items that are sorted together: enough for batches without padding, and few enough that what came first is
finished first. Were all sorted, every job in flight would end with the last one."""

BATCHES_A_LANE = 2
"""Of a round, at least: lanes that share it end nearly together."""

MIN_BATCH_TOKENS = 256
"""Smaller ones are not made for the lanes' sake: a step has its own cost."""


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[ItemT]):
    length: int
    order: int
    """Of arrival."""
    item: ItemT


class LengthBatches(Generic[ItemT]):
    """Items that wait, cut into batches by length. Not thread-safe.

    Rounds of the oldest are sorted by length and cut; the batch with the oldest item goes first. So nothing
    starves, and each batch takes the one that has waited longest.
    """

    def __init__(self, *, max_batch_tokens: int, step_tokens: int, num_lanes: int = 1) -> None:
        """A step costs as much as `step_tokens` tokens besides those that it computes: where padding would
        cost more than that, another step is begun. `num_lanes` take batches at the same time.
        """
        self._max_batch_tokens = max_batch_tokens
        self._num_lanes = num_lanes
        self._step_tokens = step_tokens
        self._queue: deque[_Waiting[ItemT]] = deque()
        self._batches: deque[list[_Waiting[ItemT]]] = deque()
        """Of the round under way, the one with the oldest item first."""
        self._num_added = 0
        self._num_waiting = 0

    def __len__(self) -> int:
        return self._num_waiting

    def add(self, length: int, item: ItemT) -> None:
        """Let an item of so many tokens wait."""
        self._queue.append(_Waiting(length, self._num_added, item))
        self._num_added += 1
        self._num_waiting += 1

    def take(self) -> list[ItemT]:
        """The next batch, by length; empty if nothing waits. Number times longest keeps to the budget, but
        for a single item that does not.
        """
        if not self._batches and self._queue:
            size = min(MAX_ROUND, len(self._queue))
            self._cut([self._queue.popleft() for _ in range(size)])
        if not self._batches:
            return []
        batch = self._batches.popleft()
        self._num_waiting -= len(batch)
        return [each.item for each in batch]

    def drop(self, is_dead: Callable[[ItemT], bool]) -> None:
        """Forget the items that nobody waits for any more."""
        self._queue = deque(each for each in self._queue if not is_dead(each.item))
        alive = [[each for each in batch if not is_dead(each.item)] for batch in self._batches]
        self._batches = deque(batch for batch in alive if batch)
        self._num_waiting = len(self._queue) + sum(map(len, self._batches))

    def _cut(self, waiting: list[_Waiting[ItemT]]) -> None:
        waiting.sort(key=lambda each: (each.length, each.order))
        budget = self._budget(waiting)
        batches: list[list[_Waiting[ItemT]]] = []
        batch: list[_Waiting[ItemT]] = []
        num_tokens = 0
        for each in waiting:
            padded = (len(batch) + 1) * each.length
            if batch and (padded > budget or padded - num_tokens - each.length > self._step_tokens):
                batches.append(batch)
                batch, num_tokens = [], 0
            batch.append(each)
            num_tokens += each.length
        if batch:
            batches.append(batch)
        batches.sort(key=lambda batch: min(each.order for each in batch))
        self._batches.extend(batches)

    def _budget(self, waiting: list[_Waiting[ItemT]]) -> int:
        if self._num_lanes == 1:
            return self._max_batch_tokens
        share = sum(each.length for each in waiting) // (self._num_lanes * BATCHES_A_LANE)
        return min(self._max_batch_tokens, max(share, MIN_BATCH_TOKENS))
