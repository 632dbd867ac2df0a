"""Writes the output folder of `run sentiment`: reports, the rows behind them, a page and a summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from pydantic_core import to_jsonable_python
from sqlalchemy import Engine

from db.batches import batch_settings
from db.stages import stage_outputs
from jobs.shown import json_text
from kinds.sentiment.documents.watchlist import Watchlist
from kinds.sentiment.export_files import (
    REPORT_FILE,
    REPORT_LIST,
    DocumentCounts,
    MentionCounts,
    ReportEntry,
    collected_notes,
    write_alerts,
    write_documents,
    write_failures,
    write_mentions,
    write_rejected,
    write_reports,
    write_windows,
)
from kinds.sentiment.monitor import Monitor
from kinds.sentiment.outputs import WindowsOutput
from kinds.sentiment.page import PageSource, render_sentiment_page
from kinds.sentiment.payload import SentimentSettings
from kinds.sentiment.store.history import DatabaseHistory
from kinds.sentiment.store.monitors import get_monitor
from kinds.sentiment.wanted import num_left_out
from pressroom.console import print_json, print_line
from pressroom.export import FAILED, INDEX, SUMMARY, listed_files, staged_export
from pressroom.results import ResultReader
from pressroom.show import print_labelled, print_status, say_altered
from pressroom.summary import Summary
from storage.resources import read_resource
from storage.store import Store

EXPORT_PAST = timedelta(days=366)
"""How far back rows are exported: older ones stay in Postgres, unless the batch added documents as old."""

MICROSECOND = timedelta(microseconds=1)
"""Added to an instant to include it, because ranges exclude their end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentimentFigures:
    """The figures of a batch."""

    documents: DocumentCounts
    mentions: MentionCounts
    num_entities: int
    num_windows: int
    num_alerts: int
    """Alerts since `since` that are not withdrawn."""
    num_withdrawn: int
    num_reports: int
    num_reports_left_out: int
    """Reports left out because a batch writes at most `max_reports`."""
    max_reports: int
    num_rejected: int
    num_points: int
    """Sentences of summaries requested from the language model."""
    num_sentences_kept: int
    num_sentences_dropped: int
    since: datetime
    as_of: datetime
    unread_sources: tuple[str, ...] = ()
    """The error message of each source that could not be read."""
    notes: tuple[str, ...] = ()
    """Notes about the sources for the user."""
    monitor: str = field(default="")

    def as_json(self) -> Mapping[str, object]:
        """Return the figures with stable names; see docs/sentiment.md."""
        plain: Mapping[str, object] = to_jsonable_python(self)
        return plain

    def print(self, summary: Summary, out: Path, *, json: bool) -> None:
        """Print the outcome of a run over documents; see `pressroom.export.ExportReport`."""
        say_altered(summary.altered)
        if json:
            print_json({**summary.as_json(), "figures": dict(self.as_json()), "out": str(out)})
            return
        print_status(summary.report, is_live=False)
        for label, text in self._lines(out):
            print_labelled(label, text)
        print_line(f"results: {out / INDEX}")

    def _lines(self, out: Path) -> Iterator[tuple[str, str]]:
        """Yield the label and text of each line."""
        documents, mentions = self.documents, self.mentions
        yield (
            "documents",
            f"{documents.num_documents} analysed, {documents.num_unlinked} of them mention no watched "
            f"entity, {self.num_rejected} refused",
        )
        if documents.num_refused:
            yield "refused", f"{documents.num_refused} documents could not be analysed: see {out / FAILED}"
        if documents.flagged_words:
            yield "flagged", ", ".join(documents.flagged_words)
        for source in self.unread_sources:
            yield "not read", source
        for note in self.notes:
            yield "note", note
        yield (
            "mentions",
            f"{mentions.num_mentions}, of {mentions.num_entities} of the {self.num_entities} watched "
            "entities",
        )
        yield "alerts", f"{self.num_alerts} current; {self.num_reports} reports"
        if self.num_reports_left_out:
            yield "left out", self._left_out()

    def _left_out(self) -> str:
        """Describe how many reports were left out, why, and what to do."""
        left_out, most = self.num_reports_left_out, self.max_reports
        return (
            f"{left_out:,} {'report' if left_out == 1 else 'reports'}: a batch writes at most {most:,} "
            "(max_reports), new alerts first, then the newest windows. Raise it for later runs with "
            "--max-reports, or under [settings] in the monitor's file. Windows without a change get no new "
            "report: to get reports for these as well, run the documents through a monitor of another name "
            "(--monitor)"
        )


def export_sentiment(database: Engine, store: Store, summary: Summary, out: Path) -> SentimentFigures:
    """Write reports/, the rows as JSONL and CSV, index.html and summary.json, and return the figures.

    Everything is written to a new folder that replaces an earlier export only when it is complete. Memory:
    the watch list, the windows and alerts of a year, one page of rows. A block or report whose evidence does
    not match is left out and listed in `summary.altered`. Raises StoreError, DiskFullError,
    ConfigurationError (`output_unwritable`), BatchNotFoundError or MonitorNotFoundError.
    """
    settings = SentimentSettings.model_validate(batch_settings(database, summary.batch_id))
    monitor = get_monitor(database, settings.monitor_id)
    watchlist = Watchlist.model_validate_json(read_resource(store, settings.watchlist_sha256))
    earlier = listed_files(out / REPORT_LIST, REPORT_FILE)
    with staged_export(out, summary.batch_id, earlier=earlier) as folder:
        return _write_all(database, store, summary, settings, monitor, watchlist, folder)


def _write_all(
    database: Engine,
    store: Store,
    summary: Summary,
    settings: SentimentSettings,
    monitor: Monitor,
    watchlist: Watchlist,
    new: Path,
) -> SentimentFigures:
    batch_id = summary.batch_id
    source = ResultReader(database, store, summary.leave_out)
    documents = write_documents(source, batch_id, new)
    as_of = DatabaseHistory(database).last_published_at(monitor.id) or datetime.now(UTC)
    since = min(filter(None, (as_of - EXPORT_PAST, documents.first_published_at)))
    mentions = write_mentions(database, monitor.id, watchlist, since, new)
    windows = write_windows(database, monitor.id, watchlist, settings.policy, since, as_of + MICROSECOND, new)
    alerts = write_alerts(database, monitor.id, since, new)
    reports = write_reports(source, batch_id, new)
    left_out = _num_left_out(database, batch_id, settings)
    unread = write_failures(database, batch_id, new)
    num_rejected = write_rejected(source, batch_id, new) + summary.report.counts.rejected
    figures = SentimentFigures(
        documents=documents,
        mentions=mentions,
        num_entities=len(watchlist.entities),
        num_windows=sum(map(len, windows.values())),
        num_alerts=sum(record.is_standing for record in alerts),
        num_withdrawn=sum(not record.is_standing for record in alerts),
        num_reports=len(reports),
        num_reports_left_out=left_out,
        max_reports=settings.max_reports,
        num_rejected=num_rejected,
        num_points=_total(reports, "num_points"),
        num_sentences_kept=_total(reports, "num_sentences_kept"),
        num_sentences_dropped=_total(reports, "num_sentences_dropped"),
        since=since,
        as_of=as_of,
        unread_sources=unread,
        notes=collected_notes(database, batch_id),
        monitor=monitor.name,
    )
    page = PageSource(
        summary=summary,
        monitor=monitor,
        settings=settings,
        watchlist=watchlist,
        documents=documents,
        mentions=mentions,
        num_rejected=num_rejected,
        unread_sources=unread,
        num_sentences_kept=figures.num_sentences_kept,
        num_sentences_dropped=figures.num_sentences_dropped,
        windows=windows,
        alerts=[record for record in alerts if record.is_standing],
        reports=reports,
        num_reports_left_out=left_out,
        as_of=as_of,
    )
    (new / INDEX).write_text(render_sentiment_page(database, page), encoding="utf-8")
    record = {**summary.as_json(), "sentiment": figures.as_json()}
    text = json_text(record, indent=2) + "\n"
    (new / SUMMARY).write_text(text, encoding="utf-8")
    return figures


def _num_left_out(database: Engine, batch_id: UUID, settings: SentimentSettings) -> int:
    outputs = stage_outputs(database, batch_id, "windows", WindowsOutput)
    return num_left_out((output for _, output in outputs), settings)


def _total(reports: list[ReportEntry], name: str) -> int:
    return sum(value for report in reports if isinstance(value := report.metrics.get(name), int))
