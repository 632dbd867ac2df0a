"""Reads documents from files of any usual format, feeds and rows, with only a few in memory at a time.

A record whose document is known already is skipped before it is parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path

from jobs.documents.document import Document, KnownRecords
from jobs.documents.feed import MAX_FEED_BYTES, feed_records
from jobs.documents.identity import Identities
from jobs.documents.maker import DocumentMaker, require_columns
from jobs.instants import DateOrder
from jobs.intake.columns import assign
from jobs.intake.dialect import AS_FOUND, FileOptions
from jobs.intake.files import InputFile, file_format, open_file
from jobs.intake.formats import Format
from jobs.intake.records import Unparsed, opened_records, parsed
from jobs.rejection import FileRejectedError, Rejected, refuse_file

MAX_RECORDS_PER_QUERY = 2_000
"""Maximum number of records per call to KnownRecords."""

_DOCUMENTS_AT_ONCE = 16
"""Number of documents whose ids are compared with each other before the first of them is returned. Later
documents are compared with those before them."""

_MAX_BYTES = 4 * 2**20
"""Total size of the collected records, in bytes, at which KnownRecords is called before there are
MAX_RECORDS_PER_QUERY of them."""


OnNote = Callable[[str], None]
"""Function that receives messages of one line about a source, for people to read."""


class Reading(Iterator["Document | Rejected"]):
    """An iterator over the documents of a source that also counts duplicates and versions.

    Documents with the same id and content are returned once. Of several versions, the one with the latest
    `published_at` is returned last (version_number). Documents that only share an id get new ids
    (identity.py). Records that are skipped as known are not counted.
    """

    def __init__(
        self,
        records: Iterable[Unparsed | Rejected],
        maker: DocumentMaker,
        known: KnownRecords | None = None,
        *,
        is_snapshot: bool = False,
        on_note: OnNote | None = None,
    ) -> None:
        """Read documents from records, except those that `known` returns.

        `is_snapshot` means that all records are in memory and each document occurs once, as in a feed. Known
        records are then skipped only after ids have been compared; otherwise their ids are not read.
        """
        self.identities = Identities(is_snapshot=is_snapshot)
        """The ids so far, with counts of duplicates, corrections and shared ids."""
        self._maker = maker
        self._is_snapshot = is_snapshot
        self._on_note = on_note or (lambda _: None)
        self._documents = self._read(records, known or (lambda _: ()))

    def __next__(self) -> Document | Rejected:
        return next(self._documents)

    def _read(
        self, records: Iterable[Unparsed | Rejected], known: KnownRecords
    ) -> Iterator[Document | Rejected]:
        for chunk in _chunks(records, self._maker, is_whole=self._is_snapshot):
            left_out = known([digest for digest, _ in chunk if digest])
            if self._is_snapshot:
                yield from (
                    one
                    for one in self._made(chunk)
                    if isinstance(one, Rejected) or bytes.fromhex(one.record or "") not in left_out
                )
                continue
            rest = (each for each in chunk if each[0] not in left_out)
            while some := list(islice(rest, _DOCUMENTS_AT_ONCE)):
                yield from self._made(some)
        unread = None if self._is_snapshot else self._maker.unread()
        name = self._maker.name
        for note in (self.identities.report(name), self.identities.report_versions(name), unread):
            if note is not None:
                self._on_note(note)

    def _made(self, chunk: _Chunk) -> Iterator[Document | Rejected]:
        """Yield the new documents and the rejections of a chunk, in order."""
        maker = self._maker
        rows: list[tuple[Mapping[str, object], Document | Rejected]] = []
        for digest, record in chunk:
            fields = record if isinstance(record, Rejected) else parsed(maker.name, record)
            if isinstance(fields, Rejected):
                rows.append(({}, fields))
            else:
                rows.append((fields[1], maker.make(*fields, record=digest.hex())))
        found = [(fields, made) for fields, made in rows if isinstance(made, Document)]
        new = iter(self.identities.new([made for _, made in found], lambda n: maker.link(found[n][0])))
        for _, made in rows:
            one = made if isinstance(made, Rejected) else next(new)
            if one is not None:
                yield one


def read_rows(
    name: str,
    rows: Iterable[Mapping[str, object]],
    *,
    now: datetime,
    columns: Mapping[str, str] | None = None,
    known: KnownRecords | None = None,
    on_note: OnNote | None = None,
) -> Reading:
    """Read documents from rows, such as the results of a query.

    The `line` of a rejection is the number of the row, from 1.
    """
    maker = DocumentMaker(name, now=now, columns=columns or {})
    return Reading(enumerate(rows, start=1), maker, known, on_note=on_note)


_Chunk = list[tuple[bytes, Unparsed | Rejected]]
"""Records with their digests. The digest of a refused record is empty, so that it is never known."""


def _chunks(
    records: Iterable[Unparsed | Rejected], maker: DocumentMaker, *, is_whole: bool
) -> Iterator[_Chunk]:
    chunk: _Chunk = []
    num_bytes = 0
    try:
        for record in records:
            if isinstance(record, Rejected):
                chunk.append((b"", record))
            else:
                digest, size = maker.digest(record[1])
                chunk.append((digest, record))
                num_bytes += size
            if not is_whole and (len(chunk) == MAX_RECORDS_PER_QUERY or num_bytes >= _MAX_BYTES):
                yield chunk
                chunk, num_bytes = [], 0
    except Exception:
        yield chunk  # the records before the error
        raise
    yield chunk


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
    """Stream the documents of a CSV, JSONL (gzipped or not), Parquet, RSS or Atom file, in order.

    The format is detected from the first bytes, or else from the name. `columns` maps fields to columns that
    have none of the usual names. If dates such as 12/1/2010 occur and `date_order` is not given, the file is
    read once more to find out which number is the month. Raises ColumnMappingError immediately, and
    FileRejectedError, at any point of the iteration, for a file that is unusable as a whole.
    """
    columns = columns or {}
    maker = DocumentMaker(
        str(path),
        now=now,
        columns=columns,
        date_order=date_order,
        dates=lambda: _dates(path, columns, options.quietly()),
    )
    is_feed = _is_feed(path, options)
    return Reading(_records(path, columns, options), maker, known, is_snapshot=is_feed, on_note=on_note)


def _is_feed(path: Path, options: FileOptions) -> bool:
    try:
        return file_format(path, options) is Format.XML
    except FileRejectedError:
        return False  # reading the file will raise the same error


def _dates(path: Path, columns: Mapping[str, str], options: FileOptions) -> Iterator[object]:
    """Yield the values of the column of dates."""
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
        raise refuse_file(path, "file_empty", "contains no document", "write one line for each document")


def _bounded(file: InputFile) -> bytes:
    body = bytearray()
    while chunk := file.stream.read(_READ_BYTES):
        body += chunk
        if len(body) > MAX_FEED_BYTES:
            reason = f"has more than {MAX_FEED_BYTES:,} bytes"
            raise refuse_file(file.path, "body_too_large", reason, "split the feed")
    return bytes(body)


def read_feed(
    name: str,
    body: bytes,
    *,
    now: datetime,
    known: KnownRecords | None = None,
    on_note: OnNote | None = None,
) -> Reading:
    """Read the documents of a feed in memory. The `line` of a rejection is the entry's number, from 1.

    Raises FileRejectedError, during the iteration, for a feed that is unusable as a whole.
    """
    maker = DocumentMaker(name, now=now, columns={})
    return Reading(feed_records(name, body), maker, known, is_snapshot=True, on_note=on_note)
