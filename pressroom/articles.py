"""What `run articles` leaves in the output folder."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from jobs.batch import BatchStatusReport
from pressroom.export import export_batch
from storage.store import Store

FILES = "articles"


def export_articles(database: Engine, store: Store, report: BatchStatusReport, out: Path) -> None:
    """Write the articles as Markdown and JSON."""
    for _ in export_batch(database, store, report.batch_id, out, files=FILES):
        pass
