"""Where artifacts are kept: immutable objects under keys that contain their content's digest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

from jobs.errors import InputError, PermanentError, TransientError

MAX_KEY_CHARACTERS = 512
"""S3 allows 1,024 bytes; half of it leaves room for a bucket prefix of the deployment's own."""

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")


class ObjectKeyError(InputError):
    """A key that some store could not hold, or could hold twice."""

    code = "object_key_invalid"


class ObjectNotFoundError(PermanentError):
    """No object is stored under this key."""

    code = "object_not_found"


class StoreError(TransientError):
    """The store did not answer, or refused for now."""

    code = "store_unavailable"


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
    """Holds objects. Any thread may call it. Raises ObjectKeyError, ObjectNotFoundError or StoreError."""

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
        """Whether an object is stored under the key."""
        ...

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Every key that starts with the prefix, in order, streamed."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; no error if it is not there."""
        ...
