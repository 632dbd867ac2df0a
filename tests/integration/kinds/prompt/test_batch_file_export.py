"""Lines that were never run are in the error file, beside those that were refused."""

from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy import Engine

from db.batches import cancel
from db.reports import batch_status
from pressroom.export import exporter_of
from pressroom.summary import Summary
from storage.memory import MemoryStore
from tests.integration.kinds.prompt.test_batch_file_intake import Desk, chat, embedding


def test_lines_of_a_cancelled_batch_have_an_error_and_no_response(database: Engine, tmp_path: Path) -> None:
    desk, out = Desk(database, tmp_path), tmp_path / "out"
    hostile = "<script>alert(1)</script>"
    lines = (chat("a"), embedding("b"), chat("c", n=0), embedding(hostile, [hostile]))
    batch_id = desk.submit(*lines).batch_id
    cancel(database, batch_id)
    summary = Summary(report=batch_status(database, batch_id), elapsed_seconds=1, startup_seconds=0)
    exporter_of("prompt")(database, MemoryStore(), summary, out)
    records = {
        line["custom_id"]: line for line in map(json.loads, (out / "errors.jsonl").read_text().splitlines())
    }
    assert set(records) == {"a", "b", "c", hostile}
    for custom_id in ("a", "b", hostile):
        assert records[custom_id]["response"] is None
        assert records[custom_id]["error"]["code"] == "batch_cancelled"
    assert records["c"]["response"]["status_code"] == 400
    assert len({line["id"] for line in records.values()}) == 4
    assert (out / "output.jsonl").read_text() == ""
    page = (out / "index.html").read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>" not in page
    assert json.loads((out / "summary.json").read_text())["lines"] == {
        "completed": 0,
        "refused": 1,
        "failed": 3,
    }


def test_an_error_file_of_an_earlier_export_is_removed(database: Engine, tmp_path: Path) -> None:
    desk, out = Desk(database, tmp_path), tmp_path / "out"
    batch_id = desk.submit(chat("a")).batch_id
    out.mkdir()
    (out / "errors.jsonl").write_text("{}\n")
    summary = Summary(report=batch_status(database, batch_id), elapsed_seconds=1, startup_seconds=0)
    exporter_of("prompt")(database, MemoryStore(), summary, out)
    assert not (out / "errors.jsonl").exists()
    assert (out / "output.jsonl").read_text() == ""
