"""Logs in Parquet: columns of any type are read or refused, and none does harm."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from jobs.errors import PressroomError
from tests.unit.kinds.recommendation.catalogue.files import GOODS, ingest_files, write


def test_parquet_of_a_data_frame_with_gaps_is_read(tmp_path: Path) -> None:
    table = pa.table(
        {
            "user_id": pa.array([1.0, 2.0, float("nan"), 4.5]),
            "item_id": pa.array([7, 7, 7, None], pa.int64()),
            "rating": pa.array([5.0, float("nan"), 1.0, 1.0]),
            "timestamp": pa.array([1_700_000_000_000, None, None, None], pa.timestamp("ms")),
            "event": pa.array(["view", None, "view", "view"]).dictionary_encode(),
        }
    )
    parquet.write_table(table, tmp_path / "log.parquet")
    result = ingest_files(write(tmp_path, "goods.csv", "id,title\n7,Mug\n"), tmp_path / "log.parquet")
    assert result.entries == [("1", "7", 5.0, 1_700_000_000, False)]
    assert result.counts == {"weight_invalid": 1, "user_missing": 1, "item_missing": 1}


def test_huge_text_repeated_in_parquet_stays_small_in_memory(tmp_path: Path) -> None:
    names = pa.array(["x" * 1_000_000, "ann"])
    users = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000 + [1], pa.int32()), names)
    parquet.write_table(pa.table({"user": users, "item": ["tent"] * 100_001}), tmp_path / "log.parquet")
    before = pa.total_allocated_bytes()
    result = ingest_files(write(tmp_path, "goods.csv", GOODS), tmp_path / "log.parquet")
    assert result.counts["field_invalid"] == 100_000
    assert result.inputs.num_users == 1
    assert pa.default_memory_pool().max_memory() - before < 2**28


@pytest.mark.parametrize("column", ["user", "item", "event", "weight", "time"])
@pytest.mark.parametrize(
    "values",
    [
        pa.array([[1], [2]]),
        pa.array([{"a": 1}, {"a": 2}]),
        pa.array([b"a", b"b"]),
        pa.array([True, False]),
        pa.array([1.0, 2.0], pa.float16()),
        pa.array([1, 2], pa.duration("s")),
    ],
    ids=lambda values: str(values.type),
)
def test_parquet_column_of_another_type_is_refused(tmp_path: Path, column: str, values: pa.Array) -> None:
    table = pa.table({"user": ["ann", "bob"], "item": ["tent", "mug"]} | {column: values})
    parquet.write_table(table, tmp_path / "log.parquet")
    with pytest.raises(PressroomError, match=f"column '{column}' holds") as refused:
        ingest_files(write(tmp_path, "goods.csv", GOODS), tmp_path / "log.parquet")
    assert refused.value.code == "field_invalid"


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, None], pa.uint64()),
        pa.array([1.0, None], pa.float32()),
        pa.array([Decimal(1), None]),
        pa.array(["1", None], pa.large_string()),
        pa.array([1, None], pa.int8()).dictionary_encode(),
    ],
    ids=lambda values: str(values.type),
)
@pytest.mark.parametrize("column", ["user", "item", "event", "weight"])
def test_parquet_column_of_any_number_or_text_is_read(tmp_path: Path, column: str, values: pa.Array) -> None:
    table = pa.table({"user": ["1", "2"], "item": ["1", "2"]} | {column: values})
    parquet.write_table(table, tmp_path / "log.parquet")
    result = ingest_files(write(tmp_path, "goods.csv", "id,title\n1,A\n2,B\n"), tmp_path / "log.parquet")
    assert result.entries[0][:3] == ("1", "1", 1.0)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1_700_000_000, None], pa.timestamp("s", "Europe/Berlin")),
        pa.array([1_700_000_000_000, None], pa.int64()),
        pa.array([1_700_000_000 * 10**9, None], pa.timestamp("ns")),
        pa.array(["2023-11-14T22:13:20Z", None]).dictionary_encode(),
        pa.array([Decimal(1_700_000_000), None]),
    ],
    ids=lambda values: str(values.type),
)
def test_parquet_column_of_moments_is_read(tmp_path: Path, values: pa.Array) -> None:
    table = pa.table({"user": ["ann", "bob"], "item": ["tent", "mug"], "time": values})
    parquet.write_table(table, tmp_path / "log.parquet")
    result = ingest_files(write(tmp_path, "goods.csv", GOODS), tmp_path / "log.parquet")
    assert [entry[3] for entry in result.entries] == [1_700_000_000, 0]
    assert result.counts == {"time_missing": 1}
