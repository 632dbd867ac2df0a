"""A file as bounded physical lines: plain or gzip, UTF-8 with or without a BOM."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobs.rejection import FileRejectedError, Rejected

MAX_LINE_BYTES = 4 * 2**20
"""Of a line, and of a CSV record over several lines: a hundred times the longest prompt a worker can take."""

MAX_GZIP_RATIO = 200
"""Written text shrinks 3 to 20 times, repetitive JSON 50; deflate cannot pass 1,032 and bombs come close."""

MIN_BYTES_FOR_RATIO = 4 * 2**20
"""Below this a high ratio is harmless, and small test files of equal lines may have one."""

_GZIP_MAGIC = b"\x1f\x8b"
_SKIP_BYTES = 64 * 2**10
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Line:
    """A physical line of the file."""

    number: int
    """From 1."""
    text: str
    """With its line end. Bytes that are not UTF-8 are lone surrogates (PEP 383), for the caller to refuse."""
    is_too_large: bool = False
    """The line passed MAX_LINE_BYTES: it was skipped and its text is empty."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines of the file, many at a time."""

    first_line: int
    """From 1."""
    body: bytes
    """With its line ends; the last line of the file may lack one."""
    is_too_large: bool = False
    """One line that passed MAX_LINE_BYTES: it was skipped and `body` is empty."""


def read_physical_lines(path: Path) -> Iterator[Line]:
    """Stream the lines of a file, one in memory at a time.

    Raises FileRejectedError: `file_unreadable`, `gzip_malformed`, `body_too_large` (gzip bomb),
    `text_invalid_unicode` (UTF-16).
    """
    with _opened(path) as (stream, raw):
        yield from _split(path, stream, raw)


def read_chunks(path: Path, *, chunk_bytes: int = MAX_LINE_BYTES) -> Iterator[Chunk]:
    """Stream the file in pieces of about this size that end with a line; raises as read_physical_lines."""
    with _opened(path) as (stream, raw):
        line, num_bytes, begun = 1, 0, b""
        while body := stream.read(chunk_bytes):
            body = body if num_bytes else _without_mark(path, body)
            num_bytes += len(body)
            _check_ratio(path, num_bytes, raw.tell() if stream is not raw else num_bytes, line)
            whole, end, begin = body.rpartition(b"\n")
            if end:
                body, begun = begun + whole + end, begin
                yield Chunk(line, body)
                line += body.count(b"\n")
                continue
            begun += body
            if len(begun) > MAX_LINE_BYTES:
                num_bytes += _skip_line(path, stream, raw, num_bytes, line)
                yield Chunk(line, b"", is_too_large=True)
                line, begun = line + 1, b""
        if begun:
            yield Chunk(line, begun)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[io.BufferedReader | gzip.GzipFile, io.BufferedReader]]:
    """What the file unpacks to, and the file itself; the same where it is not packed."""
    try:
        raw = path.open("rb")
    except OSError as error:
        reason = f"cannot be opened: {error.strerror}"
        raise refuse_file(path, "file_unreadable", reason, "check the path and its permissions") from error
    with closing(raw):
        is_gzip = raw.peek(2)[:2] == _GZIP_MAGIC
        if not is_gzip and path.suffix == ".gz" and raw.peek(1):
            raise refuse_file(
                path, "gzip_malformed", "is named .gz and is no gzip", "compress it, or rename it"
            )
        try:
            yield (gzip.GzipFile(fileobj=raw, mode="rb") if is_gzip else raw), raw
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            reason = f"the gzip data is damaged or cut short: {error}"
            raise refuse_file(
                path, "gzip_malformed", reason, "compress or transfer the file again"
            ) from error


def refuse_file(path: Path, code: str, reason: str, advice: str, line: int = 1) -> FileRejectedError:
    """The error for a whole file."""
    return FileRejectedError(Rejected(file=str(path), line=line, code=code, reason=reason, advice=advice))


def _split(path: Path, stream: io.BufferedReader | gzip.GzipFile, raw: io.BufferedReader) -> Iterator[Line]:
    number = num_bytes = 0
    while chunk := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1:
            chunk = _without_mark(path, chunk)
        num_bytes += len(chunk)
        is_too_large = len(chunk) > MAX_LINE_BYTES
        if is_too_large and not chunk.endswith(b"\n"):
            num_bytes += _skip_line(path, stream, raw, num_bytes, number)
        if stream is not raw:
            _check_ratio(path, num_bytes, raw.tell(), number)
        text = "" if is_too_large else chunk.decode("utf-8", "surrogateescape")
        yield Line(number, text, is_too_large)


def _skip_line(
    path: Path, stream: io.BufferedReader | gzip.GzipFile, raw: io.BufferedReader, num_bytes: int, line: int
) -> int:
    """Read past the end of a line of which `num_bytes` of the file are read; how many bytes it had more."""
    num_skipped = 0
    while chunk := stream.readline(_SKIP_BYTES):
        num_skipped += len(chunk)
        if stream is not raw:
            _check_ratio(path, num_bytes + num_skipped, raw.tell(), line)
        if chunk.endswith(b"\n"):
            break
    return num_skipped


def _without_mark(path: Path, chunk: bytes) -> bytes:
    zeros = chunk[:256].count(0)
    # ASCII text in UTF-16 is half zeros; without its mark it would otherwise be a thousand bad lines.
    if chunk.startswith(_UTF16_MARKS) or zeros * 3 > len(chunk[:256]):
        raise refuse_file(path, "text_invalid_unicode", "is UTF-16, not UTF-8", "save the file as UTF-8")
    return chunk.removeprefix(b"\xef\xbb\xbf")


def _check_ratio(path: Path, num_bytes: int, num_compressed: int, line: int) -> None:
    if num_bytes > MIN_BYTES_FOR_RATIO and num_bytes > MAX_GZIP_RATIO * max(num_compressed, 1):
        reason = f"unpacks to more than {MAX_GZIP_RATIO} times its size"
        raise refuse_file(path, "body_too_large", reason, "unpack the file and look at it, or split it", line)
