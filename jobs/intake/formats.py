"""Detects the format and the encoding of a file. Errors about unsupported formats name the format."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from jobs.rejection import refuse_file

JSON_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})
FEED_SUFFIXES = frozenset({".xml", ".rss", ".atom"})
CSV_SUFFIXES = frozenset({".csv", ".tsv", ".tab"})


class Format(StrEnum):
    """A supported format of input files."""

    CSV = "CSV"
    JSONL = "JSONL"
    PARQUET = "Parquet"
    XML = "XML"


@dataclass(frozen=True, slots=True)
class _OtherFormat:
    """An unsupported format, with its magic number and advice for the user."""

    mark: bytes
    name: str
    advice: str
    at: int = 0


_AS_TABLE = "save it as CSV in UTF-8"
_UNPACK = "unpack it, or pack it as .gz"

_OTHER_FORMATS = (
    _OtherFormat(b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls), or another Office file", _AS_TABLE),
    _OtherFormat(b"%PDF", "a PDF", "write its content as CSV, JSONL or Parquet"),
    _OtherFormat(b"\x28\xb5\x2f\xfd", "packed with zstd", "unpack it (zstd -d), or pack it as .gz"),
    _OtherFormat(b"BZh", "packed with bzip2", "unpack it (bunzip2), or pack it as .gz"),
    _OtherFormat(b"\xfd7zXZ\x00", "packed with xz", "unpack it (unxz), or pack it as .gz"),
    _OtherFormat(b"\x04\x22\x4d\x18", "packed with lz4", _UNPACK),
    _OtherFormat(b"\x1f\x9d", "packed with compress (.Z)", _UNPACK),
    _OtherFormat(b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    _OtherFormat(b"Rar!\x1a\x07", "a rar archive", _UNPACK),
    _OtherFormat(b"\x1f\x8b", "packed with gzip twice", "unpack it once"),
    _OtherFormat(b"ustar", "a tar archive", "unpack it, and give one of its files", at=257),
    _OtherFormat(b"SQLite format 3\x00", "an SQLite database", "export the table as CSV"),
    _OtherFormat(b"ARROW1", "an Arrow (Feather) file", "write it as Parquet"),
    _OtherFormat(b"FEA1", "a Feather file", "write it as Parquet"),
    _OtherFormat(b"Obj\x01", "an Avro file", "write it as Parquet or JSONL"),
    _OtherFormat(b"ORC", "an ORC file", "write it as Parquet"),
    _OtherFormat(b"\x89HDF", "an HDF5 file", "write it as Parquet"),
    _OtherFormat(b"\x93NUMPY", "a NumPy array", "write it as Parquet"),
    _OtherFormat(b"\x80\x04\x95", "a Python pickle", "write it as Parquet: pickles run code"),
    _OtherFormat(b"\x80\x05\x95", "a Python pickle", "write it as Parquet: pickles run code"),
    _OtherFormat(b"\x89PNG", "an image", "name a file of records"),
    _OtherFormat(b"\xff\xd8\xff", "an image", "name a file of records"),
    _OtherFormat(b"GIF8", "an image", "name a file of records"),
    _OtherFormat(b"{\\rtf", "a Rich Text document", _AS_TABLE),
)
"""Unsupported formats, with the magic numbers of their specifications, which `file(1)` also uses."""

_IN_ZIP = (
    (b"application/vnd.oasis.opendocument.spreadsheet", "an OpenDocument spreadsheet (.ods)"),
    (b"xl/", "an Excel workbook (.xlsx)"),
    (b"word/", "a Word document (.docx)"),
    (b"ppt/", "a PowerPoint file (.pptx)"),
)

_HTML = re.compile(r"<(?:!doctype html|html|head|body|table|div|meta|script)\b", re.IGNORECASE)
_JSON_KEY = re.compile(r'"(?:[^"\\\n]|\\.){0,200}"\s{0,20}:')


def recognise_bytes(path: Path, head: bytes) -> Format | None:
    """Return Format.PARQUET, or None for a file that may be text.

    Raises FileRejectedError `format_unknown` for other formats, and `parquet_malformed` for a file with the
    suffix `.parquet` that is not Parquet.
    """
    if head.startswith(b"PAR1"):
        return Format.PARQUET
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        name = next((name for mark, name in _IN_ZIP if mark in head), None)
        advice = _AS_TABLE if name else "unpack it, and give one of its files"
        raise _refused(path, name or "a zip archive", advice)
    for other in _OTHER_FORMATS:
        if head.startswith(other.mark, other.at):
            raise _refused(path, other.name, other.advice)
    if suffix_of(path) == ".parquet":
        reason, advice = "is named .parquet but is not Parquet", "write the file again, or rename it"
        raise refuse_file(path, "parquet_malformed", reason, advice)
    return None


def recognise_text(path: Path, text: str) -> Format:
    """Return the format of a text file, judged by its beginning or, if that is ambiguous, by its name.

    Raises FileRejectedError `format_unknown` for JSON that is not in lines, for HTML, and for content that
    contradicts the name.
    """
    beginning = text.lstrip()
    suffix = suffix_of(path)
    if beginning.startswith("<"):
        if _HTML.match(beginning):
            raise _refused(path, "an HTML page", "download the file itself, or save the table as CSV")
        if "urn:schemas-microsoft-com:office" in text[:4_096]:
            raise _refused(path, "an Excel workbook in XML", _AS_TABLE)
        return Format.XML
    if suffix in FEED_SUFFIXES:
        return Format.XML
    if _JSON_KEY.match(beginning.removeprefix("{").lstrip()) and beginning.startswith("{"):
        _check_lines(path, beginning)
        return Format.JSONL
    if beginning.startswith("[") and beginning[1:].lstrip()[:1] in ("{", "]"):
        raise _refused(path, "one JSON array", "write one object per line: jq -c '.[]' FILE > FILE.jsonl")
    if suffix in JSON_SUFFIXES:
        _check_json_name(path, beginning)
        return Format.JSONL
    if suffix in CSV_SUFFIXES:
        return Format.CSV
    return Format.JSONL if beginning.startswith("{") else Format.CSV


def suffix_of(path: Path) -> str:
    """Return the last suffix of a file's name in lower case, ignoring `.gz`.

    >>> suffix_of(Path("News.JSONL.gz")), suffix_of(Path("news"))
    ('.jsonl', '')
    """
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return suffixes[-1] if suffixes else ""


def _check_lines(path: Path, beginning: str) -> None:
    """Refuse a file with an object that spans several lines, because each of its lines would be refused."""
    first, end, rest = beginning.partition("\n")
    if end and first.strip() == "{" and _JSON_KEY.match(rest.lstrip()):
        raise _refused(
            path, "JSON over several lines", "write one object per line: jq -c . FILE > FILE.jsonl"
        )


def _check_json_name(path: Path, beginning: str) -> None:
    lines = beginning.split("\n", 2)
    is_table = len(lines) > 1 and not any(line.lstrip().startswith(("{", "[", '"')) for line in lines[:2])
    if is_table and any(mark in lines[0] for mark in ",;\t|"):
        raise _refused(path, "a table, although it has the name of a JSON file", "rename it to .csv")


def _refused(path: Path, name: str, advice: str) -> Exception:
    return refuse_file(path, "format_unknown", f"is {name}", advice)


UTF_8 = "utf-8"

_MARKS = (
    (codecs.BOM_UTF8, UTF_8),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, because it begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_READ_BYTES = 2**16
_PREFIX_BYTES = 1_024

_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_NOT_WESTERN = re.compile(r"[^\x00-\x7fÀ-ÏÑ-ÖØ-ÜßŒœà-ïñ-öø-üÿŸ“”„‘’‚–—…€£§°«»·•²³½¡¿ºª©®™\xa0]")
"""Matches characters that do not occur in Western European texts."""
_LATIN_ENCODINGS = ("cp1250", "cp1252", "cp1254", "cp1257", "latin", "iso8859", "hp_roman", "cp850", "cp775",
                    "cp437", "cp852", "mac_", "cp86", "cp1125", "cp1006", "utf_16", "cp500")  # fmt: skip
"""Beginnings of the names of encodings that charset_normalizer detects for texts with few letters beyond
ASCII. Such texts are taken to be in cp1252, as in files from Windows."""

_MIN_BYTES_TO_GUESS = 6
"""Minimum number of bytes beyond ASCII for a guess. Fewer bytes could be letters of any alphabet, or damage
at a single place."""


class UnknownEncodingError(ValueError):
    """A name does not belong to a text encoding."""


def check_encoding(name: str) -> str:
    """Return Python's name for an encoding. Raises UnknownEncodingError.

    >>> check_encoding("Windows-1252"), check_encoding("UTF8")
    ('cp1252', 'utf-8')
    """
    try:
        usual = codecs.lookup(name).name
        is_text = isinstance(b"".decode(usual), str) and "ab\n".encode(usual).decode(usual) == "ab\n"
    except (LookupError, ValueError, TypeError) as error:
        raise UnknownEncodingError(
            f"{name[:40]!r} is not an encoding: use utf-8, utf-16 or cp1252"
        ) from error
    if not is_text or usual in ("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined"):
        raise UnknownEncodingError(f"{name[:40]!r} is not an encoding: use utf-8, utf-16 or cp1252")
    return usual


def sniff_encoding(path: Path, head: bytes) -> str:
    """Return the encoding according to the byte order mark, or UTF-8 if there is none.

    Raises FileRejectedError `text_invalid_unicode` for data that is not text, for UTF-32, and for UTF-16
    without a byte order mark. The user must give the encoding of the latter two.
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
    reason, advice = "is not text: it is binary", "name a file of CSV, JSONL or Parquet"
    raise refuse_file(path, "text_invalid_unicode", reason, advice)


class Utf8Stream(io.RawIOBase):
    """Converts a text in another encoding to UTF-8. Bytes that cannot be decoded become invalid UTF-8."""

    def __init__(self, path: Path, stream: BinaryIO, encoding: str) -> None:
        self._path = path
        self._stream = stream
        self._encoding = encoding
        # Lone surrogates, and bytes that a code page lacks, are kept here and reported with their lines.
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
                self._path, "text_invalid_unicode", reason, "give the correct --encoding"
            ) from error
        if text and self._is_at_start:
            self._is_at_start = False
            text = text.removeprefix("\ufeff")
        return text.encode(UTF_8, self._errors)


class NewlineStream(io.RawIOBase):
    """Converts lines that end in CR alone, or in CR and LF, to lines that end in LF."""

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
    """Refuse a file that is in a code page, but accept one in UTF-8 with damaged lines.

    Text beyond ASCII is hardly ever valid UTF-8 by chance. A file is therefore accepted as UTF-8 if at least
    half of its lines with characters beyond ASCII are valid. It is also accepted if its code page cannot be
    guessed. Otherwise, raises FileRejectedError `text_invalid_unicode`.
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
    """Return the most likely code page, or None if the bytes form words in no code page."""
    import charset_normalizer  # imported here, because only files that are not UTF-8 need it

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
