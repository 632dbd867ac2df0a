"""Recipes: one in a folder outside the project, with parts of long documents, and one that is shipped."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from kinds.prompt.recipe import SHIPPED, read_recipe
from tests.acceptance.running import pressroom

RUN_SECONDS = 240.0

RECIPE = {
    "recipe.toml": """
name = "digest"
version = "3"
description = "Says in a few words what a report is about."
[columns]
report = "Report of any length."
[new_columns]
about = "A few words."
[settings]
max_tokens = 12
map_column = "report"
map_part_tokens = 60
map_max_tokens = 10
""",
    "user.jinja": "What is this about? {{ report }}",
    "map.jinja": "What is this part about? {{ report }}",
    "examples.csv": "report\nThe harbour was closed for a day.\n",
}
LONG = "\n\n".join(f"In week {number} the harbour was closed, and no ship came in." for number in range(15))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "digest of mine"
    folder.mkdir()
    for name, text in RECIPE.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def write_table(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_recipe_outside_the_project_reads_long_rows_in_parts(
    tmp_path: Path, folder: Path, model_folder: Path
) -> None:
    table = write_table(
        tmp_path / "reports.csv",
        {"id": "long", "body": LONG},
        {"id": "short", "body": "The harbour was closed for a day."},
        {"id": "endless", "body": LONG * 100},
    )
    out = tmp_path / "out"
    command = ("run", "prompt", table, "--with", folder, "--column", "report=body", "--out", out, "--json")
    environment = {"models_dir": str(model_folder.parent), "engine": "scripted"}
    with pressroom(tmp_path / "home", *command, **environment) as run:
        code, printed = run.finish(RUN_SECONDS)
    assert code == 1, run.stderr  # a row was refused
    assert (printed["num_rows"], printed["num_answered"]) == (2, 2)
    assert [row["id"] for row in lines_of(out / "results.jsonl")] == ["long", "short"]
    assert all(row["about"] and row["body"] for row in lines_of(out / "results.jsonl"))

    (refused,) = lines_of(out / "rejected.jsonl")
    assert refused["code"] == "document_too_long"
    counts = printed["counts"]
    num_parts = counts["succeeded"] - 4  # two rows that are passed on, and generated
    assert (num_parts > 1, counts["rejected"], counts["failed"]) == (True, 1, 0)

    identity = read_recipe(folder).identity
    parents = [
        parent
        for line in lines_of(out / "provenance.jsonl")
        for parent in json.dumps(line["provenance"]).split('"name"')
        if "digest 3" in parent
    ]
    assert len(parents) == 2
    assert all(identity.sha256 in parent for parent in parents)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "recipe <b>digest</b>, version 3" in page


def test_shipped_recipe_reports_how_often_its_answers_are_the_labels(
    tmp_path: Path, model_folder: Path
) -> None:
    table, out = SHIPPED / "classification" / "examples.csv", tmp_path / "out"
    command = ("run", "prompt", table, "--with", "classification", "--labels", "label", "--out", out)
    environment = {"models_dir": str(model_folder.parent), "engine": "scripted"}
    with pressroom(tmp_path / "home", *command, "--json", **environment) as run:
        code, printed = run.finish(RUN_SECONDS)
    assert code == 0, run.stderr
    rows = lines_of(out / "results.jsonl")
    num_right = sum(row["topic"] == row["label"] for row in rows)
    assert printed["labels"]["accuracy"] == num_right / len(rows)
    assert printed["labels"]["num_compared"] == 10
    assert json.loads((out / "summary.json").read_text())["labels"] == printed["labels"]
    assert "macro-F1" in (out / "index.html").read_text(encoding="utf-8")
