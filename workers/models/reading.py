"""Reads a model's files: each is opened once, without following a link, and digested while it is read.

The loaded bytes are thus the verified ones: nobody can replace a file between the check and the loading, or
while it is read.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from jobs.errors import PermanentError

MAX_SETTINGS_BYTES = 64 * 1024 * 1024
"""Maximum size of a file other than weights. The largest tokenizer.json files in use (256,000 tokens) are
about 35 MB."""

_CHUNK_BYTES = 16 * 1024 * 1024

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotAFileError(PermanentError):
    """A link, a folder, a named pipe or a device was found in place of a model's file."""

    code = "model_file_irregular"


class MalformedFileError(PermanentError):
    """A model file contradicts its own format."""

    code = "model_file_malformed"


class WeightsDigestError(PermanentError):
    """A model's files have changed since the installation, or differ from those that are required."""

    code = "weights_digest_mismatch"


def kind_of(path: Path) -> str:
    """Describe what is at the path; a link is not followed.

    >>> kind_of(Path("/dev/null"))
    'a device'
    """
    return _KINDS.get(stat.S_IFMT(path.lstat().st_mode), "a file")


def open_regular(path: Path) -> int:
    """Return a descriptor of a regular file, without blocking or following a link at the end of the path.

    Raises NotAFileError, or OSError as os.open does.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):  # checked first, because opening a device can have effects
            raise _irregular(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _irregular(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _irregular(path)
    return descriptor


def read_digested(path: Path, *, max_bytes: int | None = MAX_SETTINGS_BYTES) -> tuple[bytearray, str]:
    """Return all bytes of a regular file, read once, and their SHA-256 in lower-case hex.

    Raises NotAFileError, MalformedFileError or OSError.
    """
    digest = hashlib.sha256()
    with open(open_regular(path), "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if max_bytes is not None and size > max_bytes:
            raise MalformedFileError(f"{path} has {size} bytes, but such a file may have at most {max_bytes}")
        body = bytearray(size)
        view, position = memoryview(body), 0
        while position < size and (count := file.readinto(view[position : position + _CHUNK_BYTES])):
            digest.update(view[position : position + count])  # now, while the bytes are in the CPU's cache
            position += count
        view.release()
    del body[position:]
    return body, digest.hexdigest()


class ModelFiles:
    """The files of a model folder, as a loader reads them.

    `digests` are those of the manifest: WeightsDigestError is raised for a file that has changed or is not in
    the manifest. Without `digests`, any file is read.
    """

    def __init__(self, folder: Path, digests: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._digests = digests
        self.read_digests: dict[str, str] = {}
        """SHA-256 in lower-case hex of every file that has been read, by name."""

    def has(self, name: str) -> bool:
        """Return whether the file exists; a link or folder of that name counts, but cannot be read."""
        return name in self._digests if self._digests is not None else os.path.lexists(self.folder / name)

    def read(self, name: str, *, max_bytes: int | None = MAX_SETTINGS_BYTES) -> bytearray:
        """Return the whole file. Raises WeightsDigestError, NotAFileError, MalformedFileError or OSError."""
        path = self.folder / name
        try:
            body, digest = read_digested(path, max_bytes=max_bytes)
        except FileNotFoundError as error:
            raise MalformedFileError(f"{path} is missing: install the model again") from error
        if self._digests is not None and (expected := self._digests.get(name)) != digest:
            fault = f"has the sha256 {digest}, but the manifest lists {expected}: it was changed"
            if expected is None:
                fault = "is not listed in the manifest: it was added"
            raise WeightsDigestError(
                f"{path} {fault} after the installation; delete {self.folder} and run `pressroom models add "
                f"{self.folder.name}`"
            )
        self.read_digests[name] = digest
        return body


def _irregular(path: Path) -> NotAFileError:
    return NotAFileError(
        f"{path} is {kind_of(path)}: a model consists of regular files in one folder; put the file "
        "itself there"
    )
