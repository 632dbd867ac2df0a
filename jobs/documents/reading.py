"""Records of any source -> documents; a record whose document is known is left out before it is parsed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from jobs.documents.document import Document, KnownRecords
from jobs.documents.records import DocumentMaker, Versions
from jobs.file_records import Unparsed, parsed
from jobs.rejection import Rejected

MAX_ASKED = 2_000
"""Records of one question."""

_MAX_BYTES = 4 * 2**20
"""Of records that wait for an answer together."""


class Reading(Iterator["Document | Rejected"]):
    """The documents of a source, and what was counted on the way.

    The same id with the same content comes once; with other content the version with the later
    `published_at` comes last (digest.version_number). What `known` leaves out is in no count.
    """

    def __init__(
        self,
        records: Iterable[Unparsed | Rejected],
        maker: DocumentMaker,
        known: KnownRecords | None = None,
    ) -> None:
        self.versions = Versions()
        """Counts duplicates and corrections so far."""
        self._maker = maker
        self._documents = self._read(records, known or (lambda _: ()))

    def __next__(self) -> Document | Rejected:
        return next(self._documents)

    def _read(
        self, records: Iterable[Unparsed | Rejected], known: KnownRecords
    ) -> Iterator[Document | Rejected]:
        maker = self._maker
        for chunk in _chunks(records, maker):
            left_out = known([digest for digest, _ in chunk if digest])
            for digest, record in chunk:
                if digest in left_out:
                    continue
                fields = record if isinstance(record, Rejected) else parsed(maker.name, record)
                if isinstance(fields, Rejected):
                    yield fields
                    continue
                made = maker.make(*fields, record=digest.hex())
                if isinstance(made, Rejected) or self.versions.is_new(made):
                    yield made


def read_rows(
    name: str,
    rows: Iterable[Mapping[str, object]],
    *,
    now: datetime,
    columns: Mapping[str, str] | None = None,
    known: KnownRecords | None = None,
) -> Reading:
    """Documents of rows of a query or in memory; `line` of a refused one is its number from 1."""
    return Reading(enumerate(rows, start=1), DocumentMaker(name, now=now, columns=columns or {}), known)


_Chunk = list[tuple[bytes, Unparsed | Rejected]]
"""Each with its digest; empty, and so never known, for what was refused."""


def _chunks(records: Iterable[Unparsed | Rejected], maker: DocumentMaker) -> Iterator[_Chunk]:
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
            if len(chunk) == MAX_ASKED or num_bytes >= _MAX_BYTES:
                yield chunk
                chunk, num_bytes = [], 0
    except Exception:
        yield chunk  # what stands before the place that makes the rest unusable
        raise
    yield chunk
