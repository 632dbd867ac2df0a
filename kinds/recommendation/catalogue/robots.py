"""Cuts users who have more events in one chunk of a log than are kept per user, to save memory."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kinds.recommendation.catalogue.events import Events


class Robots:
    """Cuts events chunk by chunk, with the same result as if each user were cut at the end."""

    def __init__(self, max_events: int) -> None:
        self._max_events = max_events
        self._num_dropped: Counter[str] = Counter()

    def cut(self, events: Events) -> Events:
        """Return the events without the earlier ones of users who have too many distinct events."""
        counts = np.bincount(events.user, minlength=1)
        if counts.max() <= self._max_events:
            return events
        keeps = np.ones(len(events.user), dtype=np.bool_)
        for user in np.flatnonzero(counts > self._max_events):
            rows = np.flatnonzero(events.user == user)
            latest = self._latest(events, rows)
            if latest is not None:
                keeps[rows] = False
                keeps[latest] = True
                self._num_dropped[events.users[int(user)].as_py()] += len(rows) - len(latest)
        return Events(
            users=events.users,
            user=events.user[keeps],
            item=events.item[keeps],
            kind=events.kind[keeps],
            weight=events.weight[keeps],
            time=events.time[keeps],
        )

    def num_dropped(self, users: pa.StringArray) -> npt.NDArray[np.int64]:
        """Return the number of events of each user that have been cut so far."""
        dropped = np.zeros(len(users), dtype=np.int64)
        if self._num_dropped:
            positions = pc.index_in(pa.array(self._num_dropped, pa.string()), users)
            for position, number in zip(positions.to_pylist(), self._num_dropped.values(), strict=True):
                if position is not None:
                    dropped[position] = number
        return dropped

    def _latest(self, events: Events, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
        """Return the rows of the latest distinct events, or None if all of them are kept."""
        columns = [values[rows] for values in (events.time, events.item, events.weight, events.kind)]
        order = np.lexsort(columns[::-1])
        different = order[is_new(*(values[order] for values in columns))]
        return rows[different[-self._max_events :]] if len(different) > self._max_events else None


def is_new(*columns: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Return which of the ordered rows differ from the row before."""
    is_new = np.zeros(len(columns[0]), dtype=np.bool_)
    is_new[:1] = True
    for values in columns:
        is_new[1:] |= values[1:] != values[:-1]
    return is_new
