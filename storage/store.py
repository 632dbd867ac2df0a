"""The contract of stores: immutable objects under keys that contain their content's digest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from jobs.errors import InputError, PermanentError, PressroomError, TransientError

MAX_KEY_CHARACTERS = 512
"""Maximum length of a key. S3 allows 1,024 bytes; half of that leaves room for a deployment's own bucket
prefix."""

PROBE_KEY = "checks/access"
PROBE = b"Pressroom may read and write here.\n"
"""Content of the object at PROBE_KEY. Each process writes it when it starts, and nothing deletes it."""

PROBE_RANGE = (10, 18)
"""Start and end of the part of the probe that is read to check that the store serves ranges."""

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")


class ObjectKeyError(InputError):
    """A key that some store cannot use, or would confuse with another key."""

    code = "object_key_invalid"


class ObjectNotFoundError(PermanentError):
    """No object is stored under this key."""

    code = "object_not_found"


class StoreError(PressroomError):
    """The store failed to carry out a request."""

    code = "store_failed"


class StoreUnavailableError(StoreError, TransientError):
    """The store did not answer, or it refuses a kind of request that it allowed before."""

    code = "store_unavailable"


class StoreRefusedError(StoreError, PermanentError):
    """The store refuses a kind of request that it has never allowed in this process.

    A permission is missing, or the keys, the bucket or the host are wrong.
    """

    code = "store_refused"


def check_key(key: str) -> str:
    """Return the key if every store can use it, else raise ObjectKeyError.

    >>> check_key("artifacts/ab/abcd.md")
    'artifacts/ab/abcd.md'
    """
    if len(key) > MAX_KEY_CHARACTERS or not _KEY.fullmatch(key):
        raise ObjectKeyError(
            f"object key {key[:80]!r} is not valid: use at most {MAX_KEY_CHARACTERS} lower-case letters, "
            "digits, . - and _, in parts joined by single slashes, each beginning with a letter or digit"
        )
    return key


def check_prefix(prefix: str) -> str:
    """Return the prefix if a valid key can begin with it, else raise ObjectKeyError.

    >>> check_prefix("artifacts/ab/")
    'artifacts/ab/'
    """
    if prefix:
        check_key(prefix.removesuffix("/"))
    return prefix


class RangesUnsupportedError(StoreRefusedError):
    """The store does not serve ranges of an object, or serves wrong ones."""

    code = "store_ranges_unsupported"


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """An object in a listing."""

    key: str
    num_bytes: int
    stored_at: datetime
    """When the object was last stored, by the store's clock."""


class Store(Protocol):
    """Stores immutable objects under their keys. Any thread may call it.

    Its methods raise ObjectKeyError, ObjectNotFoundError, StoreUnavailableError or StoreRefusedError.
    """

    @property
    def location(self) -> str:
        """Location of the store, without secrets, for messages."""
        ...

    def put(self, key: str, body: bytes, *, media_type: str) -> None:
        """Store the object durably. Storing the same body under the same key again is not an error."""
        ...

    def get(self, key: str) -> bytes:
        """Return the object's bytes."""
        ...

    def get_range(self, key: str, offset: int, num_bytes: int) -> bytes:
        """Return a part of the object: fewer bytes, or none, if the object ends before the part does."""
        ...

    def exists(self, key: str) -> bool:
        """Return whether an object is stored under the key; False if the store does not reveal this."""
        ...

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Yield all keys that start with the prefix, sorted as strings."""
        ...

    def entries(self, prefix: str = "") -> Iterator[ObjectEntry]:
        """Yield an entry for each key that `keys` yields, with the size and the time of the object."""
        ...

    def delete(self, key: str) -> None:
        """Delete the object. It is not an error if there is no object under the key."""
        ...


def store_clock(store: Store) -> datetime:
    """Return the current time by the store's clock, taken from an object that is stored for this purpose.

    Raises StoreRefusedError or StoreUnavailableError.
    """
    store.put(PROBE_KEY, PROBE, media_type="text/plain")
    for entry in store.entries(PROBE_KEY):
        if entry.key == PROBE_KEY:
            return entry.stored_at
    raise StoreUnavailableError(
        f"{store.location} does not list the object {PROBE_KEY!r} that was just stored, so the age of its "
        "objects is unknown: try again later"
    )


def check_access(store: Store) -> None:
    """Store and read a small object, so that missing permissions are reported before hours of work.

    Raises StoreRefusedError or StoreUnavailableError.
    """
    store.put(PROBE_KEY, PROBE, media_type="text/plain")
    if store.get(PROBE_KEY) != PROBE:
        raise StoreRefusedError(
            f"{store.location} returned different data from what was stored, so it is not an S3 server: "
            "correct its URL"
        )
    start, end = PROBE_RANGE
    if store.get_range(PROBE_KEY, start, end - start) != PROBE[start:end]:
        raise RangesUnsupportedError(
            f"{store.location} does not return the requested range of an object, which is needed to read "
            "small results: use an S3 server that supports the Range header"
        )
