"""The one reader of records: CSV in any dialect, JSONL and Parquet, as gzip or not, and items in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from jobs.dialect import AS_FOUND, FileOptions
from jobs.file_format import Format
from jobs.guards import invalid_unicode_at
from jobs.input_file import refuse_file
from jobs.intake_columns import Require, check_columns
from jobs.intake_csv import CsvRecord, read_csv_records
from jobs.intake_file import (
    MAX_LINE_BYTES,
    InputFile,
    Line,
    open_file,
    read_chunks,
    read_physical_lines,
)
from jobs.intake_json import MAX_DEPTH
from jobs.intake_records import Record, json_object
from jobs.rejection import Rejected, snippet

Fields = tuple[int, Mapping[str, object]]
"""Line, row or entry, from 1, and its named fields."""

Unparsed = tuple[int, bytes | Mapping[str, object]]
"""As Fields, where a line of JSONL is still its bytes, without white space around it."""

Items = Iterable[Mapping[str, object]]
"""Records in memory, each with the columns of a file as its keys; a generator is streamed."""

_EXAMPLE = '{"id": "..."}'

_CHUNK_BYTES = 2**18
"""Of lines that are in memory together."""


def file_records(
    path: Path, require: Require, options: FileOptions = AS_FOUND
) -> Iterator[Fields | Rejected]:
    """Stream the records, one in memory at a time.

    JSONL has no header: `require` is not asked. Raises FileRejectedError, at any moment of the iteration,
    for what makes the whole file unusable.
    """
    name = str(path)
    for record in unparsed_records(path, require, options):
        yield record if isinstance(record, Rejected) else parsed(name, record)


def unparsed_records(
    path: Path, require: Require, options: FileOptions = AS_FOUND
) -> Iterator[Unparsed | Rejected]:
    """Read as file_records does, for a reader that need not parse each line of JSONL."""
    with open_file(path, options) as file:
        yield from opened_records(file, require)


def opened_records(file: InputFile, require: Require) -> Iterator[Unparsed | Rejected]:
    """Read as unparsed_records does, from an opened file."""
    if file.format is Format.PARQUET:
        from jobs.parquet_records import parquet_records  # loads Arrow

        yield from parquet_records(file, require)
    elif file.format is Format.JSONL:
        yield from _unparsed_lines(file)
    elif file.format is Format.CSV:
        yield from csv_records(file, read_physical_lines(file), require)
    else:
        raise refuse_file(file.path, "format_unknown", "is XML", "write it as CSV, JSONL or Parquet")


def parsed(name: str, record: Unparsed) -> Fields | Rejected:
    """The record's fields; `name` is that of the file."""
    number, value = record
    if isinstance(value, bytes):
        return _parse_line(name, number, value.decode("utf-8", "surrogateescape"))
    return number, value


def _unparsed_lines(file: InputFile) -> Iterator[Unparsed | Rejected]:
    name = str(file.path)
    for chunk in read_chunks(file, chunk_bytes=_CHUNK_BYTES):
        if chunk.is_too_large:
            yield too_large(Record(name, chunk.first_line, {}))
        for number, line in enumerate(chunk.body.split(b"\n"), start=chunk.first_line):
            if len(line) > MAX_LINE_BYTES:
                yield too_large(Record(name, number, {}))
            elif text := line.strip(b" \t\r\n"):
                yield number, text


def jsonl_records(path: Path, lines: Iterator[Line]) -> Iterator[Fields | Rejected]:
    """The records of these lines."""
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
    return _parse_object(record, text)


def _parse_object(record: Record, text: str) -> Fields | Rejected:
    value = json_object(record, text, example=_EXAMPLE)
    return value if isinstance(value, Rejected) else (record.line, value)


def item_records(name: str, items: Items) -> Iterator[Fields | Rejected]:
    """Stream the records of items in memory, numbered from 1; `name` stands where a file's would.

    Each item is written as a line of JSONL and read again, so that what a file could not hold is refused
    here as it is there: numbers, depth, size and doubled keys.
    """
    for number, item in enumerate(items, start=1):
        yield _item_record(Record(name, number, {}), item)


def _item_record(record: Record, item: object) -> Fields | Rejected:
    try:
        text = json.dumps(dict(item) if isinstance(item, Mapping) else item, ensure_ascii=False)
    except RecursionError:
        return record.reject("json_too_deep", f"nested deeper than {MAX_DEPTH} levels", "flatten the item")
    except (TypeError, ValueError) as error:  # a type that JSON does not have, or an item within itself
        reason = f"cannot be written as JSON: {snippet(str(error)) or type(error).__name__}"
        return record.reject("json_invalid", reason, "give texts, numbers, true, false, null, lists of them")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_LINE_BYTES:
        return too_large(record)
    return _parse_object(record, text)


def csv_records(file: InputFile, lines: Iterable[Line], require: Require) -> Iterator[Fields | Rejected]:
    """The records of these lines, the first of which that is not blank names the columns."""
    header: list[str] | None = None
    num_records = 0
    name, dialect, has_numbers = str(file.path), file.dialect, bool(file.dialect.comma_numbers)
    for row in read_csv_records(lines, dialect):
        if not row.code and not any(cell.strip() for cell in row.cells):
            continue
        if header is None:
            header = check_header(file, row, require)
            continue
        num_records += 1
        cells, width = row.cells, len(header)
        if len(cells) > width and not any(cell.strip() for cell in cells[width:]):
            del cells[width:]  # spreadsheets end rows with the empty cells of columns that were deleted
        if row.code or len(cells) != width:
            yield _reject_row(Record(name, row.line, {}), row, header)
        else:
            cells = dialect.plain_cells(cells) if has_numbers else cells
            yield row.line, dict(zip(header, cells, strict=True))
    if header is not None and num_records == 0:
        raise refuse_file(
            file.path, "file_header_only", "has a header and no line", "write one line for each record"
        )


def _reject_row(record: Record, row: CsvRecord, header: list[str]) -> Rejected:
    if row.code == "body_too_large":
        return too_large(record)
    if row.code:
        return record.reject(row.code, row.reason, 'double each quote inside a quoted cell: ""')
    num_cells, width = len(row.cells), len(header)
    reason = f"has {num_cells} cells, the header names {width}"
    if num_cells > width:
        advice = "quote cells that hold the delimiter"
        return record.reject("csv_extra_cell", reason, advice, text=row.cells[0])
    reason += f": there is none for {snippet(header[num_cells]) or 'the rest'}"
    return record.reject("csv_missing_cell", reason, "leave absent cells empty", text=row.cells[0])


def check_header(file: InputFile, row: CsvRecord, require: Require) -> list[str]:
    """The names of the columns, but for empty cells at the end. Raises FileRejectedError."""
    path, line = file.path, row.line
    if row.code:
        raise refuse_file(path, row.code, f"the header {row.reason}", "write a line of column names", line)
    header = [cell.strip() for cell in row.cells]
    while header and not header[-1]:
        header.pop()
    if any(invalid_unicode_at(cell) is not None for cell in header):
        advice = "save the file as UTF-8, or give its --encoding"
        raise refuse_file(path, "text_invalid_unicode", "the header is not UTF-8", advice, line)
    check_columns(path, header, require, line)
    return header


def too_large(record: Record) -> Rejected:
    """Refuse a record that passed MAX_LINE_BYTES."""
    reason = f"has more than {MAX_LINE_BYTES:,} bytes"
    return record.reject("body_too_large", reason, "shorten the text, or split it over lines")
