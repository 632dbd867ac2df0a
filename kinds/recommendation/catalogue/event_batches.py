"""Reads a log of interactions as Arrow columns, about a hundred thousand rows at a time.

Arrow parses chunks without faults. Any other chunk is parsed line by line, with the readers that other kinds
of files use too, so that each bad line is reported. Both ways give the same result for a good line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.json as arrow_json

from jobs.guards import invalid_unicode_at
from jobs.intake.columns import ColumnMappingError, assign
from jobs.intake.dialect import AS_FOUND, Dialect, FileOptions
from jobs.intake.files import Chunk, InputFile, Line, open_file, read_chunks
from jobs.intake.formats import Format
from jobs.intake.parquet import parquet_batches
from jobs.intake.records import (
    Fields,
    Record,
    check_header,
    csv_records,
    jsonl_records,
    read_csv_records,
    too_large,
)
from jobs.intake.values import MAX_INTEGER, JsonRefusedError, as_text, parse
from jobs.rejection import Rejected, refuse_file
from kinds.recommendation.catalogue.inputs import (
    INTERACTION_FIELDS,
    assign_interaction,
    check_interaction_mapping,
    interaction_columns,
)
from kinds.recommendation.catalogue.tally import Tally

PARQUET_BATCH_ROWS = 2**17


_READ = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_integer,
    pa.types.is_float32,
    pa.types.is_float64,
    pa.types.is_decimal,
    pa.types.is_timestamp,
    pa.types.is_date,
    pa.types.is_null,
)
"""Tests for the types of Parquet columns that can be read, directly or as values of a dictionary column."""


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Rows of a log as they are in the file; only their format has been checked."""

    columns: Mapping[str, pa.Array]
    """Arrays of equal length by field; `user` and `item` are always present."""
    lines: npt.NDArray[np.int64]
    """Line number of each row, or its row number in a Parquet file, counted from 1."""


def event_batches(
    path: Path, columns: Mapping[str, str], tally: Tally, options: FileOptions = AS_FOUND
) -> Iterator[EventBatch]:
    """Yield the batches of a log, and report malformed rows to the tally.

    Raises ColumnMappingError if the mapping of columns is unusable, and FileRejectedError if the file is.
    """
    check_interaction_mapping(columns)
    with open_file(path, options) as file:
        if file.format is Format.PARQUET:
            yield from _parquet(file, columns, tally)
        elif file.format is Format.JSONL:
            yield from _jsonl(file, columns, tally)
        elif file.format is Format.CSV:
            yield from _csv(file, columns, tally)
        else:
            raise refuse_file(path, "format_unknown", "is XML", "write it as CSV, JSONL or Parquet")


def _parquet(file: InputFile, columns: Mapping[str, str], tally: Tally) -> Iterator[EventBatch]:
    row = 1

    def require(names: list[str]) -> Iterable[str]:
        tally.columns = tuple(names)
        return interaction_columns(names, columns).values()

    for batch in parquet_batches(
        file,
        require,
        batch_rows=PARQUET_BATCH_ROWS,
        keep_dictionaries=True,
    ):
        names = batch.schema.names
        assigned = interaction_columns(names, columns)
        arrays = {field: batch.column(names.index(column)) for field, column in assigned.items()}
        for field, array in arrays.items():
            if not _is_read(array.type):
                reason = f"column {assigned[field]!r} holds {array.type} instead of text, numbers or dates"
                raise refuse_file(file.path, "field_invalid", reason, "convert the column")
        yield EventBatch(arrays, np.arange(row, row + batch.num_rows))
        row += batch.num_rows


def _is_read(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(is_kind(kind) for is_kind in _READ)


def _csv(file: InputFile, columns: Mapping[str, str], tally: Tally) -> Iterator[EventBatch]:
    header: Line | None = None
    names: list[str] = []
    assigned: dict[str, str] = {}
    num_chunks = 0
    path = file.path
    for chunk in read_chunks(file):
        if header is None:
            header, chunk = _first_line(path, chunk)
            if header is None:
                continue
            row = next(iter(read_csv_records([header], file.dialect)))
            names = check_header(file, row, lambda header_names: interaction_columns(header_names, columns))
            assigned = interaction_columns(names, columns)
            tally.columns = tuple(names)
        if chunk.is_too_large:
            tally.reject(too_large(Record(str(path), chunk.first_line, {})))
        if not chunk.body.strip():
            continue
        num_chunks += 1
        batch = _fast_csv(chunk, names, assigned, file.dialect)
        if batch is None:
            records = csv_records(file, chain([header], _lines(chunk)), lambda header_names: header_names)
            batch = _slow(path, records, columns, tally)
        yield batch
    if header is None:
        raise refuse_file(path, "file_empty", "is empty", "write one line per interaction")
    if num_chunks == 0:
        raise refuse_file(
            path, "file_header_only", "has a header but no other lines", "write one line per interaction"
        )


def _first_line(path: Path, chunk: Chunk) -> tuple[Line | None, Chunk]:
    """Return the first line that is not blank, or None, and the rest of the chunk after that line.

    Raises FileRejectedError if the line is too long.
    """
    if chunk.is_too_large:
        raise refuse_file(
            path,
            "body_too_large",
            "has a header that is too long",
            "put only the column names on the first line",
        )
    number, body = chunk.first_line, chunk.body
    while body:
        line, end, body = body.partition(b"\n")
        if line.strip():
            return Line(number, (line + end).decode("utf-8", "surrogateescape")), Chunk(number + 1, body)
        number += 1
    return None, Chunk(number, b"")


def _lines(chunk: Chunk) -> Iterator[Line]:
    for number, line in enumerate(chunk.body.split(b"\n"), start=chunk.first_line):
        yield Line(number, line.decode("utf-8", "surrogateescape") + "\n")


def _fast_csv(
    chunk: Chunk, names: list[str], assigned: Mapping[str, str], dialect: Dialect
) -> EventBatch | None:
    """Return the rows of a chunk, or None if the chunk must be parsed line by line."""
    if not dialect.is_plain:
        return None
    body = chunk.body.rstrip(b"\r\n")
    is_plain = b"\0" not in body and body.count(b"\r") == body.count(b"\r\n")
    if not is_plain or (b'"' in body and b'"' in _quoted_cell(dialect.delimiter).sub(b"", body)):
        return None
    positions = {field: str(names.index(column)) for field, column in assigned.items()}
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(body),
            read_options=arrow_csv.ReadOptions(
                column_names=[str(position) for position in range(len(names))],
                use_threads=False,
                block_size=len(body) + 1,
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=dialect.delimiter),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(positions.values()),
                column_types=dict.fromkeys(positions.values(), pa.string()),
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    for position in map(int, positions.values()):
        if position in dialect.comma_numbers:
            table = _with_points(table, position, dialect)
    return _checked(table, positions, chunk.first_line, body.count(b"\n") + 1)


@lru_cache(maxsize=8)
def _quoted_cell(delimiter: str) -> re.Pattern[bytes]:
    sign = re.escape(delimiter.encode())
    return re.compile(rb'(?:\A|(?<=\n)|(?<=%b))"(?:[^"\n]|"")*+"(?=[\r\n]|%b|\Z)' % (sign, sign))


def _with_points(table: pa.Table, position: int, dialect: Dialect) -> pa.Table:
    """Return the table with points instead of decimal commas in one column."""
    index = table.column_names.index(str(position))
    values = table.column(index).combine_chunks().dictionary_encode()
    plain = [dialect.plain_number(text, position) for text in values.dictionary.to_pylist()]
    column = pa.array(plain, pa.string()).take(values.indices)
    return table.set_column(index, str(position), column)


def _jsonl(file: InputFile, columns: Mapping[str, str], tally: Tally) -> Iterator[EventBatch]:
    num_chunks = 0
    path = file.path
    for chunk in read_chunks(file):
        if chunk.is_too_large:
            tally.reject(too_large(Record(str(path), chunk.first_line, {})))
        if not chunk.body.strip():
            continue
        num_chunks += 1
        batch = _fast_jsonl(chunk, columns)
        yield batch or _slow(path, jsonl_records(path, _lines(chunk)), columns, tally)
    if num_chunks == 0:
        raise refuse_file(path, "file_empty", "is empty", "write one line per interaction")


def _fast_jsonl(chunk: Chunk, columns: Mapping[str, str]) -> EventBatch | None:
    body = chunk.body.rstrip(b"\r\n")
    num_lines = body.count(b"\n") + 1
    # Only one flat object per line is accepted, because Arrow's parser does not limit nesting depth.
    if b"[" in body or body.count(b"{") != num_lines or b"\\u0000" in body or b"\0" in body:
        return None
    try:
        first = parse(body.partition(b"\n")[0].decode())
        if not isinstance(first, dict):
            return None
        assigned = interaction_columns(list(first), columns)
        types = {assigned[field]: _arrow_type(field, first[assigned[field]]) for field in assigned}
        table = arrow_json.read_json(
            pa.BufferReader(body),
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(body) + 1),
            parse_options=arrow_json.ParseOptions(explicit_schema=pa.schema(types.items())),
        )
        if interaction_columns(table.column_names, columns) != assigned:
            return None
    except (pa.ArrowException, UnicodeDecodeError, JsonRefusedError, ColumnMappingError):
        return None
    if table[assigned["user"]].null_count and table[assigned["item"]].null_count:
        return None
    for field, column in assigned.items():
        values = table[column]
        if pa.types.is_int64(values.type) and pc.any(pc.greater(pc.abs_checked(values), MAX_INTEGER)).as_py():
            return None
        others = set(table.column_names) - {column}
        if values.null_count and field in assign(others, {}, {field: INTERACTION_FIELDS[field]}):
            return None
    return _checked(table, assigned, chunk.first_line, num_lines)


def _arrow_type(field: str, value: object) -> pa.DataType:
    """Return the Arrow type for a value of the first line.

    If a later line has a value of a different type, Arrow raises an error.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return pa.float64() if field in ("weight", "quantity", "time") else pa.int64()
    return pa.float64() if isinstance(value, float) else pa.string()


def _checked(
    table: pa.Table, columns: Mapping[str, str], first_line: int, num_lines: int
) -> EventBatch | None:
    """Return the batch; None if some line did not become a row, because the line numbers are then unknown."""
    if table.num_rows != num_lines:
        return None
    arrays = {field: table[column].combine_chunks() for field, column in columns.items()}
    return EventBatch(arrays, np.arange(first_line, first_line + num_lines))


def _slow(
    path: Path, records: Iterable[Fields | Rejected], columns: Mapping[str, str], tally: Tally
) -> EventBatch:
    values: dict[str, list[str]] = {field: [] for field in INTERACTION_FIELDS}
    lines: list[int] = []
    for record in records:
        line = record.line if isinstance(record, Rejected) else record[0]
        blank = Record(str(path), line, {})
        row = record if isinstance(record, Rejected) else _texts(blank, record[1], columns)
        if isinstance(row, Rejected):
            tally.reject(row)
            continue
        for field, texts in values.items():
            texts.append(row.get(field, ""))
        lines.append(line)
    arrays = {field: pa.array(texts, pa.string()) for field, texts in values.items()}
    return EventBatch(arrays, np.array(lines, dtype=np.int64))


def _texts(
    record: Record, fields: Mapping[str, object], columns: Mapping[str, str]
) -> dict[str, str] | Rejected:
    assigned = _assigned(tuple(fields), tuple(columns.items()))
    if not any(field in ("user", "item") for field, _ in assigned):
        try:
            interaction_columns(list(fields), columns)
        except ColumnMappingError as error:
            return record.reject(error.code, str(error)[:300], "put a user and an item on every line")
    texts = {}
    for field, column in assigned:
        text = as_text(fields[column])
        if text is None:
            return record.reject("field_invalid", "is not a text", "write it as a string", column)
        if (at := invalid_unicode_at(text)) is not None:
            return record.reject_unicode(text, at, column)
        texts[field] = text
    return texts


@lru_cache(maxsize=1_000)  # most files have the same names on every line; a hostile file may not
def _assigned(names: tuple[str, ...], columns: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple(assign_interaction(names, dict(columns)).items())
