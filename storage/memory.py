"""A store in memory, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock

from storage.store import ObjectNotFoundError, check_key, check_prefix


@dataclass(frozen=True, slots=True)
class StoredObject:
    """The bytes and the media type of a stored object."""

    body: bytes
    media_type: str


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

    def exists(self, key: str) -> bool:
        with self._lock:
            return check_key(key) in self._objects

    def keys(self, prefix: str = "") -> Iterator[str]:
        check_prefix(prefix)
        with self._lock:
            found = sorted(key for key in self._objects if key.startswith(prefix))
        yield from found

    def delete(self, key: str) -> None:
        with self._lock:
            self._objects.pop(check_key(key), None)
