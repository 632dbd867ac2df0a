"""The table of an export: one row per job, as JSONL, CSV and Parquet, written in constant memory.

The names of all metrics are known only after the last job has been read. So the rows are first written as
JSONL while their columns are recorded, and the other two files are made from the JSONL file.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.shown import csv_cell, json_text

CSV_TABLE = "results.csv"
PARQUET_TABLE = "results.parquet"

MAX_METRIC_COLUMNS = 256
"""Maximum number of metrics that get a column, in order of appearance; results.jsonl contains all of them."""

ROWS_AT_A_TIME = 500
"""Number of rows converted together, and the size of a Parquet row group; with the longest texts they take 16
MB."""

_MAX_INTEGER = 2**63

_OWN_COLUMNS: Mapping[str, pa.DataType] = {
    "id": pa.string(),
    "job_id": pa.string(),
    "status": pa.string(),
    "attempt": pa.int64(),
    "file": pa.string(),
    "media_type": pa.string(),
    "sha256": pa.string(),
    "usage.prompt_tokens": pa.int64(),
    "usage.cached_tokens": pa.int64(),
    "usage.new_tokens": pa.int64(),
    "error.code": pa.string(),
    "error.message": pa.string(),
    "text": pa.string(),
}
"""Columns that every kind has; a name with a dot is a member of an object in the JSONL file."""

_METRICS = "metrics."


def flattened(row: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the columns of a row; members of objects get names with dots, and lists stay as they are.

    >>> dict(flattened({"id": "a", "metrics": {"words": {"number": 3}, "flags": []}}))
    {'id': 'a', 'metrics.words.number': 3, 'metrics.flags': []}
    """
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


class ColumnTypes:
    """The types of the columns of a table whose rows become known one by one."""

    def __init__(self, max_columns: int | None = None) -> None:
        """Record the first `max_columns` columns; None for no limit."""
        self._max_columns = max_columns
        self._types: dict[str, pa.DataType] = {}

    def note(self, name: str, value: object) -> None:
        """Record a value of a column; values of different types make it a column of texts."""
        if value is None:
            return
        known, own = self._types.get(name), _type_of(value)
        if known is None:
            if self._max_columns is None or len(self._types) < self._max_columns:
                self._types[name] = own
        elif known != own:
            are_numbers = {known, own} <= {pa.int64(), pa.float64()}
            self._types[name] = pa.float64() if are_numbers else pa.string()

    def __getitem__(self, name: str) -> pa.DataType:
        """Return the type of a column; text if it has no value."""
        return self._types.get(name, pa.string())

    def items(self) -> list[tuple[str, pa.DataType]]:
        """Return the columns in the order of their first values, with their types."""
        return list(self._types.items())


class TableWriter:
    """Writes rows to the JSONL file, and records the columns that their metrics need."""

    def __init__(self, lines: TextIO) -> None:
        """Write to `lines`, which is results.jsonl open for writing."""
        self._lines = lines
        self._metrics = ColumnTypes(MAX_METRIC_COLUMNS)

    def write(self, row: Mapping[str, object]) -> None:
        """Append a row to the JSONL file and record the columns that its metrics need."""
        self._lines.write(json_text(row) + "\n")
        for name, value in flattened(row):
            if name.startswith(_METRICS):
                self._metrics.note(name, value)

    def schema(self) -> pa.Schema:
        """Return the columns of the rows so far: those of every kind, the metrics, and finally the text."""
        own = dict(_OWN_COLUMNS)
        text = own.pop("text")
        return pa.schema([*own.items(), *self._metrics.items(), ("text", text)])


Cells = Callable[[Mapping[str, object]], Mapping[str, object]]
"""Function that returns the values of a row of the JSONL file by the names of the columns."""


def flat_cells(row: Mapping[str, object]) -> Mapping[str, object]:
    """Return the values of a row with the names that `flattened` gives them."""
    return dict(flattened(row))


def convert_table(lines: Path, folder: Path, schema: pa.Schema, cells: Cells = flat_cells) -> None:
    """Write results.csv and results.parquet from results.jsonl, with the columns of the schema.

    Cells of the CSV file are escaped so that no spreadsheet reads them as formulas. Lists, and values that
    fit no Parquet type, are written as JSON in both files.
    """
    with (
        lines.open(encoding="utf-8") as source,
        (folder / CSV_TABLE).open("w", encoding="utf-8", newline="") as file,
        pq.ParquetWriter(folder / PARQUET_TABLE, schema, compression="zstd") as parquet,
    ):
        table = csv.writer(file)
        table.writerow([csv_cell(name) for name in schema.names])
        while some := list(islice(source, ROWS_AT_A_TIME)):
            rows = [_converted(cells(json.loads(line)), schema) for line in some]
            table.writerows([csv_cell(row[name]) for name in schema.names] for row in rows)
            parquet.write_table(pa.Table.from_pylist(rows, schema=schema))


def _converted(values: Mapping[str, object], schema: pa.Schema) -> dict[str, object]:
    return {field.name: _cell(values.get(field.name), field.type) for field in schema}


def _cell(value: object, type_: pa.DataType) -> object:
    if isinstance(value, int) and pa.types.is_floating(type_):
        return float(value)  # Arrow refuses a whole number that a float cannot represent exactly
    if value is None or not pa.types.is_string(type_):
        return value
    return value if isinstance(value, str) else json_text(value)


def _type_of(value: object) -> pa.DataType:
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int) and -_MAX_INTEGER <= value < _MAX_INTEGER:
        return pa.int64()
    return pa.float64() if isinstance(value, float) else pa.string()
