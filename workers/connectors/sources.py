"""Every source of documents, behind the port that jobs know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from jobs.documents.document import Document, KnownRecords
from jobs.documents.reading import OnNote
from jobs.rejection import Rejected
from jobs.sources import FeedSource, FileSource, PrefixSource, QuerySource, Source, Sources
from storage.store import Store
from workers.connectors.feed import read_feed_source
from workers.connectors.file import read_file_source
from workers.connectors.prefix import read_prefix_source
from workers.connectors.query import read_query_source
from workers.ports import RunningJob, WorkerServices


class ConnectedSources:
    """`jobs.sources.Sources` over files, stores, HTTP and Postgres. Any thread may call it."""

    def __init__(self, store: Store) -> None:
        """`store` is Pressroom's own."""
        self._store = store

    def fetch(
        self, source: Source, known: KnownRecords | None = None, on_note: OnNote | None = None
    ) -> Iterator[Document | Rejected]:
        """Stream what the source holds now, but for records that are known; each retry begins anew.

        Raises as jobs.sources.Sources says.
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
    """A `workers.ports.PortOpener`: all jobs share the port."""
    sources = ConnectedSources(services.store)
    return lambda _: sources
