"""Tables of every format become jobs; what is wrong with one row is said of that row alone."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Connection

from db.stages import NewJob
from jobs.errors import InputError
from jobs.intake.columns import MAX_COLUMNS
from jobs.intake.dialect import AS_FOUND
from jobs.intake.payloads import Items
from jobs.prompt_template import TemplateUnboundedError
from jobs.rejection import FileRejectedError, Rejected
from kinds.prompt.columns import ColumnExistsError
from kinds.prompt.intake import first_rows, read_table
from kinds.prompt.payload import PromptPayload, PromptSettings
from kinds.prompt.template import UnknownVariableError
from tests.tiny_model import write_tiny_model
from workers.intake import BatchRequest, InputMissingError, IntakePlan, IntakeSource
from workers.models.install import add_model
from workers.models.sources import FolderSource
from workers.settings import Settings

SECRET = "AKIAABCDEFGHIJKLMNOP"


def plan(rows: Path | Items, *, models: Path | None = None, **settings: object) -> IntakePlan:
    """Plan a batch of a model that is not installed, unless `models` is its folder."""
    values: dict[str, object] = {"template": "About {{ name }}.", **settings}
    options = PromptSettings.model_validate(values)
    return read_table(
        IntakeSource(
            inputs={"rows": rows},
            request=BatchRequest(kind="prompt", model="tiny", settings=values),
            options=options,
            connection=cast("Connection", None),  # a table needs no database
            settings=Settings(home=Path("/nonexistent"), models_dir=models or Path("/nonexistent")),
            on_rejected=lambda _: None,
            on_note=lambda _: None,
        )
    )


def read(
    rows: Path | Items, *, models: Path | None = None, **settings: object
) -> tuple[dict[str, Mapping[str, object]], dict[int, Rejected]]:
    """The rows of the jobs by id, and the refused records by line."""
    jobs: dict[str, Mapping[str, object]] = {}
    rejected: dict[int, Rejected] = {}
    for line in plan(rows, models=models, **settings).jobs:
        if isinstance(line, NewJob):
            jobs[line.custom_id] = PromptPayload.model_validate(line.payload).row
        else:
            rejected[line.line] = line
    return jobs, rejected


def write_csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_columns_of_csv_are_kept_as_they_are_written(tmp_path: Path) -> None:
    jobs, rejected = read(write_csv(tmp_path / "a.csv", "id,name,The Price", "a, lamp ,07", "b,=1+1,"))
    assert jobs == {
        "a": {"id": "a", "name": " lamp ", "The Price": "07"},
        "b": {"id": "b", "name": "=1+1", "The Price": ""},
    }
    assert not rejected


def test_columns_of_the_table_are_in_the_settings_in_their_order(tmp_path: Path) -> None:
    own = plan(write_csv(tmp_path / "a.csv", "z,name,a", "1,lamp,2"))
    assert own.settings["columns"] == ["z", "name", "a"]
    rows = [{"name": "lamp", "z": 1}, {"a": 2, "name": "pan"}]
    assert plan(rows).settings["columns"] == ["name", "z", "a"]


@pytest.mark.parametrize(
    "changes",
    [
        {"columns": ["name"]},
        {"input_format": "openai"},
        {"embedder_digest": "a"},
        {"examples_sha256": "a"},
        {"model_digest": "a"},
        {"thinking": True},
        {"batch_seed": 1},
    ],
)
def test_setting_that_intake_sets_is_refused_by_name(changes: dict[str, Any]) -> None:
    (name,) = changes
    with pytest.raises(InputError, match=f"setting {name} is set by intake") as caught:
        plan([{"name": "lamp"}], **changes)
    assert caught.value.code == "setting_invalid"


def test_values_of_jsonl_keep_their_types(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    row = {"name": "lamp", "tags": ["a", 1, None], "size": {"w": 2.5}, "new": True, "none": None}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    jobs, _ = read(path)
    assert jobs == {"line-1": row}


def test_types_of_parquet_that_json_lacks_become_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    row = {
        "id": 2**60,
        "name": "lamp",
        "on": datetime.date(2026, 1, 2),
        "at": datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC),
        "share": float("nan"),
        "parts": [{"n": 2**60}],
    }
    pq.write_table(pa.Table.from_pylist([row]), path)
    jobs, _ = read(path)
    assert jobs == {
        str(2**60): {
            "id": str(2**60),
            "name": "lamp",
            "on": "2026-01-02",
            "at": "2026-01-02T03:00:00+00:00",
            "share": None,
            "parts": [{"n": str(2**60)}],
        }
    }


def test_binary_value_refuses_its_row_by_column(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"name": ["lamp", "pan"], "photo": pa.array([None, b"\xff"], pa.binary())})
    pq.write_table(table, path)
    jobs, rejected = read(path)
    assert list(jobs) == ["line-1"]
    assert (rejected[2].column, rejected[2].code) == ("photo", "field_invalid")


def test_id_column_is_found_in_any_case(tmp_path: Path) -> None:
    jobs, rejected = read(write_csv(tmp_path / "a.csv", "ID,name", "x,lamp", "x,pan", ",mug"))
    assert list(jobs) == ["x", "line-4"]
    assert (rejected[3].code, rejected[3].column) == ("duplicate_id", "id")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ({"name": "lamp", "note": f"key {SECRET}"}, "secret_in_input"),
        ({"name": "lamp", "note": "<|im_end|>"}, "input_control_token"),
        ({"name": "lamp", "note": {"deep": ["<|im_start|>"]}}, "input_control_token"),
        ({"name": "lamp", "<|im_start|>": "key"}, "input_control_token"),
        ({"name": "", "note": ""}, "template_invalid"),
        ({"name": "lamp", "note": "a\u0000b"}, "text_invalid_unicode"),
        ({"name": "lamp", **{f"c{number}": 1 for number in range(MAX_COLUMNS)}}, "too_many_columns"),
    ],
)
def test_bad_row_is_refused_by_line_and_the_others_go_on(line: dict[str, object], code: str) -> None:
    jobs, rejected = read([{"name": "pan"}, line, {"name": "mug"}], template="{{ name }}")
    assert list(jobs) == ["line-1", "line-3"]
    assert rejected[2].code == code
    assert SECRET not in str(rejected[2])


def test_ten_thousand_columns_are_read_and_one_more_refuses_the_file(tmp_path: Path) -> None:
    names = ["name", *(f"c{number}" for number in range(MAX_COLUMNS - 1))]
    jobs, _ = read(write_csv(tmp_path / "a.csv", ",".join(names), ",".join(["lamp"] * len(names))))
    assert len(jobs["line-2"]) == MAX_COLUMNS
    with pytest.raises(FileRejectedError, match="10,001 columns"):
        plan(write_csv(tmp_path / "b.csv", ",".join([*names, "more"]), "1"))


@pytest.mark.parametrize(("text", "code"), [("", "file_empty"), ("id,name\n", "file_header_only")])
def test_empty_table_is_refused(tmp_path: Path, text: str, code: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileRejectedError) as caught:
        read(path, template="About lamps.")
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("text", "code"), [("", "file_empty"), ("\n", "file_empty"), ("hello\n[1]\n", "json_invalid")]
)
def test_table_without_a_column_is_refused_for_its_own_fault(tmp_path: Path, text: str, code: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileRejectedError) as caught:
        plan(path)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"$ref": "#/$defs/b"}, "refers to itself"),
        ({"type": "array", "contains": {"type": "integer"}}, "keyword 'contains' at #/properties/a"),
    ],
    ids=["cycle", "unsupported keyword"],
)
def test_schema_that_cannot_be_served_refuses_the_batch(models: Path, schema: object, reason: str) -> None:
    source = {
        "type": "object",
        "properties": {"a": schema},
        "required": ["a"],
        "$defs": {"b": {"$ref": "#/$defs/b"}},
    }
    with pytest.raises(InputError, match=reason) as caught:
        read([{"name": "lamp"}] * 3, models=models, json_schema=json.dumps(source))
    assert caught.value.code == "constraint_unsupported"


def test_template_is_checked_before_any_row_is_read(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "id,name", "a,lamp")
    with pytest.raises(UnknownVariableError, match="did you mean 'name'"):
        plan(path, template="About {{ nam }}.")
    with pytest.raises(UnknownVariableError, match="the column 'if' is no variable"):
        plan([{"if": 1}], template="About {{ if }}.")
    with pytest.raises(TemplateUnboundedError):
        plan(path, template="{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}")
    with pytest.raises(InputMissingError, match="there is no template"):
        plan(path, template=" ")


def test_output_column_that_the_table_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ColumnExistsError, match="'text'"):
        plan(write_csv(tmp_path / "a.csv", "name,text", "a,b"))


def test_cell_that_is_no_sampling_parameter_refuses_its_row() -> None:
    rows: list[dict[str, object]] = [
        {"name": "a", "temperature": 1.5},
        {"name": "b", "temperature": "hot"},
        {"name": "c"},
    ]
    jobs, rejected = read(rows, settings_columns="temperature")
    assert list(jobs) == ["line-1", "line-3"]
    assert "column temperature must be a number" in rejected[2].reason


def test_two_columns_without_a_name_refuse_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileRejectedError, match="several columns have no name"):
        plan(write_csv(tmp_path / "a.csv", "name,,,x", "a,b,c,d"))
    jobs, _ = read(write_csv(tmp_path / "b.csv", ",name", "0,lamp"))
    assert jobs == {"line-2": {"": "0", "name": "lamp"}}


@pytest.fixture
def models(tmp_path: Path, untried: None) -> Path:
    folder = tmp_path / "models"
    add_model("tiny", folder, FolderSource(write_tiny_model(tmp_path / "source")))
    return folder


def test_row_that_is_longer_than_the_context_is_refused_with_both_lengths(models: Path) -> None:
    rows = [{"name": "lamp"}, {"name": "lamp " * 5_000}]
    jobs, rejected = read(rows, models=models, max_tokens=10)
    assert list(jobs) == ["line-1"]
    assert rejected[2].code == "prompt_too_long"
    assert "asks for 10 new ones" in rejected[2].reason


def test_row_that_is_longer_than_the_context_is_accepted_to_be_cut(models: Path) -> None:
    rows = [{"name": "lamp " * 5_000}, {"name": "<|im_end|>"}]
    jobs, rejected = read(rows, models=models, max_tokens=10, truncate="end")
    assert list(jobs) == ["line-1"]
    assert rejected[2].code == "input_control_token"


def test_first_rows_are_those_before_which_others_were_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"name": 1}\n{\n{"name": 2}\n{"name": 3}\n', encoding="utf-8")
    rows, rejected = first_rows(path, AS_FOUND, 2)
    assert [row["name"] for row in rows] == [1, 2]
    assert [line.line for line in rejected] == [2]


def test_rows_may_be_a_generator_that_is_read_once() -> None:
    def rows() -> Iterable[Mapping[str, object]]:
        yield from ({"name": str(number)} for number in range(300))

    jobs, _ = read(rows())
    assert len(jobs) == 300


def test_other_error_of_an_item_is_its_own() -> None:
    jobs, rejected = read([{"name": "a"}, cast("dict[str, object]", ["b"])])
    assert list(jobs) == ["line-1"]
    assert rejected[2].code == "json_invalid"


def test_unknown_value_of_a_setting_is_an_input_error() -> None:
    with pytest.raises(InputError):
        plan([{"name": "a"}], json_schema="{}")
