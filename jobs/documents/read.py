"""A file of documents, in any format that is usual -> documents, a few in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from jobs.documents.document import KnownRecords
from jobs.documents.feed import MAX_FEED_BYTES, feed_records
from jobs.documents.reading import OnNote, Reading
from jobs.documents.records import DocumentMaker, require_columns
from jobs.instants import DateOrder
from jobs.intake.columns import assign
from jobs.intake.dialect import AS_FOUND, FileOptions
from jobs.intake.files import InputFile, file_format, open_file
from jobs.intake.formats import Format
from jobs.intake.records import Unparsed, opened_records, parsed
from jobs.rejection import FileRejectedError, Rejected, refuse_file

_READ_BYTES = 2**16


def read_documents(
    path: Path,
    *,
    now: datetime,
    columns: Mapping[str, str] | None = None,
    date_order: DateOrder | None = None,
    known: KnownRecords | None = None,
    on_note: OnNote | None = None,
    options: FileOptions = AS_FOUND,
) -> Reading:
    """Stream the documents of a CSV, JSONL (both gzip or not), Parquet, RSS or Atom file, in its order.

    The format is that of the first bytes, else of the name. `columns` names the file's column of a field
    where the usual names (fields.py) do not find it. Where dates such as 12/1/2010 are met and `date_order`
    is not given, the file is read once more to see which number is the month in all of them.
    Raises FileRejectedError, at any moment of the iteration, for what makes the whole file unusable, and
    ColumnMappingError at once.
    """
    given = columns or {}
    maker = DocumentMaker(
        str(path),
        now=now,
        columns=given,
        date_order=date_order,
        dates=lambda: _dates(path, given, options.quietly()),
    )
    is_feed = _is_feed(path, options)
    return Reading(_records(path, given, options), maker, known, is_snapshot=is_feed, on_note=on_note)


def _is_feed(path: Path, options: FileOptions) -> bool:
    try:
        return file_format(path, options) is Format.XML
    except FileRejectedError:
        return False  # the first reading tells why


def _dates(path: Path, columns: Mapping[str, str], options: FileOptions) -> Iterator[object]:
    """What stands in the column of dates, row by row."""
    shape: tuple[str, ...] = ()
    column: str | None = None
    for record in _records(path, columns, options):
        fields = record if isinstance(record, Rejected) else parsed(str(path), record)
        if isinstance(fields, Rejected):
            continue
        if (names := tuple(fields[1])) != shape:
            shape, column = names, assign(names, columns).get("published_at")
        if column is not None:
            yield fields[1][column]


def _records(path: Path, columns: Mapping[str, str], options: FileOptions) -> Iterator[Unparsed | Rejected]:
    is_empty = True
    with open_file(path, options) as file:
        if file.format is Format.XML:
            records: Iterator[Unparsed | Rejected] = feed_records(str(path), _bounded(file))
        else:
            records = opened_records(file, lambda names: require_columns(names, columns).values())
        for record in records:
            is_empty = False
            yield record
    if is_empty:
        raise refuse_file(path, "file_empty", "holds no document", "write one line for each document")


def _bounded(file: InputFile) -> bytes:
    body = bytearray()
    while chunk := file.stream.read(_READ_BYTES):
        body += chunk
        if len(body) > MAX_FEED_BYTES:
            reason = f"has more than {MAX_FEED_BYTES:,} bytes"
            raise refuse_file(file.path, "body_too_large", reason, "split the feed")
    return bytes(body)
