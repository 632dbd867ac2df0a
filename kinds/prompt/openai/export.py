"""The export of an OpenAI batch file: output and error files in OpenAI's shape, and a page to read them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import typer
from sqlalchemy import Engine

from db.reports import JobResult
from jobs.job import JobStatus
from jobs.shown import json_text, plural
from kinds.prompt.ended import ended_jobs, write_statement
from kinds.prompt.openai.blocks import read_outcomes
from kinds.prompt.openai.lines import BlockLine, Failure, RefusedLine
from kinds.prompt.openai.page import MAX_PAGE_LINES, PageLine, render_lines_page
from kinds.prompt.openai.responses import (
    ENDED,
    JsonObject,
    ended_line,
    failure_line,
    job_failure,
    output_line,
)
from kinds.prompt.payload import PromptPayload
from pressroom.console import EXIT_FAILURE, print_json
from pressroom.default_export.export import PROVENANCE
from pressroom.export import INDEX, SUMMARY, keeps_results, staged_export
from pressroom.results import Result, ResultReader
from pressroom.run import REJECTED
from pressroom.show import print_labelled, print_status, say_altered
from pressroom.summary import Summary
from storage.store import Store

OUTPUT = "output.jsonl"
ERRORS = "errors.jsonl"


@dataclass(slots=True)
class BatchFileReport:
    """Outcome of the export of an OpenAI batch file."""

    num_completed: int = 0
    """Number of lines in the output file."""
    num_refused: int = 0
    """Number of lines in the error file that intake refused."""
    num_failed: int = 0
    """Number of the other lines in the error file."""

    def count(self, ended: EndedLine) -> None:
        """Count a line."""
        if ended.error is None:
            self.num_completed += 1
        elif isinstance(ended.line, RefusedLine):
            self.num_refused += 1
        else:
            self.num_failed += 1

    @property
    def num_errors(self) -> int:
        """Number of lines in the error file."""
        return self.num_refused + self.num_failed

    def as_json(self) -> dict[str, object]:
        """Return the numbers of lines for the summary."""
        return {"completed": self.num_completed, "refused": self.num_refused, "failed": self.num_failed}

    def print(self, summary: Summary, out: Path, *, json: bool) -> None:
        """Print the summary and the files, as `pressroom.export.ExportReport` specifies.

        Raises typer.Exit if a line failed although intake accepted it.
        """
        say_altered(summary.altered)
        if json:
            print_json({**summary.as_json(), "lines": self.as_json(), "out": str(out)})
        else:
            print_status(summary.report, is_live=False)
            print_labelled("output", f"{out / OUTPUT}: {plural(self.num_completed, 'line', 'lines')}")
            if self.num_errors:
                refused = f", of which {self.num_refused:,} were refused" if self.num_refused else ""
                print_labelled(
                    "errors", f"{out / ERRORS}: {plural(self.num_errors, 'line', 'lines')}{refused}"
                )
            print_labelled("page", str(out / INDEX))
        if self.num_failed:
            raise typer.Exit(EXIT_FAILURE)


@dataclass(frozen=True, slots=True)
class EndedLine:
    """A line of the batch file that has ended."""

    line: BlockLine
    record: JsonObject
    """Its line in the output file or in the error file."""
    answers: tuple[str, ...] = ()
    """What the page shows of the response."""
    error: tuple[str, str] | None = None
    """Code and message of the error; None for a line in the output file."""


def export_batch_file(database: Engine, store: Store, summary: Summary, out: Path) -> BatchFileReport:
    """Write the output file, the error file if any line has an error, the provenance, a page and a summary.

    Lines are in the order of their jobs, which have ended; only those on the page are kept in memory. A
    result whose evidence does not match is left out and listed in `summary.altered`. Raises StoreError,
    DiskFullError or ConfigurationError (`output_unwritable`).
    """
    report = BatchFileReport()
    if keeps_results(summary, out, "line", results=OUTPUT):
        return report
    shown: list[PageLine] = []
    with staged_export(out, summary.batch_id, earlier=(OUTPUT, ERRORS)) as folder, ExitStack() as files:
        output: TextIO = files.enter_context((folder / OUTPUT).open("w", encoding="utf-8"))
        errors: TextIO | None = None
        for ended in _ended_lines(database, store, summary, folder):
            file = output
            if ended.error is not None:
                file = errors = errors or files.enter_context((folder / ERRORS).open("w", encoding="utf-8"))
            file.write(json_text(ended.record, is_compact=True) + "\n")
            report.count(ended)
            if len(shown) < MAX_PAGE_LINES:
                shown.append(PageLine.of(ended.line, ended.answers, ended.error))
        page = render_lines_page(
            summary,
            shown,
            num_completed=report.num_completed,
            num_errors=report.num_errors,
            has_rejected=(out / REJECTED).exists() and summary.report.counts.rejected > 0,
        )
        (folder / INDEX).write_text(page, encoding="utf-8")
        record = {**summary.as_json(), "lines": report.as_json()}
        (folder / SUMMARY).write_text(json_text(record, indent=2) + "\n", encoding="utf-8")
    return report


def _ended_lines(database: Engine, store: Store, summary: Summary, folder: Path) -> Iterator[EndedLine]:
    """Yield the lines of all jobs that have ended; write their provenance and the failed jobs."""
    reader = ResultReader(database, store, summary.leave_out)
    with (folder / PROVENANCE).open("w", encoding="utf-8") as statements:
        for ended in ended_jobs(reader, summary.batch_id, folder):
            if isinstance(ended, JobResult):
                yield from _failed(ended)
            else:
                yield from _succeeded(ended)
                write_statement(ended, statements)


def _succeeded(result: Result[JobResult]) -> Iterator[EndedLine]:
    """Yield the line of a job for texts, or the lines of a block."""
    job, payload = result.job, PromptPayload.model_validate(result.job.payload)
    ended_at = job.finished_at or datetime.now(UTC)
    if payload.request is not None:
        body = json.loads(result.bodies[0])
        texts = tuple(
            str(choice["text"] if "text" in choice else choice["message"]["content"])
            for choice in body["choices"]
        )
        yield EndedLine(
            payload.request, output_line(job.job_id.hex, payload.request.custom_id, body, ended_at), texts
        )
        return
    for number, (line, outcome) in enumerate(
        zip(payload.block, read_outcomes(result.bodies[0]), strict=True)
    ):
        key = f"{job.job_id.hex}-{number}"
        if outcome.failure is not None:
            yield _failed_line(key, line, outcome.failure)
        else:
            record = output_line(key, line.custom_id, outcome.body(), ended_at)
            yield EndedLine(line, record, (plural(len(outcome.vectors), "embedding", "embeddings"),))


def _failed(job: JobResult) -> Iterator[EndedLine]:
    """Yield the lines of a job that ended without a result, each with the error of the job."""
    payload = PromptPayload.model_validate(job.payload)
    for number, line in enumerate(payload.block if payload.request is None else (payload.request,)):
        key = f"{job.job_id.hex}-{number}"
        if isinstance(line, RefusedLine):
            yield _failed_line(key, line, line.failure)
        elif job.status is JobStatus.FAILED:
            yield _failed_line(key, line, job_failure(job.error_code, job.error_message))
        else:
            yield EndedLine(line, ended_line(key, line.custom_id, job.status), error=ENDED[job.status])


def _failed_line(key: str, line: BlockLine, failure: Failure) -> EndedLine:
    record = failure_line(key, line.custom_id, failure)
    return EndedLine(line, record, error=(failure.code, failure.message))
