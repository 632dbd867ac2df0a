"""Resources: inputs that the jobs of a batch share, stored once under their content's digest."""

from __future__ import annotations

import hashlib

from jobs.errors import PermanentError
from storage.store import ObjectNotFoundError, Store


class ResourceMissingError(PermanentError):
    """A job's shared input is not in the store, or is not what it was."""

    code = "resource_missing"


def resource_key(sha256: str) -> str:
    """Where a resource is; two digits of folder, as for artifacts.

    >>> resource_key("ab" * 32)[:16]
    'resources/ab/aba'
    """
    return f"resources/{sha256[:2]}/{sha256}"


def put_resource(store: Store, body: bytes, *, media_type: str) -> str:
    """Store a resource and return its digest; one that is there already is not sent again."""
    sha256 = hashlib.sha256(body).hexdigest()
    if not store.exists(resource_key(sha256)):
        store.put(resource_key(sha256), body, media_type=media_type)
    return sha256


def read_resource(store: Store, sha256: str) -> bytes:
    """The bytes of a resource, or of the artifact with this digest: what one job makes a later one takes in.

    Raises ResourceMissingError or StoreError.
    """
    try:
        body = store.get(resource_key(sha256))
    except ObjectNotFoundError as error:
        key = _artifact_key(store, sha256)
        if key is None:
            raise ResourceMissingError(
                f"resource {sha256} is not in {store.location}: submit the batch again from its file"
            ) from error
        body = store.get(key)
    if hashlib.sha256(body).hexdigest() != sha256:
        raise ResourceMissingError(f"resource {sha256} in {store.location} has another digest: altered")
    return body


def _artifact_key(store: Store, sha256: str) -> str | None:
    """Where workers/publisher.py has put it; its statements begin with the same digest."""
    keys = store.keys(f"artifacts/{sha256[:2]}/{sha256}")
    return next((key for key in keys if not key.endswith(".statement.json")), None)
