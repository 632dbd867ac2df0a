"""The seam between a kind's export and the commands that write and report results."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sqlalchemy import Engine

from jobs.registry import load_kind, load_target
from pressroom.summary import Summary
from storage.store import Store


class ExportReport(Protocol):
    """What an export came to: the figures that a kind reports of its results."""

    def print(self, summary: Summary, out: Path, *, json: bool) -> None:
        """Print the summary and the figures on stdout, as lines for people or as one JSON object.

        A kind whose batch came to nothing usable raises typer.Exit, which ends the command as failed.
        """
        ...


class Exporter(Protocol):
    """Writes the results of a batch, as far as it has come, into a folder."""

    def __call__(self, database: Engine, store: Store, summary: Summary, out: Path, /) -> ExportReport:
        """Results whose evidence does not match are left out, and are listed in `summary.altered`.

        Raises StoreError, DiskFullError or ConfigurationError (`output_unwritable`).
        """
        ...


DEFAULT_EXPORTER = "pressroom.default_export.export:export_results"


def exporter_of(kind: str) -> Exporter:
    """The exporter that a kind names, else the one that suits every kind."""
    exporter: Exporter = load_target(load_kind(kind).exporter or DEFAULT_EXPORTER)
    return exporter
