"""Opens input files, and reads their text in UTF-8 as lines of limited length.

A file is opened without blocking. Named pipes and devices are refused, because they may have no end.
Encodings, line ends and gzip are converted while the file is read.
"""

from __future__ import annotations

import codecs
import errno
import gzip
import hashlib
import io
import os
import re
import stat
import tempfile
import tomllib
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from jobs.intake.dialect import AS_FOUND, Dialect, FileOptions, announced_delimiter, sniff_dialect
from jobs.intake.formats import (
    UTF_8,
    Format,
    NewlineStream,
    Utf8Stream,
    judge_lines,
    recognise_bytes,
    recognise_text,
    sniff_encoding,
)
from jobs.rejection import FileRejectedError, refuse_file, snippet

STDIN = Path("/dev/stdin")

MAX_PIPED_BYTES = 16 * 2**30
"""Maximum size of the input from a pipe, which is copied to disk: ten times the largest input seen so far."""

MAX_TOML_BYTES = 4 * 2**20
"""Maximum size of a TOML file. Settings that people write take a few KB."""

_OWN_DESCRIPTOR = re.compile(r"/dev/(?:stdin|fd/\d{1,9})|/proc/self/fd/\d{1,9}")
"""Matches the paths of files that a shell has opened and passes on, for `-`, `/dev/stdin` or `<(...)`."""

_BUFFER_BYTES = 2**15
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)

_kept: dict[tuple[int, int], BinaryIO] = {}
"""Copies of the input from this process's pipes, by device and inode of the pipe."""


def open_input(path: Path) -> io.BufferedReader:
    """Open a regular file, or the input from a pipe of this process, as a seekable stream.

    A pipe of this process is a descriptor that it was started with (`/dev/stdin`, `/dev/fd/63`). The input is
    kept in a temporary file until the process ends, so that it can be opened several times.
    Raises FileRejectedError: `file_unreadable`; `file_not_regular` for folders, named pipes, devices and
    sockets, which are not opened; `body_too_large` for more than MAX_PIPED_BYTES from a pipe.
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
    except (OSError, ValueError) as error:  # a NUL in the name raises ValueError
        raise _unreadable(path, error) from error
    raise _not_regular(path, status.st_mode)


def check_input(path: Path) -> None:
    """Check that a path can be read, without reading it. Raises the same errors as open_input."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not _is_own_pipe(path, mode):
            raise _not_regular(path, mode)
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def read_input(path: Path, max_bytes: int) -> bytes:
    """Return the content of a small file, such as settings.

    Raises the same errors as open_input, and `body_too_large` for more than `max_bytes`.
    """
    with open_input(path) as file:
        body = file.read(max_bytes + 1)
    if len(body) > max_bytes:
        raise refuse_file(path, "body_too_large", f"has more than {max_bytes:,} bytes", "split it")
    return body


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file of any size in hex. Raises the same errors as open_input."""
    with open_input(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


TOML_ERRORS = (ValueError, RecursionError)
"""Errors that tomllib raises for invalid text. ValueError includes integers with thousands of digits."""


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file. Raises the same errors as read_input, and TOML_ERRORS."""
    return tomllib.loads(read_input(path, MAX_TOML_BYTES).decode("utf-8-sig"))


def _open_regular(path: Path) -> io.BufferedReader:
    # If a device has replaced the file, opening it must not block, nor make it the controlling terminal.
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
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "not a regular file")
    advice = "give a file" if stat.S_ISDIR(mode) else "give a file, or - and pipe the content in"
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
                reason = f"has more than {MAX_PIPED_BYTES:,} bytes"
                raise refuse_file(
                    path, "body_too_large", reason, "write the data to files, and give their paths"
                )
            copy.write(chunk)
    copy.seek(0)
    return copy


def _reopened(copy: BinaryIO) -> io.BufferedReader:
    """Open the copy of a pipe's input again, with a separate position at its beginning."""
    descriptor = os.open(f"/proc/self/fd/{copy.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
    return io.BufferedReader(io.FileIO(descriptor), _BUFFER_BYTES)


MAX_LINE_BYTES = 4 * 2**20
"""Maximum size of a line, and of a CSV record that spans several lines: a hundred times the longest prompt
that a worker can process."""

MAX_GZIP_RATIO = 200
"""Maximum compression ratio of gzip files. Text has ratios of 3 to 20, and repetitive JSON of 50. The limit
of deflate is 1,032, and bombs come close to it."""

MIN_BYTES_FOR_RATIO = 4 * 2**20
"""Unpacked size below which the ratio is not checked. So few bytes are harmless, and small test files with
equal lines may have a high ratio."""

_GZIP_MAGIC = b"\x1f\x8b"
_SKIP_BYTES = 64 * 2**10
_SAMPLE_BYTES = 2**15
"""Size of the sample from which the encoding, the format and the dialect are detected."""
_SMALL_BYTES = 2**13
"""Size below which a sample is assumed to be the whole file. The last line of a longer sample may be cut off,
so it is not used."""
_QUOTED = re.compile(r'"[^"]*+(?:"|\Z)')


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file, as opposed to a CSV record, which may span several lines."""

    number: int
    """Line number, from 1."""
    text: str
    """Text with its line end. Bytes that are not UTF-8 become lone surrogates (PEP 383), which the caller has
    to refuse."""
    is_too_large: bool = False
    """Whether the line exceeded MAX_LINE_BYTES. Such a line is skipped, and its text is empty."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Several whole lines of a file."""

    first_line: int
    """Number of the first line, from 1."""
    body: bytes
    """The lines with their line ends; the last line of the file may lack one."""
    is_too_large: bool = False
    """Whether this is a single line that exceeded MAX_LINE_BYTES. Such a line is skipped, and `body` is
    empty."""


Opener = Callable[[Path], io.BufferedReader]
"""Function that opens a file. The returned stream starts at the file's beginning."""


@dataclass(slots=True)
class InputFile:
    """An opened file of records."""

    path: Path
    format: Format
    stream: io.BufferedReader
    """The file itself for Parquet; otherwise its text in UTF-8, without a byte order mark and with lines that
    end in LF."""
    options: FileOptions
    opener: Opener = open_input
    encoding: str = UTF_8
    dialect: Dialect = field(default_factory=Dialect)
    """Dialect of a CSV file; the default for other formats."""
    first_line: int = 1
    """Number of the first line of the stream."""
    is_judged: bool = False
    """Whether the whole file was checked and found to be in its apparent encoding, despite damaged lines."""

    def __str__(self) -> str:
        parts = [str(self.format)]
        if self.format is Format.CSV:
            parts.append(str(self.dialect))
        if self.format is not Format.PARQUET:
            parts.append(self.encoding.upper())
        return f"{snippet(self.path.name) or 'the file'}: {', '.join(parts)}"


@contextmanager
def open_file(
    path: Path, options: FileOptions = AS_FOUND, opener: Opener = open_input
) -> Iterator[InputFile]:
    """Open a file of records for the duration of the block, and detect its format.

    The opener may be called twice, and must open the file at its beginning each time. Raises
    FileRejectedError, also while the file is read: `file_unreadable`, `file_not_regular`, `format_unknown`,
    `gzip_malformed`, `body_too_large` (gzip bomb), `text_invalid_unicode` (an encoding that must be given).
    """
    with closing(opener(path)) as raw, _gzip_errors(path):
        file = _recognised(path, _unpacked(path, raw), options)
        file.opener = opener
        with closing(file.stream):
            if file.dialect != Dialect() or file.first_line > 1 or file.encoding != UTF_8:
                options.tell(str(file))
            yield file


def file_format(path: Path, options: FileOptions = AS_FOUND) -> Format:
    """Return the format of a file. Raises the same errors as open_file."""
    with open_file(path, options.quietly()) as file:
        return file.format


def read_physical_lines(file: InputFile) -> Iterator[Line]:
    """Stream the lines of an opened text file, one in memory at a time."""
    number = file.first_line - 1
    while chunk := file.stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(chunk) <= MAX_LINE_BYTES:
            yield Line(number, _decoded(file, chunk))
            continue
        if not chunk.endswith(b"\n"):
            _skip_line(file)
        yield Line(number, "", is_too_large=True)


def read_chunks(file: InputFile, *, chunk_bytes: int = MAX_LINE_BYTES) -> Iterator[Chunk]:
    """Stream an opened text file in chunks of whole lines, each of about `chunk_bytes`."""
    line, begun = file.first_line, b""
    while body := file.stream.read(chunk_bytes):
        whole, end, begin = body.rpartition(b"\n")
        if end:
            body, begun = begun + whole + end, begin
            if not file.is_judged and not body.isascii():
                _decoded(file, body)
            yield Chunk(line, body)
            line += body.count(b"\n")
            continue
        begun += body
        if len(begun) > MAX_LINE_BYTES:
            _skip_line(file)
            yield Chunk(line, b"", is_too_large=True)
            line, begun = line + 1, b""
    if begun:
        _decoded(file, begun)
        yield Chunk(line, begun)


def _skip_line(file: InputFile) -> None:
    """Read past the end of a line."""
    while (chunk := file.stream.readline(_SKIP_BYTES)) and not chunk.endswith(b"\n"):
        pass


def _decoded(file: InputFile, body: bytes) -> str:
    try:
        return body.decode(UTF_8)
    except UnicodeDecodeError:
        if not file.is_judged:
            file.is_judged = True
            _judge(file)
        return body.decode(UTF_8, "surrogateescape")


def _judge(file: InputFile) -> None:
    """Check the whole file, and refuse it if it is in a code page."""
    if file.encoding == UTF_8:
        quiet = replace(file.options.quietly(), encoding=UTF_8)
        with open_file(file.path, quiet, file.opener) as again:
            judge_lines(file.path, iter(lambda: again.stream.readline(MAX_LINE_BYTES), b""))


@contextmanager
def _gzip_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        reason = f"the gzip data is damaged or cut short: {error}"
        raise refuse_file(path, "gzip_malformed", reason, "compress or transfer the file again") from error


class _GunzipStream(io.RawIOBase):
    """Unpacks a gzip file, and refuses it if the content exceeds MAX_GZIP_RATIO times the compressed size."""

    def __init__(self, path: Path, raw: BinaryIO) -> None:
        self._path = path
        self._raw = raw
        self._gzip = gzip.GzipFile(fileobj=raw, mode="rb")
        self._num_bytes = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read like io.RawIOBase. Raises FileRejectedError for a gzip bomb."""
        body = self._gzip.read(len(buffer))
        buffer[: len(body)] = body
        self._num_bytes += len(body)
        if self._num_bytes > max(MIN_BYTES_FOR_RATIO, MAX_GZIP_RATIO * self._raw.tell()):
            reason = f"unpacks to more than {MAX_GZIP_RATIO} times its size"
            raise refuse_file(
                self._path, "body_too_large", reason, "unpack the file and check it, or split it"
            )
        return len(body)


def _unpacked(path: Path, raw: io.BufferedReader) -> io.BufferedReader:
    if raw.peek(2)[:2] == _GZIP_MAGIC:
        return _buffered(_GunzipStream(path, raw))
    if path.suffix.lower() == ".gz" and raw.peek(1):
        reason = "is named .gz but is not gzip"
        raise refuse_file(path, "gzip_malformed", reason, "compress it, or rename it")
    return raw


def _buffered(stream: io.RawIOBase) -> io.BufferedReader:
    return io.BufferedReader(stream, _SAMPLE_BYTES)


def _recognised(path: Path, stream: io.BufferedReader, options: FileOptions) -> InputFile:
    head = stream.peek(_SAMPLE_BYTES)
    if recognise_bytes(path, head) is Format.PARQUET:
        return InputFile(path, Format.PARQUET, _seekable(stream), options)
    encoding = options.encoding or sniff_encoding(path, head)
    if encoding != UTF_8:
        if not encoding.startswith("utf") and _is_utf_8(head):
            options.tell(f"{snippet(path.name) or 'the file'}: seems to be UTF-8, but is read as {encoding}")
        stream = _buffered(Utf8Stream(path, stream, encoding))
    elif head.startswith(b"\xef\xbb\xbf"):
        stream.read(3)
    sample = _sample(stream)
    if _ends_in_cr(sample):
        stream = _buffered(NewlineStream(stream))
        sample = _sample(stream)
    file = InputFile(path, recognise_text(path, sample), stream, options, encoding=encoding)
    if file.format is Format.CSV:
        _find_dialect(file, sample)
    return file


def _is_utf_8(head: bytes) -> bool:
    """Return whether the text is valid UTF-8 and contains more than ASCII.

    The last character may be cut off.
    """
    try:
        codecs.getincrementaldecoder(UTF_8)().decode(head)
    except UnicodeDecodeError:
        return False
    return not head.isascii()


def _seekable(stream: io.BufferedReader) -> io.BufferedReader:
    if isinstance(stream.raw, io.FileIO) and stream.seekable():
        return stream
    copy = tempfile.TemporaryFile(prefix="pressroom-unpacked-")  # noqa: SIM115 - its reader closes it
    while chunk := stream.read(2**20):
        copy.write(chunk)
    copy.seek(0)
    return copy  # type: ignore[return-value]  # it has the same methods


def _sample(stream: io.BufferedReader) -> str:
    """Return whole lines from the beginning of the text, or the beginning of a line that is very long."""
    head = stream.peek(_SAMPLE_BYTES)[:_SAMPLE_BYTES]
    lines, end, _ = head.rpartition(b"\n")
    is_whole = len(head) < _SMALL_BYTES
    return (head if is_whole or not end else lines + end).decode(UTF_8, "replace")


def _ends_in_cr(sample: str) -> bool:
    if "\r" not in sample.replace("\r\n", ""):
        return False
    return "\n" not in _QUOTED.sub("", sample) if "\n" in sample else True


def _find_dialect(file: InputFile, sample: str) -> None:
    delimiter = announced_delimiter(sample.partition("\n")[0])
    if delimiter is not None:
        file.stream.readline()
        file.first_line, sample = 2, sample.partition("\n")[2]
    options = file.options
    if options.delimiter is None and delimiter is not None:
        options = replace(options, delimiter=delimiter)
    file.dialect = sniff_dialect(sample, options)
