"""What a kind without an export of its own leaves in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow.parquet as pq
from sqlalchemy import Engine, update

from db.outcomes import commit
from db.reports import batch_status
from db.stages import NewJob
from db.tables import JobRow
from jobs.kind import Artifact
from pressroom.default_export.export import MAX_TEXT_BYTES, ResultsReport, export_results
from pressroom.export import exporter_of
from pressroom.summary import Summary
from storage.memory import MemoryStore
from tests.factories import (
    accept,
    alter_place,
    artifact_place,
    claim_batch,
    failure,
    job_ids,
    new_batch,
    published,
)

PNG = b"\x89PNG\r\n\x1a\n\x00"


def text(body: str, name: str = "text.txt", media_type: str = "text/plain") -> Artifact:
    return Artifact(name=name, media_type=media_type, body=body.encode())


def finished_batch(
    database: Engine, store: MemoryStore, artifacts: dict[str, list[Artifact]], failing: tuple[str, ...] = ()
) -> UUID:
    """A batch whose jobs have left these artifacts."""
    jobs = [NewJob(custom_id, {"text": custom_id, "act": "write"}) for custom_id in [*artifacts, *failing]]
    batch_id = accept(database, jobs, new_batch(kind="trial", name="rows.csv"))
    claimed = {job.custom_id: job for job in claim_batch(database, batch_id)}
    metrics = {"num_words": 2, "by": {"rule": 0.5}}
    commit(
        database,
        [published(store, claimed[custom_id], own, metrics=metrics) for custom_id, own in artifacts.items()],
    )
    commit(database, [failure(claimed[custom_id]) for custom_id in failing])
    return batch_id


def export(database: Engine, store: MemoryStore, batch_id: UUID, out: Path) -> tuple[ResultsReport, Summary]:
    summary = Summary(report=batch_status(database, batch_id), elapsed_seconds=9, startup_seconds=1)
    return export_results(database, store, summary, out), summary


def rows_of(out: Path) -> dict[str, dict[str, Any]]:
    lines = (out / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def files_of(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


TABLES = {
    *("results.jsonl", "results.csv", "results.parquet", "failed.jsonl", "provenance.jsonl"),
    *("index.html", "summary.json"),
}


def test_export_is_every_artifact_a_row_for_each_job_and_a_page(database: Engine, tmp_path: Path) -> None:
    store = MemoryStore()
    chart = Artifact(name="The Chart.PNG", media_type="image/png", body=PNG)
    batch_id = finished_batch(database, store, {"a": [text("one two"), chart], "B/..": [chart]}, ("c",))
    out = tmp_path / "out"
    report, summary = export(database, store, batch_id, out)

    rows = rows_of(out)
    assert report.num_results == 2
    assert list(rows) == ["a", "B/..", "c"]
    assert rows["a"]["files"][0] == "files/a.txt"
    assert (rows["a"]["text"], rows["B/.."]["text"]) == ("one two", None)
    assert rows["c"]["error"]["code"]
    assert files_of(out) == TABLES | {*rows["a"]["files"], *rows["B/.."]["files"]}
    assert [(out / file).read_bytes() for file in rows["a"]["files"]] == [b"one two", PNG]
    parquet = pq.read_table(out / "results.parquet")
    assert parquet["metrics.by.rule"].to_pylist() == [0.5, 0.5, None]
    assert json.loads((out / "summary.json").read_text())["num_results"] == 2
    statements = [json.loads(line) for line in (out / "provenance.jsonl").read_text().splitlines()]
    assert [each["id"] for each in statements] == ["a", "B/.."]
    assert [each["provenance"]["subject"][0]["name"] for each in statements] == ["text.txt", "The Chart.PNG"]
    assert not summary.altered


def test_failures_of_earlier_stages_are_listed_beside_the_results_of_the_last(
    database: Engine, tmp_path: Path
) -> None:
    store = MemoryStore()
    batch_id = finished_batch(database, store, {"a": [text("one")], "all": [text("two")]}, ("b",))
    with database.begin() as connection:
        connection.execute(update(JobRow).where(JobRow.custom_id == "all").values(stage=1))
    report, _ = export(database, store, batch_id, tmp_path)

    assert report.num_results == 1
    assert list(rows_of(tmp_path)) == ["all", "b"]
    assert [json.loads(line)["id"] for line in (tmp_path / "failed.jsonl").read_text().splitlines()] == ["b"]
    page = (tmp_path / "index.html").read_text()
    assert "<h1>1 result</h1>" in page
    assert "This page shows" not in page


def test_kind_without_an_exporter_gets_this_one() -> None:
    assert exporter_of("trial") is export_results
    assert exporter_of("uninstalled") is export_results


def test_page_shows_what_was_written_as_text_and_runs_nothing(database: Engine, tmp_path: Path) -> None:
    store = MemoryStore()
    hostile = "<script>alert(1)</script>\u202e"
    batch_id = finished_batch(database, store, {hostile: [text(hostile)]})
    export(database, store, batch_id, tmp_path)

    page = (tmp_path / "index.html").read_text()
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 2
    assert "\u202e" not in page
    assert "script-src" not in page
    assert "default-src &#39;none&#39;" in page


def test_long_text_is_in_its_file_alone(database: Engine, tmp_path: Path) -> None:
    store = MemoryStore()
    batch_id = finished_batch(database, store, {"long": [text("x" * (MAX_TEXT_BYTES + 1))]})
    export(database, store, batch_id, tmp_path)

    assert rows_of(tmp_path)["long"]["text"] is None
    assert (tmp_path / "files/long.txt").stat().st_size == MAX_TEXT_BYTES + 1


def test_text_that_is_no_utf_8_is_no_text(database: Engine, tmp_path: Path) -> None:
    store = MemoryStore()
    odd = Artifact(name="a.txt", media_type="text/plain; charset=latin-1", body=b"\xe9")
    batch_id = finished_batch(database, store, {"a": [odd], "b": [text("{}", "b.json", "application/json")]})
    export(database, store, batch_id, tmp_path)

    assert rows_of(tmp_path)["a"]["text"] is None
    assert rows_of(tmp_path)["b"]["text"] == "{}"


def test_altered_result_is_left_out_and_named(database: Engine, tmp_path: Path) -> None:
    store = MemoryStore()
    batch_id = finished_batch(database, store, {"a": [text("one")], "b": [text("two")]})
    export(database, store, batch_id, tmp_path / "before")
    alter_place(store, artifact_place(database, job_ids(database, batch_id)[1]), b"three")
    report, summary = export(database, store, batch_id, tmp_path)

    assert list(rows_of(tmp_path)) == ["a"]
    assert report.num_results == 1
    assert [altered.custom_id for altered in summary.altered] == ["b"]
    assert "left out" in (tmp_path / "index.html").read_text()


def test_export_takes_the_place_of_an_earlier_one_and_touches_nothing_else(
    database: Engine, tmp_path: Path
) -> None:
    store = MemoryStore()
    chart = Artifact(name="chart.png", media_type="image/png", body=PNG)
    export(database, store, finished_batch(database, store, {"a": [text("one"), chart]}), tmp_path)
    (tmp_path / "files" / "mine.txt").write_text("kept")
    (tmp_path / "notes.txt").write_text("kept")
    export(database, store, finished_batch(database, store, {"b": [text("two")]}), tmp_path)

    assert files_of(tmp_path) == TABLES | {"files/b.txt", "files/mine.txt", "notes.txt"}


def test_batch_without_a_result_leaves_those_of_another_alone(database: Engine, tmp_path: Path) -> None:
    store = MemoryStore()
    export(database, store, finished_batch(database, store, {"a": [text("one")]}), tmp_path)
    report, _ = export(database, store, finished_batch(database, store, {}, ("c",)), tmp_path)

    assert report.num_results == 0
    assert list(rows_of(tmp_path)) == ["a"]
