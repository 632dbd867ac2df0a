"""Leaves out documents that were already analysed in the same way and with the same content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from uuid import UUID

from jobs.documents.document import Document, document_digest, order_of, version_number
from jobs.documents.identity import is_link, with_own_id
from jobs.rejection import Rejected
from kinds.sentiment.history import DocumentVersion, History, RecordDigests

LOOKUP_DOCUMENTS = 2_000
"""Number of documents looked up in one statement."""

MAX_RECORD_DIGESTS = 20_000
"""Maximum number of documents per stream whose new record is stored. It limits memory; later runs store the
rest."""


class DocumentFilter:
    """Removes known documents from a stream, and counts them."""

    def __init__(self, history: History, *, monitor_id: UUID, analysis: str) -> None:
        self._history = history
        self._monitor_id = monitor_id
        self._analysis = analysis
        self._has_documents: bool | None = None
        self._unread: set[bytes] = set()
        self._settled: set[str] = set()
        self.num_read = 0
        self.num_known = 0
        """Number of documents that were read but left out because they are known."""
        self.num_repeated = 0
        """Number of records that were left out unread because they occurred earlier in the stream; they are
        not included in `num_read`."""
        self._shared: set[str] = set()
        """Ids known to be shared by several documents, from this stream or the history."""
        self._corrected: set[str] = set()
        self._new_digests: list[tuple[str, str, bytes]] = []

    def records(self, digests: Sequence[bytes]) -> frozenset[bytes]:
        """Return those of the digests that belong to records of known documents.

        Implements jobs.documents.document.KnownRecords.
        The reader leaves these records out. They are counted here, and `unknown` treats them as if they had
        been read.
        """
        if not digests or not self._is_any_known():
            return frozenset()
        known = self._history.known_records(self._monitor_id, digests, analysis=self._analysis)
        num_new = len(known - self._unread)
        self.num_read += num_new
        self.num_known += num_new
        self.num_repeated += sum(digest in known for digest in digests) - num_new
        self._unread |= known
        return known

    def unknown(self, given: Iterable[Document | Rejected]) -> Iterator[Document | Rejected]:
        """Yield the documents that must be analysed, and all rejections.

        After the stream, the current version of a document must be the latest one in the stream, whatever was
        stored before. A version later than the known one is therefore yielded as a correction. Of versions
        earlier than the known one, the latest is yielded at the end, unless the stream also contains the
        known version.
        """
        stream = iter(given)
        earlier: dict[str, tuple[int, Document, bytes | None]] = {}
        while read := list(islice(stream, LOOKUP_DOCUMENTS)):
            chunk = self._with_first_ids(read)
            documents = [item for item in chunk if isinstance(item, Document)]
            self.num_read += len(documents)
            current = self._versions(documents)
            chunk = self._set_apart(chunk, current)
            for item in chunk:
                known = None if isinstance(item, Rejected) else current.get(item.id)
                if isinstance(item, Rejected) or known is None:
                    yield item
                elif known.sha256 == document_digest(item):
                    self.num_known += 1
                    self._settled.add(item.id)
                    self._note_record(item, known)
                elif (version := version_number(item)) > order_of(known.published_at, known.sha256):
                    self.num_known += earlier.pop(item.id, None) is not None
                    self._corrected.add(item.id)
                    yield item
                else:
                    last = earlier.setdefault(item.id, (version, item, known.record))
                    self.num_known += last[1] is not item
                    if version > last[0]:
                        earlier[item.id] = (version, item, known.record)
        for _, document, record in earlier.values():
            if document.id in self._settled or record in self._unread:
                self.num_known += 1
            else:
                yield document

    def _with_first_ids(self, chunk: Sequence[Document | Rejected]) -> list[Document | Rejected]:
        """Restore the shared id of documents that were stored under this id before other documents had it."""
        shared = {item.shared_id for item in chunk if isinstance(item, Document) and item.shared_id}
        if not shared or not self._is_any_known():
            return list(chunk)
        self._shared |= shared
        before = self._history.documents(self._monitor_id, sorted(shared - self._corrected))

        def named(item: Document | Rejected) -> Document | Rejected:
            known = before.get(item.shared_id or "") if isinstance(item, Document) else None
            if isinstance(item, Rejected) or known is None or known.sha256 != document_digest(item):
                return item
            return item.model_copy(update={"id": item.shared_id})

        return [named(item) for item in chunk]

    def _set_apart(
        self, chunk: list[Document | Rejected], current: dict[str, DocumentVersion]
    ) -> list[Document | Rejected]:
        """Give each changed document whose id is shared a new id of its own.

        It is not a correction of the known document.
        """
        changed = {
            item.id
            for item in chunk
            if isinstance(item, Document)
            and item.shared_id is None
            and (known := current.get(item.id)) is not None
            and known.sha256 != document_digest(item)
        }
        if not changed:
            return chunk
        # The known document with this link is also in this stream, where its record was left out unread.
        self._shared |= {id_ for id_ in changed if is_link(id_) and current[id_].record in self._unread}
        changed &= self._shared | self._history.shared_ids(self._monitor_id, sorted(changed))
        renamed = [
            with_own_id(item) if isinstance(item, Document) and item.id in changed else item for item in chunk
        ]
        current |= self._versions([item for item in renamed if isinstance(item, Document) and item.shared_id])
        return renamed

    def record_digests(self) -> list[RecordDigests]:
        """Return the digests to store after the stream, so that the next run can skip their records."""
        if not self._new_digests:
            return []
        return [RecordDigests(monitor_id=self._monitor_id, records=self._new_digests)]

    def _note_record(self, document: Document, known: DocumentVersion) -> None:
        """Remember the new record of a known document whose file was rewritten or whose reader changed."""
        if document.record is None or known.record in self._unread:
            return
        record = bytes.fromhex(document.record)
        if record != known.record and len(self._new_digests) < MAX_RECORD_DIGESTS:
            self._new_digests.append((document.id, known.sha256, record))

    def _versions(self, documents: Sequence[Document]) -> dict[str, DocumentVersion]:
        if not documents or not self._is_any_known():
            return {}
        ids = [document.id for document in documents]
        return self._history.versions(self._monitor_id, ids, analysis=self._analysis)

    def _is_any_known(self) -> bool:
        """Return whether the monitor has documents.

        The query runs once. Most files are the first of their monitor and then need no further look-ups.
        """
        if self._has_documents is None:
            self._has_documents = self._history.last_published_at(self._monitor_id) is not None
        return self._has_documents
