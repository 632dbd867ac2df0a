"""Turns events into blocks of users with their histories; only a part of the users is in memory at a time."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kinds.recommendation.catalogue.events import Events
from kinds.recommendation.catalogue.inputs import MAX_BLOCKS
from kinds.recommendation.catalogue.interactions import UserBlock, entries_of

NUM_PARTS = 256
"""Number of parts into which users are divided, a power of two. Each part is an open file, which has 12 MB
for 100 million events."""

_EVENT_SCHEMA = pa.schema(
    [
        ("user", pa.string()),
        ("item", pa.int32()),
        ("kind", pa.int16()),
        ("weight", pa.float32()),
        ("time", pa.int64()),
    ]
)


class Robots:
    """Drops all but the latest events of users who have too many events, such as robots.

    It processes a log chunk by chunk; the result is the same as for the whole log at once.
    """

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
        """Return how many events of each user have been dropped so far."""
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


class Partitions:
    """Stores events on disk in parts. It takes 30 bytes of disk space per event until it is closed."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pressroom-intake-")
        self._writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}

    def __enter__(self) -> Partitions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_writers()
        self._folder.cleanup()

    def add(self, events: Events) -> None:
        """Store each event in the part that the leading bits of its user's hash determine.

        `block_of` determines a user's block by the same bits.
        """
        if not len(events.user):
            return
        parts = leading_bits(events.users)[events.user] // (MAX_BLOCKS // NUM_PARTS)
        order = np.argsort(parts.astype(np.uint8), kind="stable")
        columns = [
            events.users.take(pa.array(events.user[order])),
            *(pa.array(values[order]) for values in (events.item, events.kind, events.weight, events.time)),
        ]
        batch = pa.record_batch(columns, schema=_EVENT_SCHEMA)
        present, begins = np.unique(parts[order], return_index=True)
        for part, begin, end in zip(present, begins, [*begins[1:], len(order)], strict=True):
            self._writer(int(part)).write_batch(batch.slice(begin, end - begin))

    def num_users(self) -> int:
        """Count the users of all parts. Do not call `add` afterwards."""
        parts = (self.read(range(part, part + 1)) for part in range(NUM_PARTS) if self._path(part).exists())
        return sum(pc.count_distinct(part["user"]).as_py() for part in parts)

    def read(self, parts: range) -> pa.Table:
        """Return the user, item, kind, weight and time of all events of these parts.

        Do not call `add` afterwards.
        """
        self._close_writers()
        tables = [_EVENT_SCHEMA.empty_table()]
        for path in map(self._path, parts):
            if path.exists():
                with path.open("rb") as file, pa.ipc.open_stream(file) as stream:
                    tables.append(stream.read_all())
        return pa.concat_tables(tables)

    def _writer(self, part: int) -> pa.ipc.RecordBatchStreamWriter:
        if part not in self._writers:
            self._writers[part] = pa.ipc.new_stream(pa.OSFile(str(self._path(part)), "wb"), _EVENT_SCHEMA)
        return self._writers[part]

    def _close_writers(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _path(self, part: int) -> Path:
        return Path(self._folder.name) / f"{part:03}.arrow"


def leading_bits(users: pa.StringArray) -> npt.NDArray[np.int64]:
    """Return the 16 bits of each user's hash that determine the block (interactions.block_of)."""
    digests = b"".join(hashlib.sha256(user.encode()).digest()[:2] for user in users.to_pylist())
    return np.frombuffer(digests, dtype=">u2").astype(np.int64)


def ordered(users: pa.StringArray) -> tuple[pa.StringArray, npt.NDArray[np.int32]]:
    """Return the distinct users in code point order, and the position of each row's user among them."""
    encoded = users.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy(zero_copy_only=False)
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return encoded.dictionary.take(pa.array(order)), rank[encoded.indices.to_numpy(zero_copy_only=False)]


@dataclass(frozen=True, slots=True)
class Histories:
    """Users with their entries; users are ordered by id, and the entries of a user by item."""

    user_ids: pa.StringArray
    bits: npt.NDArray[np.int64]
    """(num_users,): the bits of each user's hash that determine the block."""
    indptr: npt.NDArray[np.int64]
    items: npt.NDArray[np.int32]
    """(num_entries,): positions in the ordered ids of the catalogue."""
    weights: npt.NDArray[np.float32]
    times: npt.NDArray[np.int64]
    is_purchase: npt.NDArray[np.bool_]
    num_duplicates: int = 0
    """Number of events with the same user, item, kind, weight and time as another event. Events of
    users whose histories were shortened are not counted."""
    num_users_cut: int = 0
    num_events_cut: int = 0
    """Number of events, including duplicates, that were dropped from users whose histories were shortened."""


def histories(
    events: pa.Table, *, is_purchase: npt.NDArray[np.bool_], max_events: int, robots: Robots
) -> Histories:
    """Return the histories of these events, which can be in any order.

    `is_purchase` is indexed by the number of a kind.
    """
    users, user = ordered(events["user"].combine_chunks())
    item, kind, weight, time = (events[name].to_numpy() for name in ("item", "kind", "weight", "time"))
    order = np.lexsort((kind, weight, time, item, user))
    order = order[is_new(*(values[order] for values in (user, item, time, weight, kind)))]
    latest = order[_latest(user[order], time[order], len(users), max_events)]
    num_read = np.bincount(user, minlength=len(users)) + robots.num_dropped(users)
    num_different = np.bincount(user[order], minlength=len(users))
    num_kept = np.bincount(user[latest], minlength=len(users))
    is_cut = (num_kept < num_different) | (robots.num_dropped(users) > 0)
    user, item, time, weight, kind = (values[latest] for values in (user, item, time, weight, kind))

    begins = np.flatnonzero(is_new(user, item))
    ends = np.append(begins, len(user))[1:]
    weights, bought = _sums(weight, begins), _any(is_purchase[kind] & (weight > 0), begins)
    # An item that was returned as often as it was bought shows no interest.
    stays = weights > 0
    num_entries = np.bincount(user[begins[stays]], minlength=len(users))
    indptr = np.zeros(len(users) + 1, dtype=np.int64)
    np.cumsum(num_entries, out=indptr[1:])
    whole = Histories(
        user_ids=users,
        bits=leading_bits(users),
        indptr=indptr,
        items=item[begins[stays]],
        weights=weights[stays],
        times=time[ends[stays] - 1],
        is_purchase=bought[stays],
        num_duplicates=int((num_read - num_different)[~is_cut].sum()),
        num_users_cut=int(np.count_nonzero(is_cut)),
        num_events_cut=int((num_read - num_kept)[is_cut].sum()),
    )
    return whole if num_entries.all() else selected(whole, np.flatnonzero(num_entries))


def selected(of: Histories, users: npt.NDArray[np.int64]) -> Histories:
    """Return the histories of the users at these indices, in this order; the counts still cover all users."""
    indptr, entries = entries_of(of.indptr, users)
    return replace(
        of,
        user_ids=of.user_ids.take(pa.array(users)),
        bits=of.bits[users],
        indptr=indptr,
        items=of.items[entries],
        weights=of.weights[entries],
        times=of.times[entries],
        is_purchase=of.is_purchase[entries],
    )


def as_block(of: Histories, catalogue_ids: Sequence[str]) -> UserBlock:
    """Return the histories as a block, which has only the ids of its own items.

    Other items of the catalogue therefore do not change the block.
    """
    present, items = np.unique(of.items, return_inverse=True)
    return UserBlock(
        user_ids=tuple(of.user_ids.to_pylist()),
        item_ids=tuple(catalogue_ids[position] for position in present),
        indptr=of.indptr,
        items=items.astype(np.int32),
        weights=of.weights,
        times=of.times,
        is_purchase=of.is_purchase,
    )


def _latest(
    user: npt.NDArray[np.int32], time: npt.NDArray[np.int64], num_users: int, max_events: int
) -> npt.NDArray[np.bool_]:
    """Return which events are kept if each user keeps the latest `max_events`.

    Events are distinct and ordered by user; of those with equal times, the later ones are kept.
    """
    kept = np.ones(len(user), dtype=bool)
    counts = np.bincount(user, minlength=num_users)
    begins = np.concatenate([[0], np.cumsum(counts)])
    for each in np.flatnonzero(counts > max_events):
        events = slice(begins[each], begins[each + 1])
        earliest = np.argsort(time[events], kind="stable")[: counts[each] - max_events]
        kept[begins[each] + earliest] = False
    return kept


def _sums(weight: npt.NDArray[np.generic], begins: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    if not len(begins):
        return np.zeros(0, dtype=np.float32)
    # Sums are computed in 64 bits and in a fixed order, because a different order could change the digest.
    return np.add.reduceat(weight.astype(np.float64), begins).astype(np.float32)


def _any(flags: npt.NDArray[np.bool_], begins: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    if not len(begins):
        return np.zeros(0, dtype=np.bool_)
    any_flag: npt.NDArray[np.bool_] = np.logical_or.reduceat(flags, begins)
    return any_flag


class Blocks:
    """Makes the blocks of an ingest and counts their contents. Call `make` once, as it adds to the counts."""

    def __init__(
        self,
        partitions: Partitions,
        catalogue_ids: Sequence[str],
        *,
        is_purchase: npt.NDArray[np.bool_],
        max_events: int,
        robots: Robots,
    ) -> None:
        """Prepare to make blocks; `catalogue_ids` are sorted, `is_purchase` is indexed by a kind's number."""
        self._partitions = partitions
        self._catalogue_ids = catalogue_ids
        self._is_purchase = is_purchase
        self._max_events = max_events
        self._robots = robots
        self._has_interactions = np.zeros(len(catalogue_ids), dtype=bool)
        self.num_entries = 0
        self.num_users = 0
        """Number of users with at least one entry."""
        self.num_duplicates = 0
        self.num_users_cut = 0
        self.num_events_cut = 0

    @property
    def num_items(self) -> int:
        """Number of distinct items in the blocks made so far."""
        return int(np.count_nonzero(self._has_interactions))

    def make(self, num_blocks: int) -> Iterator[UserBlock]:
        """Yield the blocks in order; `num_blocks` is a power of two."""
        parts_at_once = max(1, NUM_PARTS // num_blocks)
        blocks_at_once = max(1, num_blocks // NUM_PARTS)
        for number, begin in enumerate(range(0, NUM_PARTS, parts_at_once)):
            together = self._finish(range(begin, begin + parts_at_once))
            block = together.bits * num_blocks // MAX_BLOCKS
            for each in range(number * blocks_at_once, (number + 1) * blocks_at_once):
                chosen = selected(together, np.flatnonzero(block == each))
                yield as_block(chosen, self._catalogue_ids)

    def _finish(self, parts: range) -> Histories:
        part = histories(
            self._partitions.read(parts),
            is_purchase=self._is_purchase,
            max_events=self._max_events,
            robots=self._robots,
        )
        self._has_interactions[part.items] = True
        self.num_entries += len(part.items)
        self.num_users += len(part.user_ids)
        self.num_duplicates += part.num_duplicates
        self.num_users_cut += part.num_users_cut
        self.num_events_cut += part.num_events_cut
        return part
