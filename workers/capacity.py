"""The limit on the jobs that a worker holds: a gate at which claims wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Capacity:
    """Places for jobs in flight. Any thread may call it."""

    def __init__(self, num_places: int) -> None:
        self._free = num_places
        self._num_places = num_places
        self._exclusive = False
        self._closed = False
        self._changed = threading.Condition()

    @property
    def num_taken(self) -> int:
        """Number of places taken now."""
        return self._num_places - self._free

    def take(self, at_most: int) -> int:
        """Wait until a place is free and take up to `at_most`; return 0 if the gate was closed meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._free > 0 and not self._exclusive))
            if self._closed:
                return 0
            taken = min(at_most, self._free)
            self._free -= taken
            return taken

    def give_back(self, number: int) -> None:
        """Free this number of places."""
        with self._changed:
            self._free += number
            self._changed.notify_all()

    @contextmanager
    def alone(self, at_most: int = 1) -> Iterator[int]:
        """Wait until every place is free, take up to `at_most`, and keep others out until all are given back.

        Yields the number of places, or 0 if the gate was closed meanwhile; once it is closed, nobody waits
        any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._exclusive)
            self._exclusive = True
            self._changed.wait_for(lambda: self._closed or self._free == self._num_places)
            taken = 0 if self._closed else min(at_most, self._free)
            self._free -= taken
        try:
            yield taken
        finally:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._free == self._num_places)
                self._exclusive = False
                self._changed.notify_all()

    def wait_until_free(self, timeout_seconds: float) -> bool:
        """Wait until no place is taken; return False if that took longer than the timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: self._free == self._num_places, timeout_seconds)

    def close(self) -> None:
        """Close the gate; places that are taken stay taken until they are given back."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
