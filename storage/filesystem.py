"""A store in a folder, for tests and for a single machine without an S3 server.

It is durable: the object's bytes, its name and every new folder are flushed before put() returns. It is
atomic: a reader never sees a half-written object. It has no presigned URLs, credentials or multipart uploads,
and does not store an object's media type, which Postgres stores anyway.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from storage.store import (
    ObjectEntry,
    ObjectKeyError,
    ObjectNotFoundError,
    StoreUnavailableError,
    check_key,
    check_prefix,
)

_TEMPORARY_PREFIX = ".new-"
"""Prefix of files that are being written. No part of a key begins with a dot, so a half-written file is never
mistaken for an object."""


class FilesystemStore:
    """A storage.store.Store that keeps each object as a file under the folder `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    @property
    def location(self) -> str:
        return self._root.as_uri()

    def put(self, key: str, body: bytes, *, media_type: str) -> None:  # noqa: ARG002 - Postgres keeps the media type
        path = self._path(key)
        try:
            _make_folder(path.parent)
            _write_durably(path, body)
        except (NotADirectoryError, FileExistsError, IsADirectoryError) as error:
            raise ObjectKeyError(
                f"object key {key!r} cannot be stored: no key may be a parent folder of another ({error})"
            ) from error
        except OSError as error:
            raise StoreUnavailableError(f"could not store {key!r} in {self.location}: {error}") from error

    def get(self, key: str) -> bytes:
        return self._read(key, 0, -1)

    def get_range(self, key: str, offset: int, num_bytes: int) -> bytes:
        return self._read(key, offset, num_bytes)

    def _read(self, key: str, offset: int, num_bytes: int) -> bytes:
        """Read `num_bytes` from the offset on; a negative number means all bytes up to the end."""
        try:
            with self._path(key).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                start = min(offset, size)
                file.seek(start)
                return file.read(size - start if num_bytes < 0 else min(num_bytes, size - start))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ObjectNotFoundError(f"there is no object {key!r} in {self.location}") from error
        except OSError as error:
            raise StoreUnavailableError(f"could not read {key!r} in {self.location}: {error}") from error

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def keys(self, prefix: str = "") -> Iterator[str]:
        check_prefix(prefix)
        folder, _, _ = prefix.rpartition("/")
        start = f"{folder}/" if folder else ""
        yield from self._walk(start, prefix)

    def entries(self, prefix: str = "") -> Iterator[ObjectEntry]:
        for key in self.keys(prefix):
            try:
                status = self._path(key).stat()
            except FileNotFoundError:
                continue  # deleted since it was listed
            except OSError as error:
                raise StoreUnavailableError(f"could not list {key!r} in {self.location}: {error}") from error
            yield ObjectEntry(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            path.unlink()
            _flush_folder(path.parent)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return
        except OSError as error:
            raise StoreUnavailableError(f"could not delete {key!r} in {self.location}: {error}") from error

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _walk(self, start: str, prefix: str) -> Iterator[str]:
        """Yield the keys in the folder `start` and its subfolders, sorted as strings, as in an S3 listing.

        `start` is "" or ends with a slash. Folders sort with their trailing slash, so `a.b` precedes `a/b`.
        """
        try:
            with os.scandir(self._root / start) as entries:
                names = sorted(
                    f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
                    for entry in entries
                    if not entry.name.startswith(".")
                )
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise StoreUnavailableError(f"could not list {self.location}/{start}: {error}") from error
        for name in names:
            path = start + name
            if name.endswith("/"):
                if path.startswith(prefix) or prefix.startswith(path):
                    yield from self._walk(path, prefix)
            elif path.startswith(prefix):
                yield path


def _make_folder(folder: Path) -> None:
    """Create the folder and its missing parents durably, by flushing the parent of each new folder."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _flush_folder(folder.parent)


def _write_durably(path: Path, body: bytes) -> None:
    """Write the file durably and atomically: write a temporary file, flush it, and rename it to the path."""
    temporary = path.parent / f"{_TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    try:
        with temporary.open("xb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Flush a folder, so that new and renamed entries in it are durable (fsync(2), NOTES)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
