"""Objects below a prefix of a store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from jobs.documents.document import Document, KnownRecords
from jobs.documents.reading import OnNote
from jobs.errors import ConfigurationError
from jobs.rejection import Rejected
from jobs.sources import PrefixSource, SourceDownError, SourceRefusedError
from storage import open_store
from storage.store import (
    ObjectKeyError,
    ObjectNotFoundError,
    Store,
    StoreError,
    StoreRefusedError,
)
from workers.connectors.addresses import AddressRefusedError, UnreachableError, guard
from workers.connectors.file import is_document_file, read_leniently
from workers.connectors.variables import required_variable


def read_prefix_source(
    source: PrefixSource,
    *,
    own_store: Store,
    now: datetime,
    known: KnownRecords | None = None,
    on_note: OnNote | None = None,
) -> Iterator[Document | Rejected]:
    """Yield documents of every document file below the prefix, by key; an unusable file is a refused row.

    Raises SourceDownError, SourceRefusedError.
    """
    try:
        variable = source.url_variable
        store = own_store if variable is None else _store_of(source, variable)
        for key in store.keys(source.prefix):
            if is_document_file(PurePosixPath(key).name):
                yield from _read_object(store, key, source, now, known, on_note)
    except (AddressRefusedError, ConfigurationError, ObjectKeyError, StoreRefusedError) as error:
        raise SourceRefusedError(
            f"the prefix {source.prefix!r} cannot be read: {error}", code=error.code
        ) from error
    except (StoreError, UnreachableError) as error:
        raise SourceDownError(f"the store of the prefix {source.prefix!r} is down: {error}") from error


def _store_of(source: PrefixSource, variable: str) -> Store:
    """Return another store, in which no bucket is created and which is called only at checked addresses."""
    name = f"the store of {variable}"
    addresses = guard(what="store", name=name, allow_private=source.allow_private)
    return open_store(required_variable(variable), variable=variable, addresses=addresses, makes_bucket=False)


def _read_object(
    store: Store,
    key: str,
    source: PrefixSource,
    now: datetime,
    known: KnownRecords | None,
    on_note: OnNote | None,
) -> Iterator[Document | Rejected]:
    try:
        body = store.get(key)
    except (ObjectKeyError, ObjectNotFoundError) as error:  # of another bucket, or deleted meanwhile
        advice = "use lower-case names of letters, digits, . - _"
        yield Rejected(file=key, line=1, code=error.code, reason="cannot be read", advice=advice)
        return
    with TemporaryDirectory(prefix="pressroom-source-") as folder:
        path = Path(folder) / PurePosixPath(key).name
        path.write_bytes(body)
        del body  # the readers stream from the file

        def noted(note: str) -> None:
            if on_note is not None:
                on_note(note.replace(str(path), key))

        for read in read_leniently(path, source, now=now, known=known, on_note=noted):
            yield replace(read, file=key) if isinstance(read, Rejected) else read
