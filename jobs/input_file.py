"""A file that somebody names as input: opened without waiting, and only if it can be read to an end."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import stat
import tempfile
import tomllib
from pathlib import Path
from typing import Any, BinaryIO

from jobs.rejection import FileRejectedError, Rejected

STDIN = Path("/dev/stdin")

MAX_PIPED_BYTES = 16 * 2**30
"""What is kept of a pipe, on disk; the largest inputs that were met have a tenth of it."""

MAX_TOML_BYTES = 4 * 2**20
"""Settings that people write have a few KB."""

_OWN_DESCRIPTOR = re.compile(r"/dev/(?:stdin|fd/\d{1,9})|/proc/self/fd/\d{1,9}")
"""How a shell passes what it has opened: `-`, `/dev/stdin`, and `<(...)`."""

_BUFFER_BYTES = 2**15
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)

_kept: dict[tuple[int, int], BinaryIO] = {}
"""What came through the pipes of this process, by device and inode of the pipe."""


def refuse_file(path: Path, code: str, reason: str, advice: str, line: int = 1) -> FileRejectedError:
    """The error for a whole file."""
    return FileRejectedError(Rejected(file=str(path), line=line, code=code, reason=reason, advice=advice))


def open_input(path: Path) -> io.BufferedReader:
    """Open a regular file, or what a pipe of this process brought; the result can be sought in.

    A pipe is a descriptor that the process was started with (`/dev/stdin`, `/dev/fd/63`). What it brings is
    kept in a temporary file until the process ends, so that it can be opened several times.
    Raises FileRejectedError: `file_unreadable`; `file_not_regular` for folders, named pipes, devices and
    sockets, which are not opened; `body_too_large` for a pipe without an end.
    """
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            return _open_regular(path)
        if _is_own_pipe(path, status.st_mode):
            key = (status.st_dev, status.st_ino)
            if key not in _kept:
                _kept[key] = _copy_pipe(path)
            return _reopened(_kept[key])
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _unreadable(path, error) from error
    raise _not_regular(path, status.st_mode)


def check_input(path: Path) -> None:
    """Raise as open_input does for what is no file that can be read, without reading it."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not _is_own_pipe(path, mode):
            raise _not_regular(path, mode)
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def read_input(path: Path, max_bytes: int) -> bytes:
    """The whole of a small file, such as settings. Raises as open_input, and `body_too_large`."""
    with open_input(path) as file:
        body = file.read(max_bytes + 1)
    if len(body) > max_bytes:
        raise refuse_file(path, "body_too_large", f"has more than {max_bytes:,} bytes", "split it")
    return body


def digest_of(path: Path) -> str:
    """The digest of a file of any size. Raises as open_input."""
    with open_input(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


TOML_ERRORS = (ValueError, RecursionError)
"""What tomllib raises for bad text: not only its own error, but ValueError for an integer of 5,000 digits."""


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises as read_input, and TOML_ERRORS."""
    return tomllib.loads(read_input(path, MAX_TOML_BYTES).decode("utf-8-sig"))


def _open_regular(path: Path) -> io.BufferedReader:
    # Whatever took the file's place meanwhile neither blocks nor becomes the terminal.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise _not_regular(path, mode)
    return io.BufferedReader(io.FileIO(descriptor), _BUFFER_BYTES)


def _unreadable(path: Path, error: Exception) -> FileRejectedError:
    reason = f"cannot be opened: {getattr(error, 'strerror', None) or error}"
    return refuse_file(path, "file_unreadable", reason, "check the path and its permissions")


def _not_regular(path: Path, mode: int) -> FileRejectedError:
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "no regular file")
    advice = "name a file" if stat.S_ISDIR(mode) else "name a file, or pipe its content in and name it -"
    return refuse_file(path, "file_not_regular", f"is {kind}", advice)


def _is_own_pipe(path: Path, mode: int) -> bool:
    is_pipe = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
    return is_pipe and _OWN_DESCRIPTOR.fullmatch(str(path)) is not None


def _copy_pipe(path: Path) -> BinaryIO:
    descriptor = 0 if path == STDIN else int(path.name)
    copy = tempfile.TemporaryFile(prefix="pressroom-pipe-")  # noqa: SIM115 - its readers close it
    with os.fdopen(os.dup(descriptor), "rb", buffering=0) as pipe:
        num_bytes = 0
        while chunk := pipe.read(2**20):
            num_bytes += len(chunk)
            if num_bytes > MAX_PIPED_BYTES:
                copy.close()
                reason = f"brings more than {MAX_PIPED_BYTES:,} bytes"
                raise refuse_file(path, "body_too_large", reason, "write it to files, and name these")
            copy.write(chunk)
    copy.seek(0)
    return copy


def _reopened(copy: BinaryIO) -> io.BufferedReader:
    """The copy from its beginning, with a position of its own."""
    descriptor = os.open(f"/proc/self/fd/{copy.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
    return io.BufferedReader(io.FileIO(descriptor), _BUFFER_BYTES)
