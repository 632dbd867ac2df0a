"""The results that `run KIND` writes into the output folder, for a kind without an export of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from sqlalchemy import Engine

from db.evidence import JobEvidence
from db.outcomes import StoredArtifact
from db.reports import JobResult, stream_results
from jobs.job import JobStatus
from jobs.shown import json_text
from pressroom.console import print_json, print_line, say
from pressroom.default_export.page import MAX_PAGE_RESULTS, PageResult, render_results_page
from pressroom.default_export.table import TableWriter, convert_table
from pressroom.evidence import CheckedSource
from pressroom.export import (
    FAILED,
    INDEX,
    RESULTS,
    SUMMARY,
    UNFINISHED,
    export_errors,
    failure_record,
    file_stem,
    holds_another_batch,
)
from pressroom.output import NewFolder, earlier_lines, new_folder
from pressroom.pages import MAX_PAGE_FAILURES, PageFailure, page_failures
from pressroom.run import REJECTED
from pressroom.show import print_status, say_altered
from pressroom.summary import Summary
from storage.store import Store

FILES = "files"
PROVENANCE = "provenance.jsonl"

MAX_TEXT_BYTES = 2**15
"""Maximum size of a text in the table, in bytes.

Longer texts are only in their files, so that the table stays small enough to open.
"""

_TEXT = re.compile(r"text/.*|application/(.*\+)?(json|xml|yaml|x-ndjson)")
"""Media types whose text is shown in the table."""

_LISTED = re.compile(r"files/(?P<name>[a-z0-9_-]+(\.[0-9]+-[a-z0-9_-]+)?(\.[a-z0-9]+)?)")
"""Path of a file in results.jsonl; `_file_name` produces no others."""


@dataclass(frozen=True, slots=True)
class ResultsReport:
    """Number of results that were written."""

    num_results: int = 0

    def print(self, summary: Summary, out: Path, *, json: bool) -> None:
        """Print the summary and the path of the results, as `pressroom.exporters.ExportReport` specifies."""
        say_altered(summary.altered)
        if json:
            print_json({**summary.as_json(), "num_results": self.num_results, "out": str(out)})
            return
        print_status(summary.report, is_live=False)
        print_line(f"results: {out / INDEX}")


def export_results(database: Engine, store: Store, summary: Summary, out: Path) -> ResultsReport:
    """Write each artifact as a file, a row for each finished job, the failures, and a page to read them.

    The results are those of the stage that was started last; the failures are those of all stages.
    An earlier export is replaced only when all files are written. Only the results on the page are kept in
    memory. A batch without results leaves those of another batch in place. A result whose evidence does not
    match is left out and listed in `summary.altered`. Raises StoreError, DiskFullError or ConfigurationError
    (`output_unwritable`).
    """
    if not summary.report.counts.succeeded and holds_another_batch(out, summary.batch_id):
        say(
            f"Batch {summary.batch_id} has no result yet, and {out} holds another batch: its results "
            f"are left as they are. For the failures: pressroom results {summary.batch_id} --out DIR"
        )
        return ResultsReport()
    with export_errors(out, summary.batch_id), new_folder(out) as new:
        export = _Export(new, summary)
        export.write(CheckedSource(database, store, summary.leave_out))
        has_rejected = (out / REJECTED).exists()
        (new.path / INDEX).write_text(
            render_results_page(
                summary,
                export.shown,
                export.num_results,
                page_failures(summary, export.failures),
                has_rejected=has_rejected,
            ),
            encoding="utf-8",
        )
        record = {**summary.as_json(), "num_results": export.num_results}
        (new.path / SUMMARY).write_text(json_text(record, indent=2) + "\n", encoding="utf-8")
        stale = [
            f"{FILES}/{name}"
            for name in _listed_files(out / RESULTS)
            if not (new.path / FILES / name).exists()
        ]
        new.publish(stale)
    return ResultsReport(export.num_results)


class _Export:
    """Writes the files and rows of one batch, and collects the results for its page."""

    def __init__(self, new: NewFolder, summary: Summary) -> None:
        self._folder = new.path
        self._batch_id = summary.batch_id
        self.num_results = 0
        self.shown: list[PageResult] = []
        self.failures: list[PageFailure] = []
        """First failures of failed.jsonl, for the page."""

    def write(self, source: CheckedSource) -> None:
        """Write the artifacts, their provenance statements, the table and the failures."""
        (self._folder / FILES).mkdir()
        with ExitStack() as files:
            lines, statements, failed = (
                files.enter_context((self._folder / name).open("w", encoding="utf-8"))
                for name in (RESULTS, PROVENANCE, FAILED)
            )
            table = TableWriter(lines)
            self._write_results(source, table, statements)
            self._write_failures(source.database, table, failed)
        convert_table(self._folder / RESULTS, self._folder, table.schema())

    def _write_results(self, source: CheckedSource, table: TableWriter, statements: TextIO) -> None:
        results = stream_results(source.database, self._batch_id, statuses=(JobStatus.SUCCEEDED,))
        for result, evidence, bodies in source.fetch(results):
            names = [
                _file_name(result.custom_id, number, artifact)
                for number, artifact in enumerate(evidence.artifacts, start=1)
            ]
            for name, body in zip(names, bodies, strict=True):
                (self._folder / FILES / name).write_bytes(body)
            row = _row(result, evidence, [f"{FILES}/{name}" for name in names], bodies[0])
            table.write(row)
            statements.write(json_text(_statement(result, evidence)) + "\n")
            self.num_results += 1
            if len(self.shown) < MAX_PAGE_RESULTS:
                self.shown.append(PageResult.of(row))

    def _write_failures(self, database: Engine, table: TableWriter, failed: TextIO) -> None:
        for result in stream_results(database, self._batch_id, statuses=UNFINISHED, every_stage=True):
            failure = failure_record(result)
            failed.write(json_text(failure) + "\n")
            table.write({name: value for name, value in failure.items() if name != "input"})
            if len(self.failures) < MAX_PAGE_FAILURES:
                self.failures.append(
                    PageFailure(
                        custom_id=result.custom_id,
                        status=result.status.value,
                        error_code=result.error_code,
                        error_message=result.error_message,
                    )
                )


def _row(result: JobResult, evidence: JobEvidence, files: list[str], body: bytes) -> dict[str, object]:
    first = evidence.artifacts[0]
    return {
        "id": result.custom_id,
        "job_id": str(result.job_id),
        "status": result.status.value,
        "attempt": result.attempt,
        "file": files[0],
        "media_type": first.media_type,
        "sha256": first.sha256,
        "files": files,
        "metrics": dict(result.metrics),
        "usage": asdict(evidence.usage),
        "text": _text(first.media_type, body),
    }


def _text(media_type: str, body: bytes) -> str | None:
    """Return a small artifact's text; None if the artifact is large or not a text."""
    if len(body) > MAX_TEXT_BYTES or not _TEXT.fullmatch(media_type.partition(";")[0].strip().lower()):
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _statement(result: JobResult, evidence: JobEvidence) -> dict[str, object]:
    statement = evidence.statement
    return {
        "id": result.custom_id,
        "job_id": str(result.job_id),
        "provenance": None if statement is None else json.loads(statement.body),
    }


def _file_name(custom_id: str, number: int, artifact: StoredArtifact) -> str:
    """Return the file name of an artifact.

    A job's first artifact is named after the job; the others also have their numbers and their own names.
    """
    suffix = re.sub(r"[^a-z0-9]", "", Path(artifact.name).suffix.lower())[:16]
    name = file_stem(custom_id)
    if number > 1:
        name += f".{number}-{file_stem(Path(artifact.name).stem)}"
    return f"{name}.{suffix}" if suffix else name


def _listed_files(results: Path) -> Iterator[str]:
    """Yield the names of the files that an earlier results.jsonl lists."""
    for line in earlier_lines(results):
        try:
            record = json.loads(line)
        except ValueError:  # the line was cut off
            continue
        files = record.get("files") if isinstance(record, dict) else None
        for file in files if isinstance(files, list) else ():
            if match := _LISTED.fullmatch(str(file)):
                yield match["name"]
