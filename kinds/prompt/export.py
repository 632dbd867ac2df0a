"""The export of a prompt batch: the rows of the table in order with their new columns, and a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from db.batches import batch_settings
from db.reports import JobResult
from jobs.shown import json_text, plural
from kinds.prompt.answer import read_answers
from kinds.prompt.ended import ended_rows, write_statement
from kinds.prompt.labels import LabelFigures, LabelTally
from kinds.prompt.openai.export import export_batch_file
from kinds.prompt.page import MAX_PAGE_ROWS, PageRow, render_table_page
from kinds.prompt.payload import InputFormat, PromptSettings
from kinds.prompt.table import ResultTable
from pressroom.console import print_json, print_line
from pressroom.default_export.export import PROVENANCE
from pressroom.default_export.table import convert_table
from pressroom.export import INDEX, RESULTS, SUMMARY, ExportReport, keeps_results, staged_export
from pressroom.results import ResultReader
from pressroom.run import REJECTED
from pressroom.show import print_labelled, print_status, say_altered
from pressroom.summary import Summary
from storage.store import Store


@dataclass(frozen=True, slots=True)
class TableReport:
    """Outcome of the export of a prompt batch."""

    num_rows: int = 0
    """Number of rows in the table, including those whose jobs failed."""
    num_answered: int = 0
    """Number of rows in the table with an answer."""
    num_kept: int = 0
    """Number of rows that had not changed, so that their results are kept ones."""
    labels: LabelFigures | None = None
    """Comparison with a column of labels; None if no column was named."""

    def counts(self) -> dict[str, int]:
        """Return the counts with the names that they have in JSON."""
        return {
            "num_rows": self.num_rows,
            "num_answered": self.num_answered,
            "num_kept": self.num_kept,
        }

    def as_json(self) -> dict[str, object]:
        """Return the figures as JSON, which follow those of the summary."""
        labels = {} if self.labels is None else {"labels": self.labels.as_json()}
        return {**self.counts(), **labels}

    def print(self, summary: Summary, out: Path, *, json: bool) -> None:
        """Print the summary and the path of the page, as `pressroom.export.ExportReport` specifies."""
        say_altered(summary.altered)
        if json:
            print_json({**summary.as_json(), **self.as_json(), "out": str(out)})
            return
        print_status(summary.report, is_live=False)
        if self.num_kept:
            print_labelled("kept", f"{plural(self.num_kept, 'row has', 'rows have')} not changed")
        for line in () if self.labels is None else self.labels.lines():
            print_labelled("labels", line)
        print_line(f"results: {out / INDEX}")


def export_results(database: Engine, store: Store, summary: Summary, out: Path) -> ExportReport:
    """Write the results of a batch in the form that fits its input. Implements pressroom.export.Exporter."""
    settings = PromptSettings.model_validate(batch_settings(database, summary.batch_id))
    if settings.input_format is InputFormat.OPENAI:
        return export_batch_file(database, store, summary, out)
    return export_table(database, store, summary, out, settings)


def export_table(
    database: Engine, store: Store, summary: Summary, out: Path, settings: PromptSettings
) -> TableReport:
    """Write the table as JSONL, CSV and Parquet, the provenance, the failures, a page and the summary.

    The rows are those whose jobs have ended, in the order of the input. Only the rows on the page are kept in
    memory. If the batch has no results, those of another batch in the folder are kept. A result whose
    evidence does not match is left out and listed in `summary.altered`. Raises StoreError, DiskFullError or
    ConfigurationError (`output_unwritable`).
    """
    if keeps_results(summary, out, "row"):
        return TableReport()
    shown: list[PageRow] = []
    num_rows = num_answered = num_kept = 0
    tally = None if settings.labels is None else LabelTally(settings)
    with staged_export(out, summary.batch_id) as folder:
        with (folder / RESULTS).open("w", encoding="utf-8") as lines:
            table = ResultTable(settings, lines)
            for row in _write_rows(database, store, summary, folder, table, tally):
                num_rows += 1
                num_answered += row.error is None
                num_kept += row.is_kept
                if len(shown) < MAX_PAGE_ROWS:
                    shown.append(row)
        convert_table(folder / RESULTS, folder, table.schema(), _cells)
        report = TableReport(num_rows, num_answered, num_kept, None if tally is None else tally.figures())
        page = render_table_page(
            summary,
            settings,
            shown,
            report.counts(),
            has_rejected=(out / REJECTED).exists(),
            labels=report.labels,
        )
        (folder / INDEX).write_text(page, encoding="utf-8")
        record = {**summary.as_json(), **report.as_json()}
        (folder / SUMMARY).write_text(json_text(record, indent=2) + "\n", encoding="utf-8")
    return report


def _cells(row: Mapping[str, object]) -> Mapping[str, object]:
    """Return the row itself, because objects in its columns stay JSON rather than become columns."""
    return row


def _write_rows(
    database: Engine,
    store: Store,
    summary: Summary,
    folder: Path,
    table: ResultTable,
    tally: LabelTally | None,
) -> Iterator[PageRow]:
    """Write each row and the provenance of its answer; yield it as the page shows it."""
    reader = ResultReader(database, store, summary.leave_out)
    with (folder / PROVENANCE).open("w", encoding="utf-8") as statements:
        for ended in ended_rows(reader, summary.batch_id, folder):
            if isinstance(ended, JobResult):
                job, answers = ended, None
            else:
                job, answers = ended.job, read_answers(ended)
                write_statement(ended, statements)
            inputs = table.inputs(job)
            outputs = table.failure(job) if answers is None else table.outputs(answers)
            table.write(inputs, outputs)
            if tally is not None:
                tally.add(inputs, None if answers is None else outputs)
            yield PageRow.of(job, inputs, outputs, table.settings)
