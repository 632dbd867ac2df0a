"""Writes the output folder of `run sentiment`: reports, the rows behind them, a page and a summary."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from sqlalchemy import Engine

from db.batches import batch_settings
from db.stages import stage_outputs
from jobs.shown import json_text
from kinds.sentiment.documents.watchlist import Watchlist
from kinds.sentiment.export_files import (
    REPORT_FILE,
    REPORT_LIST,
    ExportSource,
    ReportEntry,
    SentimentFigures,
    collected_notes,
    write_alerts,
    write_documents,
    write_failures,
    write_mentions,
    write_rejected,
    write_reports,
    write_windows,
)
from kinds.sentiment.page import PageSource, render_sentiment_page
from kinds.sentiment.payload import SentimentSettings, WindowsOutput
from kinds.sentiment.report_plan import num_left_out
from kinds.sentiment.store.history import DatabaseHistory
from kinds.sentiment.store.monitors import get_monitor
from pressroom.export import INDEX, SUMMARY, listed_files, staged_export
from pressroom.results import ResultReader
from pressroom.summary import Summary
from storage.resources import read_resource
from storage.store import Store

EXPORT_PAST = timedelta(days=366)
"""Age up to which rows are exported. If the batch contains older documents, rows are exported from the oldest
document on."""

MICROSECOND = timedelta(microseconds=1)
"""Resolution of instants. Ranges exclude their end; add this to an instant to include it in a range."""


def export_sentiment(database: Engine, store: Store, summary: Summary, out: Path) -> SentimentFigures:
    """Write reports/, the rows as JSONL and CSV, index.html and summary.json, and return the figures.

    Everything is written to a new folder that replaces an earlier export only when it is complete. The export
    holds the watch list, the windows and alerts of a year, and one page of rows in memory. A block or report
    whose evidence does not match is left out and listed in `summary.altered`. Raises StoreError,
    DiskFullError, ConfigurationError (`output_unwritable`), BatchNotFoundError or MonitorNotFoundError.
    """
    settings = SentimentSettings.model_validate(batch_settings(database, summary.batch_id))
    source = ExportSource(
        summary=summary,
        settings=settings,
        monitor=get_monitor(database, settings.monitor_id),
        watchlist=Watchlist.model_validate_json(read_resource(store, settings.watchlist_sha256)),
    )
    earlier = listed_files(out / REPORT_LIST, REPORT_FILE)
    with staged_export(out, summary.batch_id, earlier=earlier) as folder:
        return _write_all(ResultReader(database, store, summary.leave_out), source, folder)


def _write_all(reader: ResultReader, source: ExportSource, folder: Path) -> SentimentFigures:
    """Write every file, the page last, and return the figures."""
    database, summary, monitor = reader.database, source.summary, source.monitor
    batch_id = summary.batch_id
    documents = write_documents(reader, batch_id, folder)
    as_of = DatabaseHistory(database).last_published_at(monitor.id) or datetime.now(UTC)
    since = min(filter(None, (as_of - EXPORT_PAST, documents.first_published_at)))
    mentions = write_mentions(database, monitor.id, source.watchlist, since, folder)
    windows = write_windows(database, source, since, as_of + MICROSECOND, folder)
    alerts = write_alerts(database, monitor.id, since, folder)
    reports = write_reports(reader, batch_id, folder)
    num_current = sum(record.is_current for record in alerts)
    figures = SentimentFigures(
        documents=documents,
        mentions=mentions,
        num_entities=len(source.watchlist.entities),
        num_windows=sum(map(len, windows.values())),
        num_alerts=num_current,
        num_withdrawn=len(alerts) - num_current,
        num_reports=len(reports),
        num_reports_left_out=_num_left_out(database, batch_id, source.settings),
        max_reports=source.settings.max_reports,
        num_rejected=write_rejected(reader, batch_id, folder) + summary.report.counts.rejected,
        num_points=_total(reports, "num_points"),
        num_sentences_kept=_total(reports, "num_sentences_kept"),
        num_sentences_dropped=_total(reports, "num_sentences_dropped"),
        since=since,
        as_of=as_of,
        unread_sources=write_failures(database, batch_id, folder),
        notes=collected_notes(database, batch_id),
        monitor=monitor.name,
    )
    page = PageSource(
        export=source,
        figures=figures,
        windows=windows,
        alerts=[record for record in alerts if record.is_current],
        reports=reports,
    )
    (folder / INDEX).write_text(render_sentiment_page(database, page), encoding="utf-8")
    record = {**summary.as_json(), "sentiment": figures.as_json()}
    (folder / SUMMARY).write_text(json_text(record, indent=2) + "\n", encoding="utf-8")
    return figures


def _num_left_out(database: Engine, batch_id: UUID, settings: SentimentSettings) -> int:
    outputs = stage_outputs(database, batch_id, "windows", WindowsOutput)
    return num_left_out((output for _, output in outputs), settings)


def _total(reports: list[ReportEntry], name: str) -> int:
    return sum(value for report in reports if isinstance(value := report.metrics.get(name), int))
