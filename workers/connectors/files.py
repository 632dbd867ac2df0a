"""Reads documents from files and folders on the worker's machine, and from objects in a store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from jobs.documents.document import Document, KnownRecords
from jobs.documents.reading import OnNote, read_documents
from jobs.errors import ConfigurationError
from jobs.intake.formats import CSV_SUFFIXES, FEED_SUFFIXES, JSON_SUFFIXES
from jobs.rejection import FileRejectedError, Rejected
from jobs.sources import FileSource, FilesPlace, PrefixSource, SourceDownError, SourceRefusedError
from storage import open_store
from storage.store import (
    ObjectKeyError,
    ObjectNotFoundError,
    Store,
    StoreError,
    StoreRefusedError,
)
from workers.connectors.addresses import (
    AddressGuard,
    AddressRefusedError,
    UnreachableError,
    required_variable,
)
from workers.settings import read_settings

SUFFIXES = JSON_SUFFIXES | FEED_SUFFIXES | CSV_SUFFIXES | {".parquet"}
"""Suffixes of the files that are read from a folder or below a prefix; other files there are ignored."""


def read_file_source(
    source: FileSource,
    *,
    now: datetime,
    known: KnownRecords | None = None,
    on_note: OnNote | None = None,
) -> Iterator[Document | Rejected]:
    """Yield the documents of a file, or of every document file of a folder in the order of their names.

    An unusable file of a folder is yielded as a refused row. Raises SourceRefusedError for a path that does
    not exist or is in Pressroom's home, SourceDownError for one that cannot be read now, and
    FileRejectedError if the source is a single file that is unusable.
    """
    path = Path(source.path).expanduser()
    try:
        _check_place(path)
        if path.is_dir():
            for child in sorted(path.iterdir()):
                if is_document_file(child.name) and child.is_file():
                    _check_place(child)
                    yield from read_leniently(child, source, now=now, known=known, on_note=on_note)
        elif path.exists():
            yield from _read(path, source, now=now, known=known, on_note=on_note)
        else:
            raise SourceRefusedError(
                f"{path} does not exist: create it, or correct the source", code="source_missing"
            )
    except OSError as error:
        raise SourceDownError(f"{path} cannot be read: {error.strerror or error}") from error


def _check_place(path: Path) -> None:
    """Raise SourceRefusedError for a path in Pressroom's home, and for anything but a file or folder.

    The home folder contains keys and passwords, so it is recognised even if a link leads to it.
    """
    if path.exists() and not path.is_dir() and not path.is_file():
        raise SourceRefusedError(
            f"{path} is neither a file nor a folder: write the documents to a file", code="file_not_regular"
        )
    home = read_settings().home
    if not home.exists():
        return
    real = path.resolve()
    if any(place.exists() and place.samefile(home) for place in (real, *real.parents)):
        raise SourceRefusedError(
            f"{path} is in Pressroom's home folder, which sources may not read: put the documents elsewhere",
            code="source_in_home",
        )


def is_document_file(name: str) -> bool:
    """Return whether a name is that of a document file; those of hidden and unfinished files are not.

    >>> is_document_file("news.csv.gz"), is_document_file(".news.csv"), is_document_file("news.csv.part")
    (True, False, False)
    """
    suffix = Path(name.lower().removesuffix(".gz")).suffix
    return suffix in SUFFIXES and not name.startswith(".")


def read_leniently(
    path: Path,
    place: FilesPlace,
    *,
    now: datetime,
    known: KnownRecords | None,
    on_note: OnNote | None = None,
) -> Iterator[Document | Rejected]:
    """Yield a file's documents, or a refused row if it is unusable, so that other files are still read."""
    try:
        yield from _read(path, place, now=now, known=known, on_note=on_note)
    except FileRejectedError as error:
        yield error.rejected


def _read(
    path: Path, place: FilesPlace, *, now: datetime, known: KnownRecords | None, on_note: OnNote | None
) -> Iterator[Document | Rejected]:
    return read_documents(
        path,
        now=now,
        columns=place.columns,
        date_order=place.date_order,
        known=known,
        on_note=on_note,
        options=place.file_options,
    )


def read_prefix_source(
    source: PrefixSource,
    *,
    own_store: Store,
    now: datetime,
    known: KnownRecords | None = None,
    on_note: OnNote | None = None,
) -> Iterator[Document | Rejected]:
    """Yield the documents of every document file below the prefix, in the order of keys.

    An unusable file is yielded as a refused row. Raises SourceDownError and SourceRefusedError.
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
        raise SourceDownError(f"the store of the prefix {source.prefix!r} is unavailable: {error}") from error


def _store_of(source: PrefixSource, variable: str) -> Store:
    """Open the store whose URL is in the variable, at checked addresses and without creating a bucket."""
    name = f"the store of {variable}"
    guard = AddressGuard(what="store", name=name, allow_private=source.allow_private)
    return open_store(
        required_variable(variable), variable=variable, addresses=guard.address_texts, makes_bucket=False
    )


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
    except (ObjectKeyError, ObjectNotFoundError) as error:  # a key of another program, or a deleted object
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
