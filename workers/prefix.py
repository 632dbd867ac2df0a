"""An index of prompt prefixes, as token ids, whose keys and values an engine keeps."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MIN_PREFIX_TOKENS = 32
"""Minimum length of a prefix that is kept. A shorter one is computed again, because waiting one step for it
costs more than it saves."""


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """The kept prefix with which a prompt begins; key None and 0 tokens if there is none."""

    key: int | None
    num_tokens: int


NO_MATCH = PrefixMatch(None, 0)


def common_prefix_length(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Return how many leading ids are equal. Bisection is fast here, because slices are compared in C.

    >>> common_prefix_length((1, 2, 3), (1, 2, 4, 5)), common_prefix_length((), (1,))
    (2, 0)
    """
    equal, unequal = 0, min(len(left), len(right)) + 1
    while unequal - equal > 1:
        middle = (equal + unequal) // 2
        if left[equal:middle] == right[equal:middle]:
            equal = middle
        else:
            unequal = middle
    return equal


class PrefixIndex:
    """A least-recently-used index of kept prefixes. Used by one thread.

    A prefix serves every prompt that shares at least MIN_PREFIX_TOKENS leading ids with it: attention is
    causal, so the keys and values of a prefix's leading ids do not depend on its rest.
    """

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self._num_tokens = 0
        self._next_key = 0
        self._entries: OrderedDict[int, tuple[int, ...]] = OrderedDict()

    def find(self, prompt_ids: tuple[int, ...]) -> PrefixMatch:
        """Return the longest kept prefix of the prompt that leaves at least one id to compute."""
        best_key, best = None, MIN_PREFIX_TOKENS - 1
        for key, tokens in self._entries.items():
            if tokens[: best + 1] == prompt_ids[: best + 1]:
                length = min(common_prefix_length(tokens, prompt_ids), len(prompt_ids) - 1)
                if length > best:
                    best_key, best = key, length
        if best_key is None:
            return NO_MATCH
        self._entries.move_to_end(best_key)
        return PrefixMatch(best_key, best)

    def add(self, tokens: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        """Keep a prefix; return its key, and the keys that were dropped to make room for it."""
        dropped = []
        while self._entries and self._num_tokens + len(tokens) > self.max_tokens:
            key, old = self._entries.popitem(last=False)
            self._num_tokens -= len(old)
            dropped.append(key)
        self._next_key += 1
        self._entries[self._next_key] = tokens
        self._num_tokens += len(tokens)
        return self._next_key, tuple(dropped)

    def remove(self, key: int) -> None:
        """Remove a prefix that the engine could not keep."""
        tokens = self._entries.pop(key, None)
        if tokens is not None:
            self._num_tokens -= len(tokens)
