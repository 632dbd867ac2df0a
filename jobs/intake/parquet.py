"""Reads the rows of a Parquet file in small batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from pyarrow import parquet

from jobs.intake.columns import Require, check_columns
from jobs.intake.files import MAX_GZIP_RATIO, MIN_BYTES_FOR_RATIO, InputFile
from jobs.intake.records import Record
from jobs.rejection import Refusal, Rejected, apart, refuse_file

_BATCH_ROWS = 64
"""Maximum number of rows in memory at a time. It must be small, because a dictionary-encoded column may
contain a text of 1 MB in each of a million rows."""

_MAX_ROW_GROUP_BYTES = 2**30
"""Maximum unpacked size of the selected columns in a row group. The defaults of writers are between 1 and
512 MB."""


def parquet_records(
    file: InputFile, require: Require
) -> Iterator[tuple[int, Mapping[str, object]] | Rejected]:
    """Yield the number of each row, from 1, and its values in the columns that `require` selects.

    Raises FileRejectedError: `file_unreadable`, `parquet_malformed`, `body_too_large`, `missing_column`.
    """
    number = 0
    for batch in parquet_batches(file, require, batch_rows=_BATCH_ROWS):
        for row in _rows(batch):
            number += 1
            if isinstance(row, Refusal):
                yield Record(str(file.path), number, {}).reject_unreadable(row)
            else:
                yield number, row


def _rows(batch: pa.RecordBatch) -> list[dict[str, object] | Refusal]:
    """Convert the rows to dicts.

    A row with a value that Python cannot represent, such as the year 30000, becomes a Refusal.
    """
    return apart(range(batch.num_rows), lambda some: batch.slice(some[0], len(some)).to_pylist())


def parquet_batches(
    input_file: InputFile,
    require: Require,
    *,
    batch_rows: int,
    keep_dictionaries: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows as Arrow columns, `batch_rows` at a time. Raises the same errors as parquet_records.

    With `keep_dictionaries`, a text that occurs in a million rows is in memory only once.
    """
    path, raw = input_file.path, input_file.stream
    try:
        # With memory mapping, a file that is cut short meanwhile would cause a bus error.
        with parquet.ParquetFile(raw, memory_map=False, pre_buffer=False) as file:
            wanted = check_columns(path, file.schema_arrow.names, require)
            _check_sizes(path, file.metadata, wanted)
            if keep_dictionaries:
                texts = [name for name in wanted if _is_text(file.schema_arrow.field(name).type)]
                yield from _with_dictionaries(raw, wanted, texts, batch_rows)
                return
            yield from file.iter_batches(batch_size=batch_rows, columns=wanted, use_threads=False)
    except OSError as error:
        if error.errno is not None:
            reason = f"cannot be read: {error.strerror}"
            raise refuse_file(
                path, "file_unreadable", reason, "check the path and its permissions"
            ) from error
        raise _malformed(path, error) from error
    except (pa.ArrowException, ValueError, OverflowError, UnicodeDecodeError) as error:
        raise _malformed(path, error) from error


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _with_dictionaries(
    raw: BinaryIO, wanted: list[str], texts: list[str], batch_rows: int
) -> Iterator[pa.RecordBatch]:
    with parquet.ParquetFile(raw, memory_map=False, pre_buffer=False, read_dictionary=texts) as file:
        yield from file.iter_batches(batch_size=batch_rows, columns=wanted, use_threads=False)


def _malformed(path: Path, error: Exception) -> Exception:
    reason = f"is not readable Parquet: {str(error)[:200]}"
    return refuse_file(path, "parquet_malformed", reason, "write or transfer the file again")


def _check_sizes(path: Path, metadata: parquet.FileMetaData, wanted: list[str]) -> None:
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        chunks = [row_group.column(index) for index in range(row_group.num_columns)]
        chunks = [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in wanted]
        unpacked = sum(chunk.total_uncompressed_size for chunk in chunks)
        packed = sum(chunk.total_compressed_size for chunk in chunks)
        if unpacked > _MAX_ROW_GROUP_BYTES:
            reason = f"row group {group} has {unpacked:,} bytes, more than {_MAX_ROW_GROUP_BYTES:,}"
            raise refuse_file(path, "body_too_large", reason, "write the file with smaller row groups")
        if unpacked > MIN_BYTES_FOR_RATIO and unpacked > MAX_GZIP_RATIO * max(packed, 1):
            reason = f"row group {group} unpacks to more than {MAX_GZIP_RATIO} times its size"
            raise refuse_file(path, "body_too_large", reason, "check the file, or write it uncompressed")
