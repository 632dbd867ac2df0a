"""Records of a file in a format that is usual for data: CSV, JSONL (both gzip or not) or Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from jobs.errors import InputError
from jobs.guards import invalid_unicode_at
from jobs.intake_csv import DELIMITERS, read_csv_records
from jobs.intake_file import MAX_LINE_BYTES, Line, read_chunks, read_physical_lines, refuse_file
from jobs.intake_records import Record, json_object
from jobs.parquet_records import parquet_records
from jobs.rejection import Rejected, snippet

JSON_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})
FEED_SUFFIXES = frozenset({".xml", ".rss", ".atom"})

Fields = tuple[int, Mapping[str, object]]
"""Line, row or entry, from 1, and its named fields."""

Unparsed = tuple[int, bytes | Mapping[str, object]]
"""As Fields, where a line of JSONL is still its bytes, without white space around it."""

Require = Callable[[list[str]], Iterable[str]]
"""Of a file's columns those that are wanted; raises InputError if the columns are no use."""


_CHUNK_BYTES = 2**18
"""Of lines that are in memory together."""


def file_records(path: Path, require: Require) -> Iterator[Fields | Rejected]:
    """Stream the records, one in memory at a time; the format is that of the name, else of the first bytes.

    JSONL has no header: `require` is not asked. Raises FileRejectedError, at any moment of the iteration,
    for what makes the whole file unusable.
    """
    name = str(path)
    for record in unparsed_records(path, require):
        yield record if isinstance(record, Rejected) else parsed(name, record)


def unparsed_records(path: Path, require: Require) -> Iterator[Unparsed | Rejected]:
    """As file_records, for a reader that need not parse each line of JSONL."""
    suffix = file_format(path)
    if suffix == ".parquet":
        yield from parquet_records(path, require)
    elif suffix == ".jsonl":
        yield from _unparsed_lines(path)
    elif suffix == ".csv":
        yield from csv_records(path, read_physical_lines(path), require)
    else:
        raise refuse_file(path, "format_unknown", "is XML", "write it as CSV, JSONL or Parquet")


def parsed(name: str, record: Unparsed) -> Fields | Rejected:
    """The record's fields; `name` is that of the file."""
    number, value = record
    if isinstance(value, bytes):
        return _parse_line(name, number, value.decode("utf-8", "surrogateescape"))
    return number, value


def file_format(path: Path) -> str:
    """ ".parquet", ".xml", ".jsonl" or ".csv": what the name says, else how the file begins."""
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


def _unparsed_lines(path: Path) -> Iterator[Unparsed | Rejected]:
    name = str(path)
    for chunk in read_chunks(path, chunk_bytes=_CHUNK_BYTES):
        if chunk.is_too_large:
            yield too_large(Record(name, chunk.first_line, {}))
        for number, line in enumerate(chunk.body.split(b"\n"), start=chunk.first_line):
            if len(line) > MAX_LINE_BYTES:
                yield too_large(Record(name, number, {}))
            elif text := line.strip(b" \t\r\n"):
                yield number, text


def jsonl_records(path: Path, lines: Iterator[Line]) -> Iterator[Fields | Rejected]:
    name = str(path)
    for line in lines:
        text = line.text.strip(" \t\r\n")
        if text:
            yield _parse_line(name, line.number, text)
        elif line.is_too_large:
            yield too_large(Record(name, line.number, {}))


def _parse_line(name: str, number: int, text: str) -> Fields | Rejected:
    record = Record(name, number, {})
    if (at := invalid_unicode_at(text)) is not None:
        return record.reject_unicode(text, at)
    value = json_object(record, text, example='{"id": "..."}')
    return value if isinstance(value, Rejected) else (number, value)


def csv_records(path: Path, lines: Iterator[Line], require: Require) -> Iterator[Fields | Rejected]:
    header: list[str] | None = None
    num_records = 0
    for row in read_csv_records(lines):
        if not row.code and not any(cell.strip() for cell in row.cells):
            continue
        if header is None:
            if row.code:
                advice = "write a line of column names"
                raise refuse_file(path, row.code, f"the header {row.reason}", advice, row.line)
            header = check_header(path, row.cells, row.line, require)
            continue
        num_records += 1
        record = Record(str(path), row.line, {})
        if row.code == "body_too_large":
            yield too_large(record)
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
        raise refuse_file(
            path, "file_header_only", "has a header and no line", "write one line for each record"
        )


def check_header(path: Path, cells: list[str], line: int, require: Require) -> list[str]:
    header = [cell.strip() for cell in cells]
    if any(invalid_unicode_at(cell) is not None for cell in header):
        raise refuse_file(
            path, "text_invalid_unicode", "the header is not UTF-8", "save the file as UTF-8", line
        )
    if len(header) == 1:
        for delimiter, name in DELIMITERS.items():
            if delimiter in header[0]:
                reason = f"its columns are separated by {name}, not by commas"
                raise refuse_file(path, "csv_delimiter", reason, "save it as comma-separated", line)
    for position, name in enumerate(header):
        if name and name in header[:position]:
            reason = f"column {snippet(name)!r} stands twice"
            raise refuse_file(path, "duplicate_column", reason, "remove or rename one of them", line)
    try:
        require(header)
    except InputError as error:
        raise refuse_file(path, error.code, str(error), "correct the header or the mapping", line) from error
    return header


def too_large(record: Record) -> Rejected:
    reason = f"has more than {MAX_LINE_BYTES:,} bytes"
    return record.reject("body_too_large", reason, "shorten the text, or split it over lines")
