"""What a file is, by how it begins: a table in a format that is read, or another format, by its name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from jobs.input_file import refuse_file

JSON_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})
FEED_SUFFIXES = frozenset({".xml", ".rss", ".atom"})
CSV_SUFFIXES = frozenset({".csv", ".tsv", ".tab"})


class Format(StrEnum):
    """A format that is read."""

    CSV = "CSV"
    JSONL = "JSONL"
    PARQUET = "Parquet"
    XML = "XML"


@dataclass(frozen=True, slots=True)
class _Other:
    """A format that is not read."""

    mark: bytes
    name: str
    advice: str
    at: int = 0


_AS_TABLE = "save it as CSV in UTF-8"
_UNPACK = "unpack it, or pack it as .gz"

_OTHERS = (
    _Other(b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls), or another Office file", _AS_TABLE),
    _Other(b"%PDF", "a PDF", "write its content as CSV, JSONL or Parquet"),
    _Other(b"\x28\xb5\x2f\xfd", "packed with zstd", "unpack it (zstd -d), or pack it as .gz"),
    _Other(b"BZh", "packed with bzip2", "unpack it (bunzip2), or pack it as .gz"),
    _Other(b"\xfd7zXZ\x00", "packed with xz", "unpack it (unxz), or pack it as .gz"),
    _Other(b"\x04\x22\x4d\x18", "packed with lz4", _UNPACK),
    _Other(b"\x1f\x9d", "packed with compress (.Z)", _UNPACK),
    _Other(b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    _Other(b"Rar!\x1a\x07", "a rar archive", _UNPACK),
    _Other(b"\x1f\x8b", "packed with gzip twice", "unpack it once"),
    _Other(b"ustar", "a tar archive", "unpack it, and name a file of it", at=257),
    _Other(b"SQLite format 3\x00", "an SQLite database", "export the table as CSV"),
    _Other(b"ARROW1", "an Arrow (Feather) file", "write it as Parquet"),
    _Other(b"FEA1", "a Feather file", "write it as Parquet"),
    _Other(b"Obj\x01", "an Avro file", "write it as Parquet or JSONL"),
    _Other(b"ORC", "an ORC file", "write it as Parquet"),
    _Other(b"\x89HDF", "an HDF5 file", "write it as Parquet"),
    _Other(b"\x93NUMPY", "a NumPy array", "write it as Parquet"),
    _Other(b"\x80\x04\x95", "a Python pickle", "write it as Parquet: pickles run code"),
    _Other(b"\x80\x05\x95", "a Python pickle", "write it as Parquet: pickles run code"),
    _Other(b"\x89PNG", "an image", "name a file of records"),
    _Other(b"\xff\xd8\xff", "an image", "name a file of records"),
    _Other(b"GIF8", "an image", "name a file of records"),
    _Other(b"{\\rtf", "a Rich Text document", _AS_TABLE),
)
"""Marks as the formats' own documents give them; `file(1)` knows them, too."""

_IN_ZIP = (
    (b"application/vnd.oasis.opendocument.spreadsheet", "an OpenDocument spreadsheet (.ods)"),
    (b"xl/", "an Excel workbook (.xlsx)"),
    (b"word/", "a Word document (.docx)"),
    (b"ppt/", "a PowerPoint file (.pptx)"),
)

_HTML = re.compile(r"<(?:!doctype html|html|head|body|table|div|meta|script)\b", re.IGNORECASE)
_JSON_KEY = re.compile(r'"(?:[^"\\\n]|\\.){0,200}"\s{0,20}:')


def recognise_bytes(path: Path, head: bytes) -> Format | None:
    """Parquet, or None for what may be text. Raises FileRejectedError `format_unknown` for another format."""
    if head.startswith(b"PAR1"):
        return Format.PARQUET
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        name = next((name for mark, name in _IN_ZIP if mark in head), None)
        advice = _AS_TABLE if name else "unpack it, and name a file of it"
        raise _refused(path, name or "a zip archive", advice)
    for other in _OTHERS:
        if head.startswith(other.mark, other.at):
            raise _refused(path, other.name, other.advice)
    if suffix_of(path) == ".parquet":
        reason, advice = "is named .parquet and is none", "write the file again, or name it as what it is"
        raise refuse_file(path, "parquet_malformed", reason, advice)
    return None


def recognise_text(path: Path, text: str) -> Format:
    """The format of a text of which this is the beginning: what it is goes before what its name says.

    Raises FileRejectedError `format_unknown` for JSON that is not in lines, for HTML, and for what has a name
    that it does not keep.
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
        raise _refused(path, "one JSON array", "write one object a line: jq -c '.[]' FILE > FILE.jsonl")
    if suffix in JSON_SUFFIXES:
        _check_json_name(path, beginning)
        return Format.JSONL
    if suffix in CSV_SUFFIXES:
        return Format.CSV
    return Format.JSONL if beginning.startswith("{") else Format.CSV


def suffix_of(path: Path) -> str:
    """The last suffix in lower case, but for `.gz`.

    >>> suffix_of(Path("News.JSONL.gz")), suffix_of(Path("news"))
    ('.jsonl', '')
    """
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return suffixes[-1] if suffixes else ""


def _check_lines(path: Path, beginning: str) -> None:
    """Refuse an object that is written over several lines: each of them would be a bad line."""
    first, end, rest = beginning.partition("\n")
    if end and first.strip() == "{" and _JSON_KEY.match(rest.lstrip()):
        raise _refused(path, "JSON over several lines", "write one object a line: jq -c . FILE > FILE.jsonl")


def _check_json_name(path: Path, beginning: str) -> None:
    lines = beginning.split("\n", 2)
    is_table = len(lines) > 1 and not any(line.lstrip().startswith(("{", "[", '"')) for line in lines[:2])
    if is_table and any(mark in lines[0] for mark in ",;\t|"):
        raise _refused(path, "a table, not JSON as its name says", "name it .csv")


def _refused(path: Path, name: str, advice: str) -> Exception:
    return refuse_file(path, "format_unknown", f"is {name}", advice)
