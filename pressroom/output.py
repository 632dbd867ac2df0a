"""Output files for the user: written completely or not at all, and never through a link in the folder.

Anyone who may write to an output folder can leave links in it, or replace the folder while a command runs.
So a folder is opened once, without following a link, and everything is done relative to its descriptor:
files are created (O_EXCL, O_NOFOLLOW) under a name that nobody can guess, and are then renamed into place,
which replaces a link but not the file that it points to.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from jobs.errors import ConfigurationError

LAST = "index.html"
"""File that is published after all others, so that its links work as soon as people can open it."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_EARLIER_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class OutputUnsafeError(ConfigurationError):
    """A link was found instead of a folder, and output would have gone to its target."""

    code = "output_unsafe"


@contextmanager
def opened_folder(folder: Path) -> Iterator[int]:
    """Yield a descriptor of the folder, created if it is missing. Raises OutputUnsafeError or OSError."""
    if not folder.is_symlink():
        folder.mkdir(parents=True, exist_ok=True)
    descriptor = _open_folder(folder, folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open_folder(name: Path | str, shown: Path, within: int | None = None) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=within)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        if not stat.S_ISLNK(os.stat(name, dir_fd=within, follow_symlinks=False).st_mode):
            raise
        target = os.readlink(name, dir_fd=within)
        raise OutputUnsafeError(
            f"{shown} is a link to {target}: give the folder itself, or remove the link"
        ) from error


class NewFile:
    """A UTF-8 text file that is being written; it replaces an earlier file when it is published."""

    def __init__(self, file: TextIO, partial: str, name: str, folder: int) -> None:
        self.file = file
        self._partial = partial
        self._name = name
        self._folder = folder

    def publish(self) -> None:
        """Close the file and rename it into place, where it replaces an earlier file."""
        self.file.close()
        if self._partial:
            os.replace(self._partial, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)


@contextmanager
def unpublished_file(path: Path) -> Iterator[NewFile]:
    """Yield a new file that is deleted at the end of the block unless the block publishes it.

    Raises OutputUnsafeError or OSError.
    """
    with opened_folder(path.parent) as folder:
        if _is_device(path.name, folder, path):
            with path.open("w", encoding="utf-8") as device:
                yield NewFile(device, "", path.name, folder)
            return
        partial = f".{path.name[:60]}-{secrets.token_hex(8)}"
        try:
            descriptor = os.open(partial, _NEW_FILE, 0o666, dir_fd=folder)
            with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
                yield NewFile(file, partial, path.name, folder)
        finally:
            _unlink(partial, folder)


@contextmanager
def new_file(path: Path) -> Iterator[TextIO]:
    """Yield a new UTF-8 text file that replaces an earlier one when the block ends without an error.

    Raises OutputUnsafeError or OSError.
    """
    with unpublished_file(path) as new:
        yield new.file
        new.publish()


def _is_device(name: str, folder: int, shown: Path) -> bool:
    """Return whether the file is a device such as /dev/null, which is written to in place.

    Raises OutputUnsafeError for a link under /dev, which must never be replaced.
    """
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISLNK(mode) and Path(os.readlink(f"/proc/self/fd/{folder}")).is_relative_to("/dev"):
        raise OutputUnsafeError(f"{shown} is a link below /dev, which is never replaced: name a regular file")
    return stat.S_ISCHR(mode)


def replace_text(path: Path, text: str) -> None:
    """Replace a file atomically: a reader sees either the earlier or the new text, never a part of it."""
    with new_file(path) as file:
        file.write(text)


def replace_bytes(path: Path, body: bytes) -> None:
    """Replace a file with bytes, atomically as `replace_text` does."""
    with unpublished_file(path) as new:
        new.file.buffer.write(body)
        new.publish()


def earlier_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file that an earlier run wrote, or none if `path` is not a regular file."""
    try:
        descriptor = os.open(path, _EARLIER_FILE)
    except OSError:
        return
    with open(descriptor, "rb") as lines:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            yield from lines


@dataclass(frozen=True, slots=True)
class NewFolder:
    """A folder that no other user may enter, inside an opened output folder."""

    path: Path
    """Path through the folder's descriptor, which stays valid even if folders are renamed."""
    _shown: Path
    _inner: int
    _outer: int

    def publish(self, stale: Iterable[str] = ()) -> None:
        """Move files and one level of folders into the output folder; remove stale files of an earlier run.

        Raises OutputUnsafeError or OSError.
        """
        for entry in sorted(os.scandir(self._inner), key=lambda entry: (entry.is_file(), entry.name == LAST)):
            if entry.is_file(follow_symlinks=False):
                os.replace(entry.name, entry.name, src_dir_fd=self._inner, dst_dir_fd=self._outer)
            else:
                self._publish_folder(entry.name)
        for name in stale:
            self._remove(name)

    def replace_folder(self, name: str) -> None:
        """Publish one of the inner folders in place of an earlier one, which is removed completely."""
        earlier = f".{name}-{secrets.token_hex(8)}"
        try:
            os.rename(name, earlier, src_dir_fd=self._outer, dst_dir_fd=self._outer)
        except FileNotFoundError:
            earlier = ""
        os.rename(name, name, src_dir_fd=self._inner, dst_dir_fd=self._outer)
        if earlier:
            _remove_tree(earlier, self._outer)

    def _publish_folder(self, name: str) -> None:
        with self._opened(name) as folder:
            source = os.open(name, _FOLDER, dir_fd=self._inner)
            try:
                for entry in os.listdir(source):
                    os.replace(entry, entry, src_dir_fd=source, dst_dir_fd=folder)
            finally:
                os.close(source)

    @contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        with suppress(FileExistsError):  # from an earlier run; _open_folder refuses a link
            os.mkdir(name, dir_fd=self._outer)
        descriptor = _open_folder(name, self._shown / name, self._outer)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _remove(self, relative: str) -> None:
        parent, _, name = relative.rpartition("/")
        if not parent:
            _unlink(name, self._outer)
            return
        with self._opened(parent) as folder:
            _unlink(name, folder)


@contextmanager
def new_folder(folder: Path) -> Iterator[NewFolder]:
    """Yield a new folder in which an export is written before it is published.

    It is inside the output folder, so that publishing needs only renames.

    Raises OutputUnsafeError or OSError.
    """
    name = f".export-{secrets.token_hex(8)}"
    with opened_folder(folder) as outer:
        os.mkdir(name, 0o700, dir_fd=outer)
        inner = os.open(name, _FOLDER, dir_fd=outer)
        try:
            yield NewFolder(Path(f"/proc/self/fd/{inner}"), folder, inner, outer)
        finally:
            os.close(inner)
            _remove_tree(name, outer)


def _unlink(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except (FileNotFoundError, IsADirectoryError):
        return


def _remove_tree(name: str, folder: int) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        shutil.rmtree(name, ignore_errors=True, dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)
