"""A file of documents, in any format that is usual -> documents, one in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from jobs.documents.document import Document
from jobs.documents.feed import MAX_FEED_BYTES, feed_records
from jobs.documents.records import DocumentMaker, Versions, require_columns
from jobs.file_records import Fields, file_format, file_records
from jobs.intake_file import MAX_LINE_BYTES, read_physical_lines, refuse_file
from jobs.rejection import Rejected


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
    if file_format(path) == ".xml":
        yield from feed_records(str(path), _bounded(path))
    else:
        yield from file_records(path, lambda names: require_columns(names, columns).values())


def _bounded(path: Path) -> bytes:
    body = bytearray()
    for line in read_physical_lines(path):
        body += line.text.encode("utf-8", "surrogateescape")
        if line.is_too_large or len(body) > MAX_FEED_BYTES:
            reason = f"has more than {MAX_FEED_BYTES:,} bytes, or a line of more than {MAX_LINE_BYTES:,}"
            raise refuse_file(path, "body_too_large", reason, "split the feed")
    return bytes(body)
