"""Chooses the rows that an encoder computes next: rows of similar length, among them the oldest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")

MAX_ROUND = 2_000
"""Maximum items that are sorted together: enough for batches without padding, and few enough that early items
finish early. If all waiting items were sorted together, no job in flight would finish much before the last
one."""

BATCHES_A_LANE = 2
"""Minimum batches per lane in a round, so that all lanes finish at about the same time."""

MIN_BATCH_TOKENS = 256
"""Lower limit in tokens for batches that are made smaller so that every lane has work. Below it, the fixed
cost of a step outweighs the gain."""


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[ItemT]):
    length: int
    order: int
    """Position of the item in the order of arrival."""
    item: ItemT


class LengthBatches(Generic[ItemT]):
    """Waiting items, cut into batches by length. Not thread-safe.

    The oldest items form a round, which is sorted by length and cut into batches; the batch with the oldest
    item comes first. Each batch that `take` returns therefore contains the oldest waiting item of its round,
    and no item waits forever.
    """

    def __init__(self, *, max_batch_tokens: int, step_tokens: int, num_lanes: int = 1) -> None:
        """Create an empty queue.

        A step has a fixed cost, equal to that of `step_tokens` tokens: where padding would cost more, a new
        batch begins. `num_lanes` lanes take batches at the same time.
        """
        self._max_batch_tokens = max_batch_tokens
        self._num_lanes = num_lanes
        self._step_tokens = step_tokens
        self._queue: deque[_Waiting[ItemT]] = deque()
        self._batches: deque[list[_Waiting[ItemT]]] = deque()
        """Batches of the current round, the one with the oldest item first."""
        self._num_added = 0
        self._num_waiting = 0

    def __len__(self) -> int:
        return self._num_waiting

    def add(self, length: int, item: ItemT) -> None:
        """Queue an item with this many tokens."""
        self._queue.append(_Waiting(length, self._num_added, item))
        self._num_added += 1
        self._num_waiting += 1

    def take(self) -> list[ItemT]:
        """Return the next batch, of items with similar lengths; it is empty if no item waits.

        The number of items times the longest length is at most `max_batch_tokens`, unless a single item is
        longer than that.
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
        """Remove the items that no request waits for any more."""
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
