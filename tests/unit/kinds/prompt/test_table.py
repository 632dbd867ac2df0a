"""The table of results has the rows as they were read, and the new columns."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pyarrow.parquet as pq

from db.reports import JobResult
from jobs.inference import FinishReason
from jobs.job import JobStatus
from kinds.prompt.answer import Answer
from kinds.prompt.payload import PromptSettings
from kinds.prompt.table import ResultTable
from pressroom.default_export.table import convert_table


@dataclass(frozen=True)
class Job:
    """The fields of a JobResult that the table reads."""

    payload: dict[str, object]
    error_code: str | None = None
    error_message: str | None = None
    status: JobStatus = JobStatus.SUCCEEDED
    metrics: dict[str, object] = field(default_factory=dict)


def job(row: dict[str, object], **fields: object) -> JobResult:
    return cast("JobResult", Job({"row": row}, **fields))  # type: ignore[arg-type]


class Desk:
    """A table that is written to memory."""

    def __init__(self, **settings: object) -> None:
        values: dict[str, object] = {"template": "x", "columns": ["b", "a"], **settings}
        self.lines = io.StringIO()
        self.table = ResultTable(PromptSettings.model_validate(values), self.lines)

    def add(self, row: dict[str, object], *answers: Answer) -> None:
        self.table.write(self.table.inputs(job(row)), self.table.outputs(answers))

    @property
    def rows(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.lines.getvalue().splitlines()]

    def convert(self, folder: Path) -> list[list[str]]:
        """Write the other formats, and return the cells of the CSV file."""
        lines = folder / "results.jsonl"
        lines.write_text(self.lines.getvalue(), encoding="utf-8")
        convert_table(lines, folder, self.table.schema(), lambda row: row)
        with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file))


def test_columns_have_the_order_of_the_table_and_the_new_ones_follow() -> None:
    desk = Desk()
    desk.add({"a": 1, "b": 2, "extra": 3}, Answer(text="new"))
    assert [list(row.items()) for row in desk.rows] == [[("b", 2), ("a", 1), ("extra", 3), ("text", "new")]]


def test_columns_of_settings_are_not_in_the_results() -> None:
    desk = Desk(columns=["a", "temperature"], settings_columns=["temperature"])
    desk.add({"a": 1, "temperature": 0.5}, Answer(text="new"))
    assert desk.rows == [{"a": 1, "text": "new"}]


def test_failed_row_has_empty_new_columns_and_its_error() -> None:
    schema = json.dumps({"type": "object", "properties": {"x": {}, "y": {}}})
    desk = Desk(json_schema=schema)
    failed = job({"a": 1}, error_code="answer_cut", error_message="too long")
    desk.table.write(desk.table.inputs(failed), desk.table.failure(failed))
    desk.add({"a": 2}, Answer(fields={"y": [1], "x": None}))
    assert desk.rows == [
        {"a": 1, "x": None, "y": None, "error": "answer_cut: too long"},
        {"a": 2, "x": None, "y": [1]},
    ]


def test_rare_column_that_the_table_has_is_renamed() -> None:
    desk = Desk(columns=["a", "finish_reason"])
    desk.add({"a": 1, "finish_reason": "mine"}, Answer(text="cut", finish_reason=FinishReason.LENGTH))
    assert desk.rows == [{"a": 1, "finish_reason": "mine", "text": "cut", "prompt_finish_reason": "length"}]


def test_rare_column_has_a_free_name_although_the_usual_ones_are_taken() -> None:
    desk = Desk(columns=["error", "prompt_error"])
    row: dict[str, object] = {"error": "mine", "prompt_error": "mine too"}
    failed = job(row, error_code="answer_cut", error_message="too long")
    desk.table.write(desk.table.inputs(failed), desk.table.failure(failed))
    assert desk.rows == [{**row, "text": None, "prompt_prompt_error": "answer_cut: too long"}]


def test_rare_columns_of_further_texts_differ_from_those_of_the_table() -> None:
    desk = Desk(columns=["a", "finish_reason_2"], n=2, temperature=1)
    cut = Answer(text="cut", finish_reason=FinishReason.LENGTH)
    row: dict[str, object] = {"a": 1, "finish_reason_2": "mine"}
    desk.add(row, cut, cut)
    texts = {"text": "cut", "text_2": "cut"}
    rare = {"prompt_finish_reason": "length", "prompt_finish_reason_2": "length"}
    assert desk.rows == [row | texts | rare]


def test_formulas_are_safe_in_csv_and_unchanged_elsewhere(tmp_path: Path) -> None:
    desk = Desk(columns=["=cmd()", "b"])
    desk.add({"=cmd()": "=1+1", "b": {"c": 1}}, Answer(text="@SUM(A1)"))
    assert desk.convert(tmp_path) == [["'=cmd()", "b", "text"], ["'=1+1", '{"c": 1}', "'@SUM(A1)"]]
    assert pq.read_table(tmp_path / "results.parquet").to_pylist() == [
        {"=cmd()": "=1+1", "b": '{"c": 1}', "text": "@SUM(A1)"}
    ]


def test_types_of_columns_are_kept_in_parquet(tmp_path: Path) -> None:
    desk = Desk(columns=["n", "x", "mixed", "none"])
    desk.add({"n": 1, "x": 1, "mixed": 1, "none": None}, Answer(text="a"))
    desk.add({"n": 2, "x": 0.5, "mixed": "b", "none": None}, Answer(text="b"))
    desk.convert(tmp_path)
    schema = pq.read_schema(tmp_path / "results.parquet")
    assert {name: str(schema.field(name).type) for name in schema.names} == {
        "n": "int64",
        "x": "double",
        "mixed": "string",
        "none": "string",
        "text": "string",
    }
