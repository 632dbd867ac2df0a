"""The implementation of the port through which jobs read sources of documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from jobs.documents.document import Document, KnownRecords
from jobs.documents.reading import OnNote
from jobs.rejection import Rejected
from jobs.sources import FeedSource, FileSource, PrefixSource, QuerySource, Source, Sources
from storage.store import Store
from workers.connectors.feed import read_feed_source
from workers.connectors.files import read_file_source, read_prefix_source
from workers.connectors.query import read_query_source
from workers.ports import RunningJob, WorkerServices


class ConnectedSources:
    """An implementation of `jobs.sources.Sources` for files, stores, HTTP and Postgres.

    Any thread may call it.
    """

    def __init__(self, store: Store) -> None:
        """Create the sources; `store` is Pressroom's own, which is read for prefixes without a URL."""
        self._store = store

    def fetch(
        self, source: Source, known: KnownRecords | None = None, on_note: OnNote | None = None
    ) -> Iterator[Document | Rejected]:
        """Stream the source's current documents, except known records; a retry starts from the beginning.

        Raises the errors of `jobs.sources.Sources.fetch`.
        """
        now = datetime.now(UTC)
        match source:
            case FileSource():
                return read_file_source(source, now=now, known=known, on_note=on_note)
            case PrefixSource():
                return read_prefix_source(
                    source, own_store=self._store, now=now, known=known, on_note=on_note
                )
            case FeedSource():
                return read_feed_source(source, now=now, known=known, on_note=on_note)
            case QuerySource():
                return read_query_source(source, now=now, known=known, on_note=on_note)


def open_sources(services: WorkerServices) -> Callable[[RunningJob], Sources]:
    """Return a function that gives every job the same sources, as `workers.ports.PortOpener` requires."""
    sources = ConnectedSources(services.store)
    return lambda _: sources
