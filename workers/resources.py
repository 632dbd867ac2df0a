"""Shared inputs of jobs, loaded once per worker and kept while there is room for them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from storage.resources import put_resource, read_resource
from storage.store import Store

ResourceT = TypeVar("ResourceT")

MAX_KEPT_BYTES = 512 * 1024 * 1024
"""Maximum stored bytes to keep; the parsed objects are a small multiple of that in memory."""


_Key = tuple[tuple[str, ...], Callable[..., Any]]


@dataclass(slots=True)
class _Kept:
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while loading: a second job waits for the first instead of loading the same resource again."""
    value: Any = None
    num_bytes: int = 0
    is_loaded: bool = False


class StoredResources:
    """Implements jobs.kind.Resources over the store. Any thread may call it."""

    def __init__(self, store: Store, *, max_kept_bytes: int = MAX_KEPT_BYTES) -> None:
        self._store = store
        self._max_kept_bytes = max_kept_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        """Resources by digests and parser, the least recently used first."""

    def read(self, sha256: str) -> bytes:
        """Return the bytes of a resource without keeping them. Raises ResourceMissingError or StoreError."""
        return read_resource(self._store, sha256)

    def write(self, body: bytes, *, media_type: str) -> str:
        """Store a resource and return its digest. Raises StoreError."""
        return put_resource(self._store, body, media_type=media_type)

    def load(self, sha256: str, parse: Callable[[bytes], ResourceT]) -> ResourceT:
        """Return the parsed resource. Raises what `read` and `parse` raise, and then keeps nothing."""
        return self.load_together((sha256,), parse)

    def load_together(self, sha256s: tuple[str, ...], parse: Callable[..., ResourceT]) -> ResourceT:
        """Return what `parse` makes of several resources. Raises as `load` does."""
        key = (sha256s, parse)
        with self._lock:
            kept = self._kept.setdefault(key, _Kept())
            self._kept.move_to_end(key)
        with kept.lock:
            if not kept.is_loaded:
                bodies = [self.read(sha256) for sha256 in sha256s]
                kept.value, kept.num_bytes = parse(*bodies), sum(map(len, bodies))
                kept.is_loaded = True
        self._evict(key)
        return cast("ResourceT", kept.value)

    def _evict(self, in_use: _Key) -> None:
        """Drop the least recently used resources; jobs that hold one keep it alive."""
        with self._lock:
            total = sum(kept.num_bytes for kept in self._kept.values())
            for key in list(self._kept):
                if total <= self._max_kept_bytes:
                    return
                if key != in_use:
                    total -= self._kept.pop(key).num_bytes
