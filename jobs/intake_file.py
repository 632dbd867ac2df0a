"""A file as bounded physical lines: plain or gzip, UTF-8 with or without a BOM."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import closing
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


def read_physical_lines(path: Path) -> Iterator[Line]:
    """Stream the lines of a file, one in memory at a time.

    Raises FileRejectedError: `file_unreadable`, `gzip_malformed`, `body_too_large` (gzip bomb),
    `text_invalid_unicode` (UTF-16).
    """
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
        stream = gzip.GzipFile(fileobj=raw, mode="rb") if is_gzip else raw
        try:
            yield from _split(path, stream, raw, is_gzip)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            reason = f"the gzip data is damaged or cut short: {error}"
            raise refuse_file(
                path, "gzip_malformed", reason, "compress or transfer the file again"
            ) from error


def refuse_file(path: Path, code: str, reason: str, advice: str, line: int = 1) -> FileRejectedError:
    """The error for a whole file."""
    return FileRejectedError(Rejected(file=str(path), line=line, code=code, reason=reason, advice=advice))


def _split(
    path: Path, stream: io.BufferedReader | gzip.GzipFile, raw: io.BufferedReader, is_gzip: bool
) -> Iterator[Line]:
    number = num_bytes = 0
    while chunk := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1:
            chunk = _without_mark(path, chunk)
        num_bytes += len(chunk)
        is_too_large = len(chunk) > MAX_LINE_BYTES
        while len(chunk) > 0 and is_too_large and not chunk.endswith(b"\n"):
            chunk = stream.readline(_SKIP_BYTES)
            num_bytes += len(chunk)
            if is_gzip:
                _check_ratio(path, num_bytes, raw.tell(), number)
        if is_gzip:
            _check_ratio(path, num_bytes, raw.tell(), number)
        text = "" if is_too_large else chunk.decode("utf-8", "surrogateescape")
        yield Line(number, text, is_too_large)


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
