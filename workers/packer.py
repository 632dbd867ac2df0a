"""Group store: the small objects that a process's jobs produce in a fraction of a second become one pack."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence

from db.outcomes import Success
from storage.packs import MAX_PACK_BYTES
from workers.held_jobs import HeldJob
from workers.publisher import Prepared, Publisher

MAX_GROUP = 1_000
"""Maximum jobs per pack; larger groups would not save any more time."""


Waiting = tuple[HeldJob, Prepared]
"""A job that has succeeded and waits for its pack."""


class Packer:
    """Stores packs in its own thread. Any thread may call `add`."""

    def __init__(
        self,
        publisher: Publisher,
        *,
        interval_seconds: float,
        num_unstored: Callable[[], int],
        on_stored: Callable[[HeldJob, Success], None],
        on_failed: Callable[[HeldJob, Exception], None],
    ) -> None:
        """Start the thread.

        `num_unstored` counts the jobs held whose results are not stored, so that the packer does not wait for
        a group to which nothing can be added. The other two are called in the thread and must not raise:
        `on_stored` for each job whose pack is stored, `on_failed` for each job whose result cannot be stored.
        """
        self._publisher = publisher
        self._interval_seconds = interval_seconds
        self._num_unstored = num_unstored
        self._on_stored = on_stored
        self._on_failed = on_failed
        self._waiting: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="packer", daemon=True)
        self._thread.start()

    def add(self, held: HeldJob, prepared: Prepared) -> None:
        """Store the job's small objects soon; never blocks."""
        self._waiting.put((held, prepared))

    def close(self, timeout_seconds: float) -> None:
        """Store the remaining objects, and wait at most `timeout_seconds` for that."""
        self._waiting.put(None)
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        closing = False
        while not closing:
            group, closing = self._gather()
            if group:
                self._store(group)

    def _gather(self) -> tuple[list[Waiting], bool]:
        """Wait for a job, then for further ones within the interval if any jobs are still running.

        The second value is True once the packer is closing.
        """
        first = self._waiting.get()
        if first is None:
            return [], True
        group, num_bytes = [first], first[1].num_packed_bytes
        until = time.monotonic() + self._interval_seconds
        while num_bytes < MAX_PACK_BYTES and len(group) < min(MAX_GROUP, self._num_unstored()):
            try:
                waiting = self._waiting.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if waiting is None:
                return group, True
            group.append(waiting)
            num_bytes += waiting[1].num_packed_bytes
        return group, False

    def _store(self, group: Sequence[Waiting]) -> None:
        try:
            successes = self._publisher.store_pack(
                [prepared for _, prepared in group],
                is_abandoned=lambda: all(held.inference.abandoned.is_set() for held, _ in group),
            )
        except Exception as error:  # noqa: BLE001 - why a result cannot be stored is its job's outcome
            for held, _ in group:
                self._on_failed(held, error)
            return
        for (held, _), success in zip(group, successes, strict=True):
            self._on_stored(held, success)
