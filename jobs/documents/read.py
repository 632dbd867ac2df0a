"""A file of documents, in any format that is usual -> documents, one in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from jobs.documents.document import Document
from jobs.documents.feed import MAX_FEED_BYTES, feed_records
from jobs.documents.fields import ColumnMappingError
from jobs.documents.parquet import parquet_records
from jobs.documents.records import DocumentMaker, Versions, require_columns
from jobs.guards import find_secret, invalid_unicode_at
from jobs.intake_csv import read_csv_records
from jobs.intake_file import MAX_LINE_BYTES, Line, read_physical_lines, refuse_file
from jobs.intake_json import JsonRefusedError, parse
from jobs.intake_records import Record
from jobs.rejection import Rejected, snippet

JSON_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})
FEED_SUFFIXES = frozenset({".xml", ".rss", ".atom"})
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}

Fields = tuple[int, Mapping[str, object]]
"""Line, row or entry, from 1, and its named fields."""


class Reading(Iterator["Document | Rejected"]):
    """The documents of a file, and what was counted on the way."""

    def __init__(self, records: Iterator[Fields | Rejected], maker: DocumentMaker, path: Path) -> None:
        self._records = records
        self._maker = maker
        self._path = path
        self._num_records = 0
        self.versions = Versions()
        """Counts duplicates and corrections so far."""

    def __next__(self) -> Document | Rejected:
        for record in self._records:
            self._num_records += 1
            if isinstance(record, Rejected):
                return record
            made = self._maker.make(*record)
            if isinstance(made, Rejected) or self.versions.is_new(made):
                return made
        if self._num_records == 0:
            raise refuse_file(
                self._path, "file_empty", "holds no document", "write one line for each document"
            )
        raise StopIteration


def read_documents(path: Path, *, now: datetime, columns: Mapping[str, str] | None = None) -> Reading:
    """Stream the documents of a CSV, JSONL (both gzip or not), Parquet, RSS or Atom file, in its order.

    The format is that of the name, else of the first bytes. `columns` names the file's column of a field
    where the usual names (fields.py) do not find it. The same id with the same content comes once; with
    other content the version with the later `published_at` comes last (digest.version_number).
    Raises FileRejectedError, at any moment of the iteration, for what makes the whole file unusable, and
    ColumnMappingError at once.
    """
    maker = DocumentMaker(str(path), now=now, columns=columns or {})
    return Reading(_records(path, columns or {}), maker, path)


def _records(path: Path, columns: Mapping[str, str]) -> Iterator[Fields | Rejected]:
    suffix = _format(path)
    if suffix == ".parquet":
        yield from parquet_records(path, columns)
    elif suffix == ".xml":
        yield from feed_records(str(path), _bounded(path))
    elif suffix == ".jsonl":
        yield from _jsonl(path, read_physical_lines(path))
    else:
        yield from _csv(path, read_physical_lines(path), columns)


def _format(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if suffix in JSON_SUFFIXES:
        return ".jsonl"
    if suffix in FEED_SUFFIXES:
        return ".xml"
    if suffix in (".parquet", ".csv"):
        return suffix
    lines = read_physical_lines(path)
    beginning = next((line.text.lstrip() for line in lines if line.text.strip()), "")
    formats = {"PAR1": ".parquet", "<": ".xml", "{": ".jsonl"}
    return next((name for mark, name in formats.items() if beginning.startswith(mark)), ".csv")


def _bounded(path: Path) -> bytes:
    body = bytearray()
    for line in read_physical_lines(path):
        body += line.text.encode("utf-8", "surrogateescape")
        if line.is_too_large or len(body) > MAX_FEED_BYTES:
            reason = f"has more than {MAX_FEED_BYTES:,} bytes, or a line of more than {MAX_LINE_BYTES:,}"
            raise refuse_file(path, "body_too_large", reason, "split the feed")
    return bytes(body)


def _jsonl(path: Path, lines: Iterator[Line]) -> Iterator[Fields | Rejected]:
    name = str(path)
    for line in lines:
        text = line.text.strip(" \t\r\n")
        if text:
            yield _parse(name, line.number, text)
        elif line.is_too_large:
            yield _too_large(Record(name, line.number, {}))


def _parse(name: str, number: int, text: str) -> Fields | Rejected:
    if (at := invalid_unicode_at(text)) is not None:
        return Record(name, number, {}).reject_unicode(text, at)
    try:
        value = parse(text)
    except JsonRefusedError as error:
        record = Record(name, number, {})
        if (secret := find_secret(text)) is not None:
            return record.reject_secret(secret)
        return Rejected(
            file=name,
            line=number,
            character=error.character,
            code=error.code,
            reason=error.reason,
            advice="write one JSON object in one line",
            snippet=snippet(text),
        )
    if not isinstance(value, dict):
        advice = 'write one JSON object a line, such as {"text": "...", "published_at": "..."}'
        return Record(name, number, {}).reject("json_invalid", "is not a JSON object", advice, text=text)
    return number, value


def _csv(path: Path, lines: Iterator[Line], columns: Mapping[str, str]) -> Iterator[Fields | Rejected]:
    header: list[str] | None = None
    num_records = 0
    for row in read_csv_records(lines):
        if not row.code and not any(cell.strip() for cell in row.cells):
            continue
        if header is None:
            if row.code:
                advice = "write a line of column names"
                raise refuse_file(path, row.code, f"the header {row.reason}", advice, row.line)
            header = _header(path, row.cells, row.line, columns)
            continue
        num_records += 1
        record = Record(str(path), row.line, {})
        if row.code == "body_too_large":
            yield _too_large(record)
        elif row.code:
            yield record.reject(row.code, row.reason, 'double each quote inside a quoted cell: ""')
        elif len(row.cells) != len(header):
            code = "csv_extra_cell" if len(row.cells) > len(header) else "csv_missing_cell"
            reason = f"has {len(row.cells)} cells, the header names {len(header)}"
            advice = "quote cells that hold commas; leave absent ones empty"
            yield record.reject(code, reason, advice, text=row.cells[0])
        else:
            yield row.line, dict(zip(header, row.cells, strict=True))
    if header is not None and num_records == 0:
        raise refuse_file(path, "file_header_only", "has a header and no line", "write one line a document")


def _header(path: Path, cells: list[str], line: int, columns: Mapping[str, str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    if any(invalid_unicode_at(cell) is not None for cell in header):
        raise refuse_file(
            path, "text_invalid_unicode", "the header is not UTF-8", "save the file as UTF-8", line
        )
    if len(header) == 1:
        for delimiter, name in _DELIMITERS.items():
            if delimiter in header[0]:
                reason = f"its columns are separated by {name}, not by commas"
                raise refuse_file(path, "csv_delimiter", reason, "save it as comma-separated", line)
    for position, name in enumerate(header):
        if name and name in header[:position]:
            reason = f"column {snippet(name)!r} stands twice"
            raise refuse_file(path, "duplicate_column", reason, "remove or rename one of them", line)
    try:
        require_columns(header, columns)
    except ColumnMappingError as error:
        raise refuse_file(path, error.code, str(error), "correct the header or the mapping", line) from error
    return header


def _too_large(record: Record) -> Rejected:
    reason = f"has more than {MAX_LINE_BYTES:,} bytes"
    return record.reject("body_too_large", reason, "shorten the text, or split it over lines")
