"""Files for the user: new ones, whole or not at all, and never through a link that was left in the folder.

Whoever may write to an output folder can leave links in it, or put another folder in its place while a
command runs. So a folder is opened once, without following a link, and all is done relative to what was
opened: files are new (O_EXCL, O_NOFOLLOW) under a name that nobody can guess, and take their places by
renaming, which replaces a link and leaves alone what it points to.
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
"""Takes its place after all other files: people open it, and its links are good by then."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_EARLIER_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class OutputUnsafeError(ConfigurationError):
    """Where a folder was expected there is a link, and output would go to where it points."""

    code = "output_unsafe"


@contextmanager
def opened_folder(folder: Path) -> Iterator[int]:
    """A descriptor of the folder, which is made if it is missing. Raises OutputUnsafeError or OSError."""
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
    """A text file in UTF-8, in the making: it takes the place of an earlier one when it is told so."""

    def __init__(self, file: TextIO, partial: str, name: str, folder: int) -> None:
        self.file = file
        self._partial = partial
        self._name = name
        self._folder = folder

    def publish(self) -> None:
        """Take the place of the earlier one; write no more."""
        self.file.close()
        if self._partial:
            os.replace(self._partial, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)


@contextmanager
def unpublished_file(path: Path) -> Iterator[NewFile]:
    """A file that goes away at the end of the block unless it is published in it.

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
    """A text file in UTF-8 that takes the place of an earlier one when the block ends without an error.

    Raises OutputUnsafeError or OSError.
    """
    with unpublished_file(path) as new:
        yield new.file
        new.publish()


def _is_device(name: str, folder: int, shown: Path) -> bool:
    """Whether it is /dev/null or the like, which is written to; a link of the system's is never replaced."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISLNK(mode) and Path(os.readlink(f"/proc/self/fd/{folder}")).is_relative_to("/dev"):
        raise OutputUnsafeError(f"{shown} is a link of the system's: name a file")
    return stat.S_ISCHR(mode)


def replace_text(path: Path, text: str) -> None:
    """Write a file of which a reader sees the earlier or the new text, never a part."""
    with new_file(path) as file:
        file.write(text)


def replace_bytes(path: Path, body: bytes) -> None:
    """Replace a file as `replace_text` does, by bytes."""
    with unpublished_file(path) as new:
        new.file.buffer.write(body)
        new.publish()


def earlier_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file of an earlier run; none where there is no regular file."""
    try:
        descriptor = os.open(path, _EARLIER_FILE)
    except OSError:
        return
    with open(descriptor, "rb") as lines:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            yield from lines


@dataclass(frozen=True, slots=True)
class NewFolder:
    """A folder that nobody else may enter, within an output folder that was opened."""

    path: Path
    """Through its descriptor: it stays the same folder whatever is renamed."""
    _shown: Path
    _inner: int
    _outer: int

    def publish(self, stale: Iterable[str] = ()) -> None:
        """Move all that is in it into place, a level of folders too; remove what is stale of an earlier run.

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
        """Put a folder that is in it in the place of an earlier one, of which nothing stays."""
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
        with suppress(FileExistsError):  # of an earlier run; a link is refused next
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
    """Where an export is written before it is published; in the folder itself, so that renaming is enough.

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
