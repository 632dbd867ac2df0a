"""Resources: inputs that the jobs of a batch share. Each is stored once, under the digest of its content."""

from __future__ import annotations

import hashlib
from contextlib import suppress

from jobs.errors import PermanentError, PressroomError
from storage.store import ObjectNotFoundError, Store, StoreRefusedError

NUM_READS = 2
"""Maximum number of times that a resource is read until its digest matches. If the bytes were corrupted in
transit, a second read corrects that."""


class ResourceMissingError(PermanentError):
    """A resource of a job is not in the store, or it has been altered."""

    code = "resource_missing"


def resource_key(sha256: str) -> str:
    """Return the key of a resource, in a folder named after the first two digits, as for artifacts.

    >>> resource_key("ab" * 32)[:16]
    'resources/ab/aba'
    """
    return f"resources/{sha256[:2]}/{sha256}"


def artifact_key(sha256: str) -> str:
    """Return the key of an artifact, which depends only on its digest.

    Folders named after the first two digits keep directory listings short.

    >>> artifact_key("ab" * 32)[:16]
    'artifacts/ab/aba'
    """
    return f"artifacts/{sha256[:2]}/{sha256}"


def put_resource(store: Store, body: bytes, *, media_type: str) -> str:
    """Store a resource and return its digest. A resource that is already stored is not sent again."""
    sha256 = hashlib.sha256(body).hexdigest()
    if not store.exists(resource_key(sha256)):
        store.put(resource_key(sha256), body, media_type=media_type)
    return sha256


def read_resource(store: Store, sha256: str) -> bytes:
    """Return the bytes of a resource, or of the artifact with this digest.

    Artifacts are included because a later job may read what an earlier one produced. Raises
    ResourceMissingError or StoreError.
    """
    for _ in range(NUM_READS):
        body = _read(store, sha256)
        if hashlib.sha256(body).hexdigest() == sha256:
            return body
    raise ResourceMissingError(
        f"resource {sha256} in {store.location} has the wrong digest: it was altered; submit the batch "
        "again from its file"
    )


def _read(store: Store, sha256: str) -> bytes:
    """Read the object under the first key that exists. Finding a key that an earlier version of Pressroom
    wrote requires the permission to list."""
    missing: PressroomError | None = None
    for key in (resource_key(sha256), artifact_key(sha256)):
        try:
            return store.get(key)
        except (ObjectNotFoundError, StoreRefusedError) as error:  # a forbidden object may just be missing
            missing = missing or error
    with suppress(StoreRefusedError):
        earlier = _earlier_key(store, sha256)
        if earlier is not None:
            return store.get(earlier)
    if isinstance(missing, StoreRefusedError):
        raise missing
    raise ResourceMissingError(
        f"resource {sha256} is not in {store.location}: submit the batch again from its file"
    ) from missing


def _earlier_key(store: Store, sha256: str) -> str | None:
    """Return the artifact's key as earlier versions wrote it, with a file suffix; None if there is none."""
    keys = store.keys(artifact_key(sha256))
    return next((key for key in keys if not key.endswith(".statement.json")), None)
