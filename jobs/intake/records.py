"""Reads records of CSV files in any dialect, of JSONL and Parquet files, gzipped or not, and in memory."""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from jobs.guards import find_hidden_secret, invalid_unicode_at
from jobs.intake.columns import Require, check_columns
from jobs.intake.dialect import AS_FOUND, Dialect, FileOptions
from jobs.intake.files import (
    MAX_LINE_BYTES,
    InputFile,
    Line,
    open_file,
    read_chunks,
    read_physical_lines,
)
from jobs.intake.formats import Format
from jobs.intake.values import MAX_DEPTH, JsonRefusedError, parse
from jobs.rejection import Refusal, Rejected, refuse_file, snippet


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a file that is not validated yet."""

    file: str
    line: int
    fields: dict[str, object]

    def strings(self) -> Iterator[tuple[str, str]]:
        """Yield the column and the text of every string in the record, including keys and nested values."""
        for name, value in self.fields.items():
            yield name, name
            strings: list[str] = []
            _collect_strings(value, strings)
            for text in strings:
                yield name, text

    def text(self) -> str:
        """Return every string in the record, each beginning on a new line."""
        strings: list[str] = []
        _collect_strings(self.fields, strings)
        return "\n".join(strings)

    def reject(
        self, code: str, reason: str, advice: str, column: str | None = None, text: str | None = None
    ) -> Rejected:
        """Refuse this record, and quote the beginning of `text` in the rejection."""
        shown = snippet(text) if text is not None else None
        name = snippet(column) if column is not None else None
        return Rejected(
            file=self.file,
            line=self.line,
            code=code,
            reason=reason,
            advice=advice,
            column=name,
            snippet=shown,
        )

    def reject_secret(self, secret: str, column: str | None = None) -> Rejected:
        """Refuse this record because it contains a secret, and quote nothing from it."""
        reason = f"seems to contain {secret}"
        advice = "remove it, and replace the secret wherever it is used"
        return self.reject("secret_in_input", reason, advice, column)

    def reject_unreadable(self, refusal: Refusal) -> Rejected:
        """Refuse this record because processing it raised an error."""
        return self.reject(refusal.code, refusal.reason, "correct the record, or leave it out")

    def reject_unicode(self, text: str, at: int, column: str | None = None) -> Rejected:
        """Refuse this record because of the invalid character at index `at` of the text."""
        reason, advice = invalid_unicode(text, at)
        return self.reject("text_invalid_unicode", reason, advice, column, text)


def invalid_unicode(text: str, at: int) -> tuple[str, str]:
    """Return the reason and the advice for the invalid character at index `at` of a text."""
    ordinal, place = ord(text[at]), f"at character {at + 1}"
    if ordinal == 0:
        return f"contains a NUL {place}", "remove this character"
    if 0xDC80 <= ordinal <= 0xDCFF:  # a byte that is not UTF-8 is decoded to this (PEP 383)
        return (
            f"contains the byte 0x{ordinal - 0xDC00:02x} {place}, which is not UTF-8",
            "save the file as UTF-8",
        )
    return f"contains the lone surrogate U+{ordinal:04X} {place}", "remove this character"


def json_object(record: Record, text: str, *, example: str) -> dict[str, object] | Rejected:
    """Parse a line of JSONL as an object, or return its rejection. `example` is a valid line for messages."""
    try:
        value = parse(text)
    except JsonRefusedError as error:
        if (secret := find_hidden_secret(text)) is not None:
            return record.reject_secret(secret)
        return Rejected(
            file=record.file,
            line=record.line,
            character=error.character,
            code=error.code,
            reason=error.reason,
            advice=error.advice,
            snippet=snippet(text),
        )
    if not isinstance(value, dict):
        advice = f"write one JSON object per line, such as {example}"
        return record.reject("json_invalid", "is not a JSON object", advice, text=text)
    return value


def _collect_strings(value: object, strings: list[str]) -> None:
    if isinstance(value, str):
        strings.append(value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            strings.append(key)
            _collect_strings(inner, strings)
    elif isinstance(value, list):
        for inner in value:
            _collect_strings(inner, strings)


_MAX_CHARACTERS_AGAIN = 64 * MAX_LINE_BYTES
"""Maximum number of characters that are read again because of quotes that are never closed, in addition to
four times the size of the file. This takes a few seconds."""
_CHARACTERS_OF_LINE = 64
"""Cost of passing a line to the parser: the number of characters that are read in the same time."""


@dataclass(frozen=True, slots=True)
class CsvRecord:
    """The cells of a CSV record, or what is wrong with it."""

    line: int
    cells: list[str] = field(default_factory=list)
    code: str = ""
    """Code of the error, `csv_malformed` or `body_too_large`; empty if there is none."""
    reason: str = ""


class _RecordTooLargeError(Exception):
    """The current CSV record exceeds MAX_LINE_BYTES."""


class _LineQueue:
    """Passes lines to csv.reader, and keeps those of the current record, so that they can be read again."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self._again: deque[Line] = deque()
        self.pending: list[Line] = []
        self._num_characters = 0
        self._left = _MAX_CHARACTERS_AGAIN
        self.is_hopeless = False
        """Whether so many quotes were never closed that the rest of the file is refused without parsing."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._again:
            line = self._again.popleft()
            self._left -= len(line.text) + _CHARACTERS_OF_LINE
            self.is_hopeless = self._left < 0
        else:
            line = next(self._lines)
            self._left += 4 * (len(line.text) + _CHARACTERS_OF_LINE)
        if self.is_hopeless:
            self.pending.append(line)
            raise _RecordTooLargeError
        self.pending.append(line)
        self._num_characters += len(line.text)
        if line.is_too_large or self._num_characters > MAX_LINE_BYTES:
            raise _RecordTooLargeError
        return line.text

    def accept(self) -> None:
        """Discard the lines of the current record, because the record is complete."""
        self.pending.clear()
        self._num_characters = 0

    def give_up(self) -> Line:
        """Give up the current record, which is malformed: return its first line, and read the others
        again."""
        first, *rest = self.pending
        self._again.extendleft(reversed(rest))
        self.accept()
        return first

    def refuse_rest(self) -> Iterator[CsvRecord]:
        """Yield each of the remaining lines as a refused record."""
        reason = "follows too many lines with a quote that is never closed"
        for line in chain(self._again, self._lines):
            yield CsvRecord(line.number, code="csv_malformed", reason=reason)


def read_csv_records(lines: Iterable[Line], dialect: Dialect) -> Iterator[CsvRecord]:
    """Stream the records of a CSV file (RFC 4180, in this dialect), including blank lines as empty records.

    A quote that is never closed would make the rest of the file one cell. Therefore only the line with the
    quote is refused, and the lines after it are read again. If so many lines have such quotes that this would
    take more than a few passes over the file, each remaining line is refused without being parsed. Memory
    holds one record, which has at most MAX_LINE_BYTES.
    """
    # The csv module limits cells to 131,072 characters, for the whole process. The queue limits records.
    csv.field_size_limit(MAX_LINE_BYTES + 1)
    queue = _LineQueue(lines)
    reader = dialect.reader(queue)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, _RecordTooLargeError) as error:
            first = queue.give_up()
            yield _broken(first, error)
            if queue.is_hopeless:
                yield from queue.refuse_rest()
                return
            reader = dialect.reader(queue)
            continue
        first = queue.pending[0]
        queue.accept()
        yield CsvRecord(first.number, cells)


def _broken(first: Line, error: Exception) -> CsvRecord:
    if first.is_too_large or len(first.text) > MAX_LINE_BYTES:
        return CsvRecord(
            first.number, code="body_too_large", reason=f"has more than {MAX_LINE_BYTES:,} bytes"
        )
    if isinstance(error, _RecordTooLargeError) or "unexpected end of data" in str(error):
        return CsvRecord(first.number, code="csv_malformed", reason="opens a quote that is never closed")
    return CsvRecord(first.number, code="csv_malformed", reason=f"is not CSV: {error}")


Fields = tuple[int, Mapping[str, object]]
"""A record: the number of its line, row or entry, from 1, and its values by column."""

Unparsed = tuple[int, bytes | Mapping[str, object]]
"""A record like Fields, but a line of JSONL is still bytes, without surrounding white space."""

Items = Iterable[Mapping[str, object]]
"""Records in memory, each with columns as keys. A generator is consumed item by item."""

_EXAMPLE = '{"id": "..."}'

_CHUNK_BYTES = 2**18
"""Approximate size of the lines that are in memory at a time."""


def file_records(
    path: Path, require: Require, options: FileOptions = AS_FOUND
) -> Iterator[Fields | Rejected]:
    """Stream the records of a file, with only a few in memory at a time.

    `require` is not called for JSONL, which has no header. Raises FileRejectedError, at any point of the
    iteration, for a file that is unusable as a whole.
    """
    name = str(path)
    for record in unparsed_records(path, require, options):
        yield record if isinstance(record, Rejected) else parsed(name, record)


def unparsed_records(
    path: Path, require: Require, options: FileOptions = AS_FOUND
) -> Iterator[Unparsed | Rejected]:
    """Stream the records of a file like file_records, but leave lines of JSONL unparsed."""
    with open_file(path, options) as file:
        yield from opened_records(file, require)


def opened_records(file: InputFile, require: Require) -> Iterator[Unparsed | Rejected]:
    """Stream the records of an opened file like unparsed_records."""
    if file.format is Format.PARQUET:
        from jobs.intake.parquet import parquet_records  # imported here, because it loads Arrow

        yield from parquet_records(file, require)
    elif file.format is Format.JSONL:
        yield from _unparsed_lines(file)
    elif file.format is Format.CSV:
        yield from csv_records(file, read_physical_lines(file), require)
    else:
        raise refuse_file(file.path, "format_unknown", "is XML", "write it as CSV, JSONL or Parquet")


def parsed(name: str, record: Unparsed) -> Fields | Rejected:
    """Parse a record from `unparsed_records`. `name` is the name of the file."""
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
    """Yield the records in these lines of JSONL."""
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
    """Stream items in memory as records, numbered from 1. `name` is used in place of a file's name.

    Each item is converted to a line of JSONL and parsed again, so that the same rules as for files apply to
    numbers, depth, size and duplicate keys.
    """
    for number, item in enumerate(items, start=1):
        yield _item_record(Record(name, number, {}), item)


def _item_record(record: Record, item: object) -> Fields | Rejected:
    try:
        text = json.dumps(dict(item) if isinstance(item, Mapping) else item, ensure_ascii=False)
    except RecursionError:
        return record.reject("json_too_deep", f"is nested deeper than {MAX_DEPTH} levels", "flatten the item")
    except (TypeError, ValueError) as error:  # a type that JSON lacks, or an item that contains itself
        reason = f"cannot be written as JSON: {snippet(str(error)) or type(error).__name__}"
        advice = "use texts, numbers, booleans, None, and lists or mappings of them"
        return record.reject("json_invalid", reason, advice)
    if len(text.encode("utf-8", "surrogatepass")) > MAX_LINE_BYTES:
        return too_large(record)
    return _parse_object(record, text)


def csv_records(file: InputFile, lines: Iterable[Line], require: Require) -> Iterator[Fields | Rejected]:
    """Yield the records in these lines of CSV. The first line that is not blank names the columns.

    Raises FileRejectedError for an unusable header, or if no record follows it.
    """
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
            del cells[width:]  # spreadsheets write empty cells for deleted columns at the end of rows
        if row.code or len(cells) != width:
            yield _reject_row(Record(name, row.line, {}), row, header)
        else:
            cells = dialect.plain_cells(cells) if has_numbers else cells
            yield row.line, dict(zip(header, cells, strict=True))
    if header is not None and num_records == 0:
        raise refuse_file(
            file.path, "file_header_only", "has a header but no records", "write one line for each record"
        )


def _reject_row(record: Record, row: CsvRecord, header: list[str]) -> Rejected:
    if row.code == "body_too_large":
        return too_large(record)
    if row.code:
        return record.reject(row.code, row.reason, 'double each quote inside a quoted cell: ""')
    num_cells, width = len(row.cells), len(header)
    reason = f"has {num_cells} cells, but the header has {width}"
    if num_cells > width:
        advice = "quote cells that contain the delimiter"
        return record.reject("csv_extra_cell", reason, advice, text=row.cells[0])
    reason += f"; {snippet(header[num_cells]) or 'the rest'} is missing"
    advice = "write an empty cell for a missing value"
    return record.reject("csv_missing_cell", reason, advice, text=row.cells[0])


def check_header(file: InputFile, row: CsvRecord, require: Require) -> list[str]:
    """Return the names of the columns, without empty cells at the end. Raises FileRejectedError."""
    path, line = file.path, row.line
    if row.code:
        raise refuse_file(
            path, row.code, f"the header {row.reason}", "write a header with the names of the columns", line
        )
    header = [cell.strip() for cell in row.cells]
    while header and not header[-1]:
        header.pop()
    if any(invalid_unicode_at(cell) is not None for cell in header):
        advice = "save the file as UTF-8, or give its --encoding"
        raise refuse_file(path, "text_invalid_unicode", "the header is not UTF-8", advice, line)
    check_columns(path, header, require, line)
    return header


def too_large(record: Record) -> Rejected:
    """Refuse a record that exceeds MAX_LINE_BYTES."""
    reason = f"has more than {MAX_LINE_BYTES:,} bytes"
    return record.reject("body_too_large", reason, "shorten the text, or split it into several lines")
