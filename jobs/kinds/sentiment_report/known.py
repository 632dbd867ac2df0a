"""Documents that were analysed before, in the same way and with the same content, are left out early."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from uuid import UUID

from jobs.documents.digest import document_digest
from jobs.documents.document import Document
from jobs.history import History
from jobs.rejection import Rejected

LOOKUP_DOCUMENTS = 2_000
"""Looked up in one statement."""


class KnownFilter:
    """Leaves known documents out of a stream, and counts them."""

    def __init__(self, history: History, *, monitor_id: UUID, analysis: str) -> None:
        self._history = history
        self._monitor_id = monitor_id
        self._analysis = analysis
        self.num_read = 0
        self.num_known = 0
        """Of those that were read, left out."""

    def unknown(self, documents: Iterable[Document | Rejected]) -> Iterator[Document | Rejected]:
        """What has to be analysed, and every rejection.

        A document that is known with other content comes last: if the stream also holds the version that is
        known, the other is an earlier one of it, and is left out each time.
        """
        stream = iter(documents)
        changed: dict[str, Document] = {}
        settled: set[str] = set()
        while chunk := list(islice(stream, LOOKUP_DOCUMENTS)):
            read = [one for one in chunk if isinstance(one, Document)]
            known = self._history.digests(
                self._monitor_id, [document.id for document in read], analysis=self._analysis
            )
            self.num_read += len(read)
            for one in chunk:
                if isinstance(one, Rejected) or one.id not in known:
                    yield one
                elif known[one.id] == document_digest(one):
                    self.num_known += 1
                    settled.add(one.id)
                else:
                    changed[one.id] = one
        for document in changed.values():
            if document.id in settled:
                self.num_known += 1
            else:
                yield document
