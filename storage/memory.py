"""A store in memory, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock

from storage.store import ObjectEntry, ObjectNotFoundError, check_key, check_prefix


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A stored object, with its media type and the instant at which it was stored."""

    body: bytes
    media_type: str
    stored_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class MemoryStore:
    """A storage.store.Store that keeps objects in memory until the process ends."""

    def __init__(self) -> None:
        self._objects: dict[str, StoredObject] = {}
        self._lock = Lock()

    @property
    def location(self) -> str:
        return "memory:"

    def put(self, key: str, body: bytes, *, media_type: str) -> None:
        stored = StoredObject(bytes(body), media_type)
        with self._lock:
            self._objects[check_key(key)] = stored

    def get(self, key: str) -> bytes:
        with self._lock:
            stored = self._objects.get(check_key(key))
        if stored is None:
            raise ObjectNotFoundError(f"there is no object {key!r} in memory")
        return stored.body

    def get_range(self, key: str, offset: int, num_bytes: int) -> bytes:
        return self.get(key)[offset : offset + num_bytes]

    def exists(self, key: str) -> bool:
        with self._lock:
            return check_key(key) in self._objects

    def keys(self, prefix: str = "") -> Iterator[str]:
        yield from (entry.key for entry in self.entries(prefix))

    def entries(self, prefix: str = "") -> Iterator[ObjectEntry]:
        check_prefix(prefix)
        with self._lock:
            found = sorted(item for item in self._objects.items() if item[0].startswith(prefix))
        yield from (ObjectEntry(key, len(stored.body), stored.stored_at) for key, stored in found)

    def delete(self, key: str) -> None:
        with self._lock:
            self._objects.pop(check_key(key), None)
