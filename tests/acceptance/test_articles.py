"""One command turns briefs into articles of the real model, and every one can say how it was made."""

from __future__ import annotations

import csv
import html
import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from db.tables import AttemptRow, StatementRow
from jobs.job import AttemptOutcome
from jobs.provenance import sha256_hex
from storage.packs import Place
from storage.store import Store
from tests.acceptance.conftest import BRIEFS, ExampleRun
from tests.acceptance.running import pressroom
from tests.factories import (
    read_place,
)
from workers.models.install import Installation

README = Path(__file__).parents[2] / "README.md"
STATES = ("queued", "running", "succeeded", "failed", "cancelled", "expired")
USAGE = {"prompt_tokens": "promptTokens", "cached_tokens": "cachedTokens", "new_tokens": "newTokens"}
"""Token counts in records, and in statements."""


def provenance(run: ExampleRun, record: dict[str, Any]) -> dict[str, Any]:
    """The statement in the JSON file beside an article."""
    beside = (run.out / record["file"]).with_suffix(".json")
    statement: dict[str, Any] = json.loads(beside.read_text())["provenance"]
    return statement


def documented_fields() -> set[str]:
    """First column of the README's table of `--json`."""
    _, _, after = README.read_text().partition("`--json` prints one object on stdout:")
    table = after.partition("\n\n    ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_run_exits_with_0_and_prints_the_documented_fields(example_run: ExampleRun) -> None:
    printed = example_run.printed
    counts = printed["counts"]

    assert example_run.code == 0
    assert printed.keys() == documented_fields()
    assert counts.keys() == {"total", "rejected", *STATES}
    assert counts["total"] == sum(counts[state] for state in STATES) == len(example_run.briefs)
    assert counts["succeeded"] == counts["total"]
    assert counts["rejected"] == 0
    assert printed["usage"].keys() == set(USAGE)
    assert printed["elapsed_seconds"] >= printed["working_seconds"] > 0
    assert printed["tokens_per_second"] > 0


def test_folder_holds_every_article_with_page_results_and_summary(example_run: ExampleRun) -> None:
    out, ids = example_run.out, {brief["id"] for brief in example_run.briefs}
    page = html.unescape((out / "index.html").read_text())
    summary = json.loads((out / "summary.json").read_text())

    assert {path.stem for path in (out / "articles").glob("*.md")} == ids
    assert {path.stem for path in (out / "articles").glob("*.json")} == ids
    assert [record["id"] for record in example_run.records()] == [brief["id"] for brief in example_run.briefs]
    assert [brief["id"] for brief in example_run.briefs if brief["title"] not in page] == []
    assert {**summary, "out": str(out)} == example_run.printed
    assert (out / "rejected.jsonl").read_text() == (out / "failed.jsonl").read_text() == ""


def test_every_article_names_the_installed_model_and_the_engine_that_ran_it(
    example_run: ExampleRun, installed_model: Installation
) -> None:
    manifest = installed_model.manifest
    for record in example_run.records():
        predicate = provenance(example_run, record)["predicate"]
        model, engine = predicate["model"], predicate["engine"]
        assert model["name"] == manifest.name
        assert model["revision"] == manifest.revision
        assert model["weightsSha256"] == manifest.weights_sha256
        assert model["tokenizerSha256"] == manifest.tokenizer_sha256
        assert model["chatTemplateSha256"] == manifest.chat_template_sha256
        assert engine["name"] == "transformers"
        assert engine["versions"]["transformers"] == version("transformers")
        assert engine["versions"]["torch"].partition("+")[0] == version("torch").partition("+")[0]


def test_tokens_of_the_articles_add_up_to_the_summary(example_run: ExampleRun) -> None:
    totals = dict.fromkeys(USAGE, 0)
    for record in example_run.records():
        predicate = provenance(example_run, record)["predicate"]
        for name, key in USAGE.items():
            calls = sum(generation["usage"][key] for generation in predicate["generations"])
            assert record["usage"][name] == predicate["usage"][key] == calls
            totals[name] += calls
        assert predicate["usage"]["newTokens"] >= record["metrics"]["num_words"]
        assert predicate["usage"]["promptTokens"] > predicate["usage"]["cachedTokens"]

    assert totals == example_run.printed["usage"]


def test_statement_is_about_the_bytes_of_the_article(example_run: ExampleRun) -> None:
    for record in example_run.records():
        digest = sha256_hex((example_run.out / record["file"]).read_bytes())
        assert record["sha256"] == digest
        assert [s["digest"]["sha256"] for s in provenance(example_run, record)["subject"]] == [digest]


def test_statement_in_the_store_is_the_statement_in_postgres(
    example_run: ExampleRun, example_database: Engine, example_store: Store
) -> None:
    with Session(example_database) as session:
        rows = session.scalars(select(StatementRow)).all()

    assert {str(row.job_id) for row in rows} == {record["job_id"] for record in example_run.records()}
    for row in rows:
        assert read_place(example_store, Place(row.object_key, len(row.body), row.byte_offset)) == row.body
        assert sha256_hex(row.body) == row.sha256


def test_task_of_every_article_is_the_celery_task_that_postgres_recorded(
    example_run: ExampleRun, example_database: Engine
) -> None:
    with Session(example_database) as session:
        rows = session.scalars(select(AttemptRow).where(AttemptRow.outcome == AttemptOutcome.SUCCEEDED)).all()
    tasks = {str(row.job_id): (row.attempt, row.celery_task_id, row.worker_id) for row in rows}

    for record in example_run.records():
        predicate = provenance(example_run, record)["predicate"]
        worker = predicate["worker"]
        recorded = (predicate["job"]["attempt"], worker["celeryTaskId"], worker["id"])
        assert tasks.pop(record["job_id"]) == recorded
        assert UUID(worker["celeryTaskId"])
    assert tasks == {}


@pytest.mark.usefixtures("example_services")
def test_show_tells_how_an_article_was_made(example_run: ExampleRun, installed_model: Installation) -> None:
    record = example_run.records()[0]
    statement = provenance(example_run, record)
    name = f"{example_run.batch_id}/{record['id']}"
    with pressroom(example_run.home, "show", name, "--json") as shown:
        code, detail = shown.finish()
    with pressroom(example_run.home, "show", name) as shown:
        _, text = shown.finish_text()

    assert code == 0
    assert detail["provenance"] == statement
    assert [attempt["celery_task_id"] for attempt in detail["attempts"]] == [
        statement["predicate"]["worker"]["celeryTaskId"]
    ]
    assert installed_model.manifest.name in text
    assert installed_model.manifest.weights_sha256[:16] in text
    assert f"seed {statement['predicate']['generations'][0]['sampling']['seed']}" in text
    assert f"{statement['predicate']['usage']['newTokens']} new" in text


@pytest.mark.usefixtures("example_services")
def test_second_run_installs_nothing_and_writes_the_same_texts_under_the_same_seed(
    example_run: ExampleRun, installed_model: Installation, tmp_path: Path
) -> None:
    shortest = sorted(example_run.briefs, key=lambda brief: int(brief["length"]))[:3]
    with BRIEFS.open(newline="") as all_briefs, (tmp_path / "some.csv").open("w", newline="") as some:
        writer = csv.DictWriter(some, csv.DictReader(all_briefs).fieldnames or [])
        writer.writeheader()
        writer.writerows(shortest)
    before = snapshot(installed_model.folder)
    arguments = ("run", "articles", tmp_path / "some.csv", "--out", tmp_path / "out", "--json")
    with pressroom(example_run.home, *arguments, models_dir=str(example_run.models_dir)) as run:
        code, _ = run.finish()
        said = run.stderr

    first = {record["id"]: record["sha256"] for record in example_run.records()}
    again = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert code == 0
    assert {record["id"]: record["sha256"] for record in again} == {
        brief["id"]: first[brief["id"]] for brief in shortest
    }
    assert snapshot(installed_model.folder) == before
    assert re.search("download|convert|unpack|Starting Postgres", said, re.IGNORECASE) is None


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of the folder and of every file in it."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in (folder, *folder.iterdir())
    }
