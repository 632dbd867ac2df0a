"""Detects the encoding of a file's text, and converts the text to UTF-8."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from jobs.input_file import refuse_file

UTF_8 = "utf-8"

_MARKS = (
    (codecs.BOM_UTF8, UTF_8),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_READ_BYTES = 2**16
_PREFIX_BYTES = 1_024

_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_NOT_WESTERN = re.compile(r"[^\x00-\x7fÀ-ÏÑ-ÖØ-ÜßŒœà-ïñ-öø-üÿŸ“”„‘’‚–—…€£§°«»·•²³½¡¿ºª©®™\xa0]")
"""Characters that do not occur in Western European texts."""
_LATIN_ENCODINGS = ("cp1250", "cp1252", "cp1254", "cp1257", "latin", "iso8859", "hp_roman", "cp850", "cp775",
                    "cp437", "cp852", "mac_", "cp86", "cp1125", "cp1006", "utf_16", "cp500")  # fmt: skip
"""Encodings that are detected for texts with few letters beyond ASCII; in files from Windows they mean
cp1252."""

_MIN_BYTES_TO_GUESS = 6
"""Minimum number of bytes beyond ASCII for a guess. Fewer may be words in any alphabet, or a single damaged
place."""


class UnknownEncodingError(ValueError):
    """A name is not that of a text encoding."""


def check_encoding(name: str) -> str:
    """Return the encoding's usual name. Raises UnknownEncodingError.

    >>> check_encoding("Windows-1252"), check_encoding("UTF8")
    ('cp1252', 'utf-8')
    """
    try:
        usual = codecs.lookup(name).name
        is_text = isinstance(b"".decode(usual), str) and "ab\n".encode(usual).decode(usual) == "ab\n"
    except (LookupError, ValueError, TypeError) as error:
        raise UnknownEncodingError(f"{name[:40]!r} is no encoding: give utf-8, utf-16 or cp1252") from error
    if not is_text or usual in ("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined"):
        raise UnknownEncodingError(f"{name[:40]!r} is no encoding: give utf-8, utf-16 or cp1252")
    return usual


def sniff_encoding(path: Path, head: bytes) -> str:
    """Return the encoding that the byte order mark names, otherwise UTF-8.

    Raises FileRejectedError `text_invalid_unicode` for UTF-16 and UTF-32 that must be named, and for data
    that is not text.
    """
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if encoding in (UTF_8, "utf-16"):
        return str(encoding)
    advice = "give --encoding {0}, or save the file as UTF-8"
    if encoding == "utf-32":
        reason = "is UTF-32, not UTF-8"
        raise refuse_file(path, "text_invalid_unicode", reason, advice.format(encoding))
    start = head[:_PREFIX_BYTES].partition(b"\n")[0]
    if start.count(0) * 3 <= len(start) and len(_CONTROLS.findall(start)) * 3 <= len(start):
        return UTF_8
    for name, zeros in (("utf-16-le", start[1::2]), ("utf-16-be", start[0::2])):
        if zeros.count(0) * 2 > len(zeros) and start.count(0) < len(start) * 0.6:
            reason = "is UTF-16 without a byte order mark, not UTF-8"
            raise refuse_file(path, "text_invalid_unicode", reason, advice.format(name))
    if start.count(0) > len(start) * 0.6 and any(start):
        name = "utf-32-le" if start[0] else "utf-32-be"
        reason = "is UTF-32 without a byte order mark, not UTF-8"
        raise refuse_file(path, "text_invalid_unicode", reason, advice.format(name))
    reason, advice = "is no text: it is binary", "name a file of CSV, JSONL or Parquet"
    raise refuse_file(path, "text_invalid_unicode", reason, advice)


class Utf8Stream(io.RawIOBase):
    """The bytes of a text in another encoding as UTF-8. Bytes that cannot be decoded become invalid UTF-8."""

    def __init__(self, path: Path, stream: BinaryIO, encoding: str) -> None:
        self._path = path
        self._stream = stream
        self._encoding = encoding
        # Lone surrogates, and bytes that a code page lacks, pass through and are reported with their lines.
        self._errors = "surrogatepass" if encoding.startswith("utf") else "surrogateescape"
        self._decoder = codecs.getincrementaldecoder(encoding)(self._errors)
        self._rest = memoryview(b"")
        self._is_at_start = True

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read as io.RawIOBase does."""
        while not self._rest:
            body = self._stream.read(_READ_BYTES)
            self._rest = memoryview(self._decoded(body))
            if not body and not self._rest:
                return 0
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def _decoded(self, body: bytes) -> bytes:
        try:
            text = self._decoder.decode(body, final=not body)
        except UnicodeError as error:
            reason = f"is not {self._encoding}: {str(error)[-120:]}"
            raise refuse_file(
                self._path, "text_invalid_unicode", reason, "give the right --encoding"
            ) from error
        if text and self._is_at_start:
            self._is_at_start = False
            text = text.removeprefix("\ufeff")
        return text.encode(UTF_8, self._errors)


class NewlineStream(io.RawIOBase):
    """A text whose lines end in CR alone, converted to lines that end in LF."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._ends_in_cr = False

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read as io.RawIOBase does."""
        while True:
            body = self._stream.read(len(buffer))
            if not body:
                return 0
            text = body[1:] if self._ends_in_cr and body.startswith(b"\n") else body
            self._ends_in_cr = body.endswith(b"\r")
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            if text:
                buffer[: len(text)] = text
                return len(text)


def judge_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Refuse a whole file that is in a code page, but accept one in UTF-8 with damaged lines.

    Text beyond ASCII is hardly ever valid UTF-8 by chance, so a file with more valid than invalid lines is
    UTF-8. Raises FileRejectedError `text_invalid_unicode`.
    """
    first, num_valid, num_invalid = 0, 0, 0
    sample = bytearray()
    for number, line in enumerate(lines, start=1):
        if line.isascii():
            continue
        try:
            line.decode(UTF_8)
            num_valid += 1
        except UnicodeDecodeError:
            first = first or number
            num_invalid += 1
            sample += line[:_PREFIX_BYTES] if len(sample) < _READ_BYTES else b""
    if num_valid >= num_invalid:
        return
    encoding = _guess(bytes(sample))
    if encoding is not None:
        reason = f"is not UTF-8: it seems to be {encoding}"
        advice = f"give --encoding {encoding}, or save the file as UTF-8"
        raise refuse_file(path, "text_invalid_unicode", reason, advice, first)


def _guess(sample: bytes) -> str | None:
    """Return the likeliest code page; None if the bytes make no words in any."""
    import charset_normalizer  # needed only for files that are not UTF-8

    best = charset_normalizer.from_bytes(sample).best()
    num_beyond = sum(byte > 0x7F for byte in sample)
    name, text = "cp1252", sample.decode("cp1252", "replace")
    is_western = "\ufffd" not in text and not _NOT_WESTERN.search(text)
    if not is_western or (best and not best.encoding.startswith(_LATIN_ENCODINGS)):
        if best is None or num_beyond < _MIN_BYTES_TO_GUESS:
            return None
        name, text = best.encoding, str(best)
    beyond_ascii = [character for character in text if not character.isascii()]
    num_letters = sum(character.isalpha() and character != "ÿ" for character in beyond_ascii)
    is_words = 2 * num_letters > len(beyond_ascii) or (num_letters == 0 and _is_typographic(beyond_ascii))
    return name if is_words else None


def _is_typographic(characters: list[str]) -> bool:
    return bool(characters) and all(character in "“”„‘’‚–—…€£§°«»" for character in characters)
