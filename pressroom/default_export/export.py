"""The files that `run KIND` writes into the output folder for a kind that has no exporter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import Engine

from db.outcomes import StoredArtifact
from db.reports import JobResult
from jobs.shown import json_text
from pressroom.console import print_json, print_line
from pressroom.default_export.table import TableWriter, convert_table, flattened
from pressroom.describers import Line, describer_of, lines_json
from pressroom.export import (
    INDEX,
    RESULTS,
    SUMMARY,
    failure_record,
    file_stem,
    keeps_results,
    listed_files,
    staged_export,
    write_failures,
)
from pressroom.pages import Page, PageFailure, page_failures
from pressroom.results import Result, ResultReader
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

_LISTED = re.compile(r"files/[a-z0-9_-]+(\.[0-9]+-[a-z0-9_-]+)?(\.[a-z0-9]+)?")
"""Pattern of the paths of exported files in results.jsonl; `_file_name` produces no others."""

MAX_PAGE_RESULTS = 200
"""Maximum number of results on the page; the tables have all of them."""

MAX_PAGE_CHARACTERS = 6_000
"""Maximum length of one text on the page, in characters; a longer one is only complete in its file."""

MAX_PAGE_FIGURES = 24
"""Maximum number of metrics shown for one result."""

PAGE = Page(package="pressroom.default_export", template="results.html.jinja", style="results.css")


@dataclass(frozen=True, slots=True)
class ResultsReport:
    """Outcome of a default export: the number of results, and the kind's description of the batch."""

    num_results: int = 0
    description: tuple[Line, ...] = ()
    """The kind's description of the batch."""

    def print(self, summary: Summary, out: Path, *, json: bool) -> None:
        """Print the summary and the path of the results, as `pressroom.export.ExportReport` specifies."""
        say_altered(summary.altered)
        if json:
            record = {"num_results": self.num_results, "description": lines_json(self.description)}
            print_json({**summary.as_json(), **record, "out": str(out)})
            return
        print_status(summary.report, is_live=False, description=self.description)
        print_line(f"results: {out / INDEX}")


def export_results(database: Engine, store: Store, summary: Summary, out: Path) -> ResultsReport:
    """Write a file for each artifact, a table row for each finished job, the failures, and a page.

    The results are those of the stage that was started last; the failures are those of all stages.
    An earlier export is replaced only when all files are written. Only the results on the page are kept in
    memory. If this batch has no results, those of another batch in the folder are kept. A result whose
    evidence does not match is left out and listed in `summary.altered`. Raises StoreError, DiskFullError or
    ConfigurationError (`output_unwritable`).
    """
    if keeps_results(summary, out, "result"):
        return ResultsReport()
    with staged_export(out, summary.batch_id, earlier=listed_files(out / RESULTS, _LISTED)) as folder:
        (folder / FILES).mkdir()
        reader = ResultReader(database, store, summary.leave_out)
        with (folder / RESULTS).open("w", encoding="utf-8") as lines:
            table = TableWriter(lines)
            shown: list[PageResult] = []
            num_results = 0
            for row in _write_results(reader, summary, folder):
                table.write(row)
                num_results += 1
                if len(shown) < MAX_PAGE_RESULTS:
                    shown.append(PageResult.of(row))
            failures = page_failures(summary, _write_failures(database, summary, folder, table))
        convert_table(folder / RESULTS, folder, table.schema())
        has_rejected = (out / REJECTED).exists()
        page = render_results_page(summary, shown, num_results, failures, has_rejected=has_rejected)
        (folder / INDEX).write_text(page, encoding="utf-8")
        record = {**summary.as_json(), "num_results": num_results}
        (folder / SUMMARY).write_text(json_text(record, indent=2) + "\n", encoding="utf-8")
    description = describer_of(summary.report.kind).describe_batch(database, summary.report)
    return ResultsReport(num_results, tuple(description))


def _write_results(reader: ResultReader, summary: Summary, folder: Path) -> Iterator[dict[str, object]]:
    """Write the artifacts and their provenance statements; yield a row of the table for each result."""
    with (folder / PROVENANCE).open("w", encoding="utf-8") as statements:
        for result in reader.read_batch(summary.batch_id):
            files = [
                f"{FILES}/{_file_name(result.job.custom_id, number, artifact)}"
                for number, artifact in enumerate(result.evidence.artifacts, start=1)
            ]
            for file, body in zip(files, result.bodies, strict=True):
                (folder / file).write_bytes(body)
            statements.write(json_text(_statement(result)) + "\n")
            yield _row(result, files)


def _write_failures(
    database: Engine, summary: Summary, folder: Path, table: TableWriter
) -> Iterator[PageFailure]:
    for failure in write_failures(database, summary.batch_id, folder):
        table.write(failure_record(failure))
        yield PageFailure.of(failure)


def _row(result: Result[JobResult], files: list[str]) -> dict[str, object]:
    job, first = result.job, result.evidence.artifacts[0]
    return {
        "id": job.custom_id,
        "job_id": str(job.job_id),
        "status": job.status.value,
        "attempt": job.attempt,
        "file": files[0],
        "media_type": first.media_type,
        "sha256": first.sha256,
        "files": files,
        "metrics": dict(job.metrics),
        "usage": asdict(result.evidence.usage),
        "text": _text(first.media_type, result.bodies[0]),
    }


def _text(media_type: str, body: bytes) -> str | None:
    """Return a small artifact's text; None if the artifact is large or not a text."""
    if len(body) > MAX_TEXT_BYTES or not _TEXT.fullmatch(media_type.partition(";")[0].strip().lower()):
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _statement(result: Result[JobResult]) -> dict[str, object]:
    job = result.job
    return {"id": job.custom_id, "job_id": str(job.job_id), "provenance": json.loads(result.statement)}


def _file_name(custom_id: str, number: int, artifact: StoredArtifact) -> str:
    """Return the file name of an artifact.

    A job's first artifact is named after the job; the others also have their numbers and their own names.
    """
    suffix = re.sub(r"[^a-z0-9]", "", Path(artifact.name).suffix.lower())[:16]
    name = file_stem(custom_id)
    if number > 1:
        name += f".{number}-{file_stem(Path(artifact.name).stem)}"
    return f"{name}.{suffix}" if suffix else name


@dataclass(frozen=True, slots=True, kw_only=True)
class PageResult:
    """One result in the form that the page shows."""

    custom_id: str
    job_id: str
    files: tuple[str, ...]
    media_type: str
    text: str | None
    is_cut: bool
    figures: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, row: Mapping[str, object]) -> PageResult:
        """Return the part of a table row that the page shows."""
        files, metrics, text = row["files"], row["metrics"], row["text"]
        text = text if isinstance(text, str) else None
        figures = flattened(metrics) if isinstance(metrics, Mapping) else ()
        return cls(
            custom_id=str(row["id"]),
            job_id=str(row["job_id"]),
            files=tuple(map(str, files)) if isinstance(files, list) else (),
            media_type=str(row["media_type"]),
            text=None if text is None else text[:MAX_PAGE_CHARACTERS],
            is_cut=text is not None and len(text) > MAX_PAGE_CHARACTERS,
            figures=tuple((name, _figure(value)) for name, value in figures)[:MAX_PAGE_FIGURES],
        )


def render_results_page(
    summary: Summary,
    results: Sequence[PageResult],
    num_results: int,
    failures: Sequence[PageFailure],
    *,
    has_rejected: bool,
) -> str:
    """Return the page as HTML; it states how many results and failures are only in the tables."""
    report = summary.report
    return PAGE.render(
        report.created_at,
        report=report,
        results=results,
        num_results=num_results,
        failures=failures,
        has_rejected=has_rejected,
    )


def _figure(value: object) -> str:
    text = value if isinstance(value, str) else json_text(value)
    return f"{text[:200]}..." if len(text) > 200 else text
