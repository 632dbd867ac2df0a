"""The figures of a sentiment export and all its files except the page.

Files are streamed, and artifacts are verified."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from uuid import UUID

from pydantic_core import to_jsonable_python
from sqlalchemy import Engine

from jobs.guards import INJECTION_SUSPECTED
from jobs.job import JobStatus
from jobs.shown import csv_cell, json_text, plural
from jobs.text.plain import HTML_REMOVED
from kinds.sentiment.documents.language import LANGUAGE_UNSUPPORTED
from kinds.sentiment.documents.prepare import CONTROL_TOKEN
from kinds.sentiment.documents.watchlist import Watchlist
from kinds.sentiment.entity_links import AMBIGUOUS
from kinds.sentiment.monitor import Monitor
from kinds.sentiment.payload import DocumentsOutput, SentimentSettings
from kinds.sentiment.report.files import DOCUMENTS as COUNTED
from kinds.sentiment.series.time_windows import EntityWindow, WindowSize
from kinds.sentiment.store.alerts import AlertRecord, alerts_since
from kinds.sentiment.store.documents import stream_mentions
from kinds.sentiment.store.history import DatabaseHistory
from kinds.sentiment.store.stage_jobs import StageJob, stream_stage
from pressroom.console import print_json, print_line
from pressroom.export import FAILED, INDEX, file_stem
from pressroom.results import Result, ResultReader
from pressroom.run import REJECTED
from pressroom.show import print_labelled, print_status, say_altered
from pressroom.summary import Summary

REPORTS = "reports"
REPORT_LIST = "reports.jsonl"
REPORT_FILE = re.compile(
    rf"{REPORTS}/[A-Za-z0-9_-]+(?:\.(?:statement|documents))?\.(?:md|html|jsonl?|svg|png)"
)
DOCUMENTS, MENTIONS, WINDOWS, ALERTS = "documents.jsonl", "mentions.jsonl", "windows.jsonl", "alerts.jsonl"
ALERT_STATE = ("status", "raised_at", "acknowledged_at", "note")
"""Fields of an AlertRecord that alerts.jsonl contains after those of the alert itself."""

Windows = Mapping[tuple[str, WindowSize], list[EntityWindow]]

_FLAG_WORDS = {
    AMBIGUOUS: "with an ambiguous name",
    CONTROL_TOKEN: "with a turn marker of a chat format",
    HTML_REMOVED: "with markup that was removed",
    INJECTION_SUSPECTED: "with apparent instructions to a model",
    LANGUAGE_UNSUPPORTED: "in another language",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentCounts:
    """Counts of the batch's documents."""

    num_documents: int = 0
    num_unlinked: int = 0
    """Documents that name no entity of the watch list; if this is uncertain, a document is only flagged."""
    num_refused: int = 0
    """Documents that could not be analysed; failed.jsonl lists them."""
    num_flagged: Mapping[str, int]
    num_known: int = 0
    """Documents that were read again from the sources but not analysed again."""
    first_published_at: datetime | None = None

    @property
    def flagged_words(self) -> tuple[str, ...]:
        """Words for the number of documents with each flag, such as "3 in another language"."""
        return tuple(
            f"{number:,} {_FLAG_WORDS.get(flag, f'flagged {flag}')}"
            for flag, number in sorted(self.num_flagged.items())
            if number
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MentionCounts:
    """Counts of the mentions in the monitor's documents."""

    num_mentions: int = 0
    num_followups: int = 0
    """Mentions that repeat an earlier report."""
    num_entities: int = 0
    """Entities that have mentions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportEntry:
    """A report in the output folder."""

    stem: str
    entity_id: str
    metrics: Mapping[str, object]

    def link(self, suffix: str) -> str:
        """Return the link to the report's file with this suffix, relative to the page."""
        return f"{REPORTS}/{self.stem}.{suffix}"


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
    """Points of all summaries, on each of which the language model, if there is one, writes a sentence."""
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
        """Return the figures as JSON with stable names; see docs/sentiment.md."""
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
            refused = plural(documents.num_refused, "document", "documents")
            yield "refused", f"{refused} could not be analysed: see {out / FAILED}"
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
        yield "alerts", f"{self.num_alerts} current; {plural(self.num_reports, 'report', 'reports')}"
        if self.num_reports_left_out:
            yield "left out", self._left_out()

    def _left_out(self) -> str:
        """Describe how many reports were left out, why, and what to do."""
        left_out, most = self.num_reports_left_out, self.max_reports
        return (
            f"{plural(left_out, 'report', 'reports')}: a batch writes at most {most:,} "
            "(max_reports), new alerts first, then the newest windows. Raise it for later runs with "
            "--max-reports, or under [settings] in the monitor's file. Windows without a change get no new "
            "report: to get reports for these as well, run the documents through a monitor with a different "
            "name (--monitor)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSource:
    """The batch that is exported, and the monitor whose history it continues."""

    summary: Summary
    settings: SentimentSettings
    monitor: Monitor
    watchlist: Watchlist


def write_documents(source: ResultReader, batch_id: UUID, folder: Path) -> DocumentCounts:
    """Write documents.jsonl from the blocks of the batch, in order, and return the counts."""
    counts = {"num_documents": 0, "num_unlinked": 0, "num_known": 0, "num_refused": 0}
    flagged: dict[str, int] = {}
    first: datetime | None = None
    with (folder / DOCUMENTS).open("wb") as lines:
        for result in _read(source, batch_id, "documents"):
            job = result.job
            for body in result.bodies:
                lines.write(body)
                first = min(filter(None, (first, _first_published(body))), default=None)
            for name in counts:
                counts[name] += _number(job, name)
            output = job.read(DocumentsOutput)
            for flag, number in output.num_flagged.items():
                flagged[flag] = flagged.get(flag, 0) + number
            counts["num_refused"] += len(output.refused)
    for job in stream_stage(source.database, batch_id, "collect", statuses=(JobStatus.SUCCEEDED,)):
        counts["num_known"] += _number(job, "num_known")
    return DocumentCounts(**counts, num_flagged=flagged, first_published_at=first)


def write_mentions(
    database: Engine, monitor_id: UUID, watchlist: Watchlist, since: datetime, folder: Path
) -> MentionCounts:
    """Write mentions.jsonl with a row for each document and entity, ordered by entity and time."""
    num_mentions = num_followups = num_entities = 0
    with (folder / MENTIONS).open("w", encoding="utf-8") as lines:
        for entity in watchlist.entities:
            before = num_mentions
            for mention in stream_mentions(database, monitor_id, entity.id, since=since):
                row = asdict(mention) | {"score": mention.p_positive - mention.p_negative}
                lines.write(_line(row))
                num_mentions += 1
                num_followups += (mention.novelty or 1) > 1
            num_entities += num_mentions > before
    return MentionCounts(num_mentions=num_mentions, num_followups=num_followups, num_entities=num_entities)


def write_windows(
    database: Engine, source: ExportSource, since: datetime, until: datetime, folder: Path
) -> Windows:
    """Write windows.jsonl and windows.csv, and return the windows by entity and size."""
    history = DatabaseHistory(database)
    by_entity: dict[tuple[str, WindowSize], list[EntityWindow]] = {}
    columns = [*EntityWindow.__dataclass_fields__]
    with (
        (folder / WINDOWS).open("w", encoding="utf-8") as lines,
        (folder / "windows.csv").open("w", encoding="utf-8", newline="") as table,
    ):
        writer = csv.writer(table)
        writer.writerow(columns)
        for entity, size in itertools.product(source.watchlist.entities, source.settings.policy.windows):
            windows = history.windows(source.monitor.id, [entity.id], size, since=since, until=until)
            by_entity[entity.id, size] = windows.get(entity.id, [])
            for window in by_entity[entity.id, size]:
                row = asdict(window)
                lines.write(_line(row))
                writer.writerow([_cell(row[column]) for column in columns])
    return by_entity


def write_alerts(database: Engine, monitor_id: UUID, since: datetime, folder: Path) -> list[AlertRecord]:
    """Write alerts.jsonl, the newest first and including withdrawn alerts, and return them."""
    records = alerts_since(database, monitor_id, since=since)
    with (folder / ALERTS).open("w", encoding="utf-8") as lines:
        for record in records:
            state = {name: getattr(record, name) for name in ALERT_STATE}
            lines.write(_line({"key": record.alert.key} | asdict(record.alert) | state))
    return records


def write_reports(source: ResultReader, batch_id: UUID, folder: Path) -> list[ReportEntry]:
    """Write reports/, with each report in its formats and its provenance statement, and reports.jsonl."""
    (folder / REPORTS).mkdir()
    entries = []
    with (folder / REPORT_LIST).open("w", encoding="utf-8") as lines:
        for result in _read(source, batch_id, "reports"):
            job = result.job
            stem = file_stem(job.custom_id)
            entry = ReportEntry(
                stem=stem, entity_id=str(job.metrics.get("entity_id", "")), metrics=job.metrics
            )
            files = []
            for artifact, body in zip(result.evidence.artifacts, result.bodies, strict=True):
                # The report's Markdown refers to the chart by the name of the job's artifact.
                text = body.replace(b"](chart.svg)", f"]({stem}.svg)".encode())
                body = text if artifact.name.endswith(".md") else body
                files.append(entry.link(_suffix(artifact.name)))
                (folder / files[-1]).write_bytes(body)
            files.append(entry.link("statement.json"))
            (folder / files[-1]).write_bytes(result.statement)
            record = {"id": job.custom_id, "job_id": str(job.job_id), "files": files}
            lines.write(_line(record | {"metrics": dict(job.metrics)}))
            entries.append(entry)
    return entries


def _suffix(name: str) -> str:
    """Return the suffix of a report's file: its format or, for the list of documents, the whole name.

    >>> _suffix("chart.svg"), _suffix("documents.jsonl")
    ('svg', 'documents.jsonl')
    """
    return name if name == COUNTED else name.rpartition(".")[2]


def write_failures(database: Engine, batch_id: UUID, folder: Path) -> tuple[str, ...]:
    """Write failed.jsonl: jobs of all stages that did not succeed, and refused documents, with reasons.

    Returns the error messages of sources only: hundreds of other jobs may fail for one reason, whereas each
    source fails for its own.
    """
    unread: list[str] = []
    ended = (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED)
    with (folder / FAILED).open("w", encoding="utf-8") as lines:
        for job in stream_stage(database, batch_id, statuses=ended):
            error = {"code": job.error_code, "message": job.error_message}
            record = {"id": job.custom_id, "job_id": str(job.job_id), "stage": job.stage}
            lines.write(_line(record | {"status": job.status, "attempt": job.attempt, "error": error}))
            if job.stage == "collect" and job.error_message:
                unread.append(job.error_message)
        for job in stream_stage(database, batch_id, "documents", statuses=(JobStatus.SUCCEEDED,)):
            for document_id, refusal in job.read(DocumentsOutput).refused.items():
                error = {"code": refusal.code, "message": refusal.reason}
                record = {"id": document_id, "job_id": str(job.job_id), "stage": job.stage}
                lines.write(_line(record | {"status": "refused", "attempt": job.attempt, "error": error}))
    return tuple(unread)


def write_rejected(source: ResultReader, batch_id: UUID, folder: Path) -> int:
    """Write rejected.jsonl of a batch that read its sources itself; return the number of rejections.

    A batch made from a file has none here, because the intake has written the file's rejections.
    """
    number = 0
    for result in _read(source, batch_id, "collect"):
        with (folder / REJECTED).open("ab") as lines:
            lines.writelines(result.bodies)
        number += _number(result.job, "num_rejected")
    return number


def collected_notes(database: Engine, batch_id: UUID) -> tuple[str, ...]:
    """Return notes about the sources of a batch that read its sources itself."""
    jobs = stream_stage(database, batch_id, "collect", statuses=(JobStatus.SUCCEEDED,))
    notes = (job.metrics.get("notes") for job in jobs)
    return tuple(str(note) for own in notes if isinstance(own, list) for note in own)


def _read(source: ResultReader, batch_id: UUID, stage: str) -> Iterator[Result[StageJob]]:
    """Yield the results of a stage."""
    jobs = stream_stage(source.database, batch_id, stage, statuses=(JobStatus.SUCCEEDED,))
    return source.read(jobs)


def _first_published(body: bytes) -> datetime | None:
    """Return when the earliest document of a block was published."""
    instants = (json.loads(line)["published_at"] for line in body.split(b"\n") if line)
    return min(map(datetime.fromisoformat, instants), default=None)


def _number(job: StageJob, name: str) -> int:
    value = job.metrics.get(name, 0)
    return value if isinstance(value, int) else 0


def _line(row: Mapping[str, object]) -> str:
    return json_text(row, default=_plain) + "\n"


def _cell(value: object) -> object:
    return csv_cell(_plain(value) if isinstance(value, Enum | datetime) else value)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} cannot be represented in JSON")
