"""Reads documents from files, feeds and rows of any usual format, a few in memory at a time.

A record whose document is known already is left out before it is parsed.
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

MAX_ASKED = 2_000
"""Records of one question."""

_MADE_AT_ONCE = 16
"""Documents whose ids are compared before the first of them is handed on; of one that comes later the id is
compared with theirs."""

_MAX_BYTES = 4 * 2**20
"""Of records that wait for an answer together."""


OnNote = Callable[[str], None]
"""Gets what people should know of a source, a line at a time."""


class Reading(Iterator["Document | Rejected"]):
    """The documents of a source, and what was counted on the way.

    The same id with the same content comes once; with other content the version with the later
    `published_at` comes last (digest.version_number). An id that several documents share names none of them
    (identity.py). What `known` leaves out is in no count.
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
        """`is_snapshot`: all records are in memory, and each document is there once, as in a feed.

        Then known records are left out after ids were compared; else their ids are not looked at.
        """
        self.identities = Identities(is_snapshot=is_snapshot)
        """Counts duplicates, corrections and shared ids so far."""
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
            while some := list(islice(rest, _MADE_AT_ONCE)):
                yield from self._made(some)
        unread = None if self._is_snapshot else self._maker.unread()
        name = self._maker.name
        for note in (self.identities.report(name), self.identities.report_versions(name), unread):
            if note is not None:
                self._on_note(note)

    def _made(self, chunk: _Chunk) -> Iterator[Document | Rejected]:
        """The new documents of a chunk, and its refusals, in its order."""
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
    """Documents of rows of a query or in memory; `line` of a refused one is its number from 1."""
    maker = DocumentMaker(name, now=now, columns=columns or {})
    return Reading(enumerate(rows, start=1), maker, known, on_note=on_note)


_Chunk = list[tuple[bytes, Unparsed | Rejected]]
"""Each with its digest; empty, and so never known, for what was refused."""


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
            if not is_whole and (len(chunk) == MAX_ASKED or num_bytes >= _MAX_BYTES):
                yield chunk
                chunk, num_bytes = [], 0
    except Exception:
        yield chunk  # what stands before the place that makes the rest unusable
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


def read_feed(
    name: str,
    body: bytes,
    *,
    now: datetime,
    known: KnownRecords | None = None,
    on_note: OnNote | None = None,
) -> Reading:
    """Read the documents of a feed in memory; `line` of a refused one is the entry's number, from 1."""
    maker = DocumentMaker(name, now=now, columns={})
    return Reading(feed_records(name, body), maker, known, is_snapshot=True, on_note=on_note)
