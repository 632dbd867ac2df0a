"""Resources: inputs that the jobs of a batch share, stored once under their content's digest."""

from __future__ import annotations

import hashlib
from contextlib import suppress

from jobs.errors import PermanentError, PressroomError
from storage.store import ObjectNotFoundError, Store, StoreRefusedError

NUM_READS = 2
"""Of bytes with another digest: what was mixed up on its way is whole the second time."""


class ResourceMissingError(PermanentError):
    """A job's shared input is not in the store, or is not what it was."""

    code = "resource_missing"


def resource_key(sha256: str) -> str:
    """Where a resource is; two digits of folder, as for artifacts.

    >>> resource_key("ab" * 32)[:16]
    'resources/ab/aba'
    """
    return f"resources/{sha256[:2]}/{sha256}"


def artifact_key(sha256: str) -> str:
    """Where an artifact is: its digest alone finds it; two digits of folder keep a listing of files short.

    >>> artifact_key("ab" * 32)[:16]
    'artifacts/ab/aba'
    """
    return f"artifacts/{sha256[:2]}/{sha256}"


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
    for _ in range(NUM_READS):
        body = _read(store, sha256)
        if hashlib.sha256(body).hexdigest() == sha256:
            return body
    raise ResourceMissingError(f"resource {sha256} in {store.location} has another digest: altered")


def _read(store: Store, sha256: str) -> bytes:
    """Read from the first place that has it; without the permission to list, listing is left out."""
    missing: PressroomError | None = None
    for key in (resource_key(sha256), artifact_key(sha256)):
        try:
            return store.get(key)
        except (ObjectNotFoundError, StoreRefusedError) as error:  # forbidden: it may just not be there
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
    """Return the key of an artifact that an earlier version stored with the suffix of its name."""
    keys = store.keys(artifact_key(sha256))
    return next((key for key in keys if not key.endswith(".statement.json")), None)
