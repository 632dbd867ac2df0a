"""Where artifacts are kept: immutable objects under keys that contain their content's digest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

from jobs.errors import InputError, PermanentError, PressroomError, TransientError

MAX_KEY_CHARACTERS = 512
"""S3 allows 1,024 bytes; half of it leaves room for a bucket prefix of the deployment's own."""

PROBE_KEY = "checks/access"
PROBE = b"Pressroom may read and write here.\n"
"""Written again by each process that starts, and never deleted."""

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")


class ObjectKeyError(InputError):
    """A key that some store could not hold, or could hold twice."""

    code = "object_key_invalid"


class ObjectNotFoundError(PermanentError):
    """No object is stored under this key."""

    code = "object_not_found"


class StoreError(PressroomError):
    """The store could not do as asked."""

    code = "store_failed"


class StoreUnavailableError(StoreError, TransientError):
    """The store did not answer, or refuses what it did before."""

    code = "store_unavailable"


class StoreRefusedError(StoreError, PermanentError):
    """The store refuses what it never did in this process: a permission, keys, bucket or host are wrong."""

    code = "store_refused"


def check_key(key: str) -> str:
    """Return the key if every store can hold it, else raise ObjectKeyError.

    >>> check_key("artifacts/ab/abcd.md")
    'artifacts/ab/abcd.md'
    """
    if len(key) > MAX_KEY_CHARACTERS or not _KEY.fullmatch(key):
        raise ObjectKeyError(
            f"object key {key[:80]!r} is not usable: lower-case letters, digits, . - _ in parts "
            f"joined by single slashes, each beginning with a letter or digit, {MAX_KEY_CHARACTERS} at most"
        )
    return key


def check_prefix(prefix: str) -> str:
    """Return the prefix if some usable key begins with it, else raise ObjectKeyError.

    >>> check_prefix("artifacts/ab/")
    'artifacts/ab/'
    """
    if prefix:
        check_key(prefix.removesuffix("/"))
    return prefix


class Store(Protocol):
    """Holds objects. Any thread may call it.

    Raises ObjectKeyError, ObjectNotFoundError, StoreUnavailableError or StoreRefusedError.
    """

    @property
    def location(self) -> str:
        """Where it is, for people; without secrets."""
        ...

    def put(self, key: str, body: bytes, *, media_type: str) -> None:
        """Store the object durably; the same key with the same body again is no error."""
        ...

    def get(self, key: str) -> bytes:
        """The object's bytes."""
        ...

    def exists(self, key: str) -> bool:
        """Whether an object is stored under the key; False, too, if the store does not tell."""
        ...

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Every key that starts with the prefix, in order, streamed."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; no error if it is not there."""
        ...


def check_access(store: Store) -> None:
    """Store a small object and read it, so that what is missing is told before hours of work.

    Raises StoreRefusedError or StoreUnavailableError.
    """
    store.put(PROBE_KEY, PROBE, media_type="text/plain")
    if store.get(PROBE_KEY) != PROBE:
        raise StoreRefusedError(
            f"{store.location} returns something else than was stored: this is no S3 server; correct its URL"
        )
