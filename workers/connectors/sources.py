"""All sources of documents, behind the port that jobs use."""

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
    """`jobs.sources.Sources` over files, stores, HTTP and Postgres. Any thread may call it."""

    def __init__(self, store: Store) -> None:
        """Use `store`, which is Pressroom's own, for prefixes without a URL."""
        self._store = store

    def fetch(
        self, source: Source, known: KnownRecords | None = None, on_note: OnNote | None = None
    ) -> Iterator[Document | Rejected]:
        """Stream what the source contains now, except known records; each retry starts from the beginning.

        Raises as described in jobs.sources.Sources.
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
    """Open the port for `workers.ports.PortOpener`; all jobs share it."""
    sources = ConnectedSources(services.store)
    return lambda _: sources
