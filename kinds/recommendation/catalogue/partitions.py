"""Partitions events by user into temporary files, so that only one part at a time is in memory."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kinds.recommendation.catalogue.events import Events
from kinds.recommendation.catalogue.options import MAX_BLOCKS

NUM_PARTS = 256
"""Number of parts, a power of two. 100 million events give parts of 12 MB; each part is an open file."""

_SCHEMA = pa.schema(
    [
        ("user", pa.string()),
        ("item", pa.int32()),
        ("kind", pa.int16()),
        ("weight", pa.float32()),
        ("time", pa.int64()),
    ]
)


class Partitions:
    """Stores events on disk and returns those of a part. It takes 30 bytes per event until it is closed."""

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
        """Store events in parts by the leading bits of their users' hashes, as block_of uses them."""
        if not len(events.user):
            return
        parts = leading_bits(events.users)[events.user] // (MAX_BLOCKS // NUM_PARTS)
        order = np.argsort(parts.astype(np.uint8), kind="stable")
        columns = [
            events.users.take(pa.array(events.user[order])),
            *(pa.array(values[order]) for values in (events.item, events.kind, events.weight, events.time)),
        ]
        batch = pa.record_batch(columns, schema=_SCHEMA)
        present, begins = np.unique(parts[order], return_index=True)
        for part, begin, end in zip(present, begins, [*begins[1:], len(order)], strict=True):
            self._writer(int(part)).write_batch(batch.slice(begin, end - begin))

    def num_users(self) -> int:
        """Count the users of all parts. Nothing may be added afterwards."""
        parts = (self.read(range(part, part + 1)) for part in range(NUM_PARTS) if self._path(part).exists())
        return sum(pc.count_distinct(part["user"]).as_py() for part in parts)

    def read(self, parts: range) -> pa.Table:
        """Return the events of these parts: user, item, kind, weight, time. Add nothing afterwards."""
        self._close_writers()
        tables = [_SCHEMA.empty_table()]
        for path in map(self._path, parts):
            if path.exists():
                with path.open("rb") as file, pa.ipc.open_stream(file) as stream:
                    tables.append(stream.read_all())
        return pa.concat_tables(tables)

    def _writer(self, part: int) -> pa.ipc.RecordBatchStreamWriter:
        if part not in self._writers:
            self._writers[part] = pa.ipc.new_stream(pa.OSFile(str(self._path(part)), "wb"), _SCHEMA)
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
    """Return the distinct users in the order of their code points, and each row's position in them."""
    encoded = users.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy(zero_copy_only=False)
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return encoded.dictionary.take(pa.array(order)), rank[encoded.indices.to_numpy(zero_copy_only=False)]
