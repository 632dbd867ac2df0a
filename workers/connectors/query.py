"""Rows of a Postgres query."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.rows import dict_row
from psycopg.types.datetime import DateLoader, TimestampLoader, TimestamptzLoader
from psycopg.types.json import JsonbLoader, JsonLoader

from jobs.documents.document import Document, KnownRecords
from jobs.documents.reading import OnNote, read_rows
from jobs.documents.records import require_columns
from jobs.rejection import Rejected
from jobs.sources import QuerySource, SourceDownError, SourceRefusedError
from workers.connectors.postgres import guarded_parameters
from workers.connectors.variables import required_variable

STATEMENT_TIMEOUT_MILLISECONDS = 60_000
"""Of the query, and of fetching each further part of it."""

_OPTIONS = f"-c statement_timeout={STATEMENT_TIMEOUT_MILLISECONDS} -c default_transaction_read_only=on"

CONNECT_SECONDS = 10
FETCH_ROWS = 500
"""In memory at a time."""


def read_query_source(
    source: QuerySource,
    *,
    now: datetime,
    known: KnownRecords | None = None,
    on_note: OnNote | None = None,
) -> Iterator[Document | Rejected]:
    """Documents of the query's rows, fetched as they are wanted, in a transaction that can write nothing.

    Raises SourceDownError, SourceRefusedError, ColumnMappingError.
    """
    name = f"query of {source.url_variable}"
    url = required_variable(source.url_variable)
    try:
        with psycopg.connect(
            **guarded_parameters(url, name, allow_private=source.allow_private)
            | {
                "connect_timeout": CONNECT_SECONDS,
                "application_name": "pressroom-source",
                "options": _OPTIONS,
            },
        ) as connection:
            connection.read_only = True
            for name_of_type, loader in _LENIENT.items():
                connection.adapters.register_loader(name_of_type, loader)
            # A cursor of the server's: one SELECT, or it is refused, and no more rows than FETCH_ROWS here.
            with connection.cursor("pressroom", row_factory=dict_row) as cursor:
                cursor.itersize = FETCH_ROWS
                cursor.execute(source.sql.strip().rstrip(";").encode())
                require_columns([column.name for column in cursor.description or ()], {})
                yield from read_rows(name, cursor, now=now, known=known, on_note=on_note)
    except psycopg.OperationalError as error:
        raise SourceDownError(f"the {name} is down or too slow: {_said(error)}") from error
    except psycopg.Error as error:
        raise SourceRefusedError(
            f"the {name} fails: {_said(error)}; try it with psql", code="source_query_failed"
        ) from error


def _load_leniently(loader: Any) -> type[Loader]:
    """A loader that leaves a value as text which Python has not: `infinity`, or the year 20000.

    Such a value fails its own row, and not the whole query.
    """

    class Lenient(loader):  # type: ignore[misc]
        def load(self, data: Buffer) -> object:
            try:
                return super().load(data)
            except (psycopg.DataError, ValueError, RecursionError):
                return bytes(data).decode("utf-8", "replace")

    return Lenient


_LENIENT = {
    "date": _load_leniently(DateLoader),
    "timestamp": _load_leniently(TimestampLoader),
    "timestamptz": _load_leniently(TimestamptzLoader),
    "json": _load_leniently(JsonLoader),
    "jsonb": _load_leniently(JsonbLoader),
}


def _said(error: psycopg.Error) -> str:
    """What the server says; the driver's own words may hold parts of the URL, and so a password."""
    said = error.diag.message_primary
    return said.splitlines()[0] if said else f"{type(error).__name__}, look at the URL and at the server"
