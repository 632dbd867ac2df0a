"""The table of an export: the same rows as JSONL, CSV and Parquet, whatever figures a kind leaves."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pressroom.default_export import table as tables
from pressroom.default_export.table import TableWriter, convert_table


def write_table(
    folder: Path, metrics: list[Mapping[str, object]], text: str | None = "text"
) -> tuple[list[dict[str, str]], pa.Table]:
    """The rows of the CSV file, and the Parquet table."""
    lines = folder / "results.jsonl"
    with lines.open("w", encoding="utf-8") as file:
        writer = TableWriter(file)
        for number, own in enumerate(metrics):
            writer.write({"id": f"row-{number}", "status": "succeeded", "metrics": own, "text": text})
    convert_table(lines, folder, writer.schema())
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return rows, pq.read_table(folder / "results.parquet")


def test_every_figure_gets_a_column_of_its_type(tmp_path: Path) -> None:
    metrics = {"number": 3, "share": 0.5, "is_good": True, "word": "a", "flags": ["x", "y"], "of": {"all": 1}}
    rows, parquet = write_table(tmp_path, [metrics])

    types = {
        name: parquet.schema.field(f"metrics.{name}").type for name in ("number", "share", "is_good", "word")
    }
    assert types == {"number": pa.int64(), "share": pa.float64(), "is_good": pa.bool_(), "word": pa.string()}
    assert parquet["metrics.flags"].to_pylist() == ['["x", "y"]']
    assert parquet["metrics.of.all"].to_pylist() == [1]
    assert rows[0]["metrics.number"] == "3"
    assert rows[0]["text"] == "text"


def test_column_of_mixed_values_holds_all_of_them(tmp_path: Path) -> None:
    metrics: list[Mapping[str, object]] = [
        {"share": 1, "any": 1, "large": 1, "rounded": 2**53 + 1},
        {"share": 0.5, "any": "one", "large": 2**70, "rounded": 0.5},
        {"share": None, "any": None},
    ]
    _, parquet = write_table(tmp_path, metrics)

    assert parquet["metrics.share"].to_pylist() == [1.0, 0.5, None]
    assert parquet["metrics.any"].to_pylist() == ["1", "one", None]
    assert parquet["metrics.large"].to_pylist() == ["1", str(2**70), None]
    assert parquet["metrics.rounded"].to_pylist() == [2.0**53, 0.5, None]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_no_cell_of_the_csv_file_is_a_formula(text: str, tmp_path: Path) -> None:
    rows, parquet = write_table(tmp_path, [{"word": text, text: 1, "number": -1}], text)

    assert rows[0]["text"] == rows[0]["metrics.word"] == f"'{text}"
    assert rows[0]["metrics.number"] == "-1"
    assert parquet["text"].to_pylist() == [text]


def test_figures_beyond_the_bound_stay_in_the_jsonl_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MAX_METRIC_COLUMNS", 2)
    _, parquet = write_table(tmp_path, [{"a": 1, "b": 2, "c": 3}])

    assert [name for name in parquet.schema.names if name.startswith("metrics.")] == [
        "metrics.a",
        "metrics.b",
    ]
    assert json.loads((tmp_path / "results.jsonl").read_text())["metrics"]["c"] == 3


def test_table_without_a_row_has_the_columns_of_every_kind(tmp_path: Path) -> None:
    rows, parquet = write_table(tmp_path, [])

    assert rows == []
    assert parquet.num_rows == 0
    assert {"id", "status", "file", "text", "usage.new_tokens"} <= set(parquet.schema.names)


def test_rows_are_converted_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROWS_AT_A_TIME", 2)
    rows, parquet = write_table(tmp_path, [{"number": number} for number in range(5)])

    assert [row["metrics.number"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert parquet["metrics.number"].to_pylist() == [0, 1, 2, 3, 4]
    assert pq.ParquetFile(tmp_path / "results.parquet").num_row_groups == 3
