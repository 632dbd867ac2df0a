"""The interface between a kind's export and the commands that write and report results."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sqlalchemy import Engine

from jobs.registry import kind_names, load_kind, load_target
from pressroom.summary import Summary
from storage.store import Store


class ExportReport(Protocol):
    """Outcome of an export: the figures that a kind reports about its results."""

    def print(self, summary: Summary, out: Path, *, json: bool) -> None:
        """Print the summary and the figures on stdout, as lines for people or as one JSON object.

        If the batch has no usable result, a kind raises typer.Exit, which ends the command as failed.
        """
        ...


class Exporter(Protocol):
    """Writes the results of a batch so far into a folder."""

    def __call__(self, database: Engine, store: Store, summary: Summary, out: Path, /) -> ExportReport:
        """Write the results; leave out altered ones and list them in `summary.altered`.

        Raises StoreError, DiskFullError or ConfigurationError (`output_unwritable`).
        """
        ...


DEFAULT_EXPORTER = "pressroom.default_export.export:export_results"


def exporter_of(kind: str) -> Exporter:
    """Return the exporter that a kind names, or else the default one, which suits every kind.

    Results outlive their kind: the default exporter also serves a kind that is no longer installed.
    """
    named = load_kind(kind).exporter if kind in kind_names() else None
    exporter: Exporter = load_target(named or DEFAULT_EXPORTER)
    return exporter
