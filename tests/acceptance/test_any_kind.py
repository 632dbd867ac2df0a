"""A kind of another package has a front door: the examples are installed from a folder, and used."""

from __future__ import annotations

import csv
import html
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.acceptance.running import PressroomRun, pressroom

EXAMPLES = Path(__file__).parents[2] / "examples" / "kinds"
CHECKOUT = Path(__file__).parents[2]

TEXTS = {"a": "iron ore and iron", "b": "copper ore", "=c": "=1+1"}


@pytest.fixture(scope="module", autouse=True)
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example packages, installed as a user would; every process of the tests finds them."""
    folder = tmp_path_factory.mktemp("packages")
    sources = shutil.copytree(EXAMPLES, folder / "sources")
    options = ("-q", "--no-index", "--no-build-isolation", "--no-deps", "--disable-pip-version-check")
    names = ("tally", "glossary", "compare")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(folder / "site")]
        + [str(sources / name) for name in names],
        check=True,
        timeout=120,
    )
    with pytest.MonkeyPatch.context() as patch:
        path = [str(folder / "site"), str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
        yield folder / "site"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PressroomRun]:
    """Services, beat, and a worker without a model."""
    home = tmp_path_factory.mktemp("any_kind") / "home"
    with pressroom(home, "up", "--profile", "cpu", "--device", "cpu") as run:
        run.wait_until(
            lambda: run.count("SELECT count(*) FROM workers WHERE ready_at IS NOT NULL") > 0,
            "a worker is ready",
        )
        yield run
        run.interrupt()
        run.finish_text()


def call(home: Path, *arguments: str | Path) -> tuple[int, dict[str, Any], str]:
    """Exit status, the object on stdout, and stderr of a command with `--json`."""
    with pressroom(home, *arguments, "--json") as run:
        code, printed = run.finish()
        return code, printed, run.stderr


def print_text(home: Path, *arguments: str | Path) -> str:
    """What a command that succeeds prints on stdout."""
    with pressroom(home, *arguments) as run:
        code, text = run.finish_text()
        assert code == 0, run.stderr
        return text


def finished_batch(up: PressroomRun, condition: str) -> str:
    """The id of the newest batch of which this is true, once it has ended."""
    statement = f"SELECT id FROM batches WHERE status <> 'running' AND {condition} ORDER BY created_at DESC"
    up.wait_until(lambda: bool(up.query(statement)), f"a batch has ended: {condition}")
    return str(up.query(statement)[0]["id"])


def write_texts(path: Path, texts: dict[str, str]) -> Path:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "text"])
        table.writerows(texts.items())
    return path


def rows_of(out: Path) -> dict[str, dict[str, Any]]:
    """The rows of results.jsonl by id."""
    lines = (out / "results.jsonl").read_text().splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def test_documented_kinds_are_the_examples() -> None:
    page = (CHECKOUT / "docs" / "kinds.md").read_text()
    for name in ("tally/tally.py", "tally/pyproject.toml", "glossary/glossary/kind.py", "compare/compare.py"):
        assert (EXAMPLES / name).read_text() in page, name


def test_the_kind_of_one_module_is_short() -> None:
    assert len((EXAMPLES / "tally" / "tally.py").read_text().splitlines()) < 60


def test_installed_kinds_are_listed_and_shown_with_their_columns(tmp_path: Path) -> None:
    _, listed, _ = call(tmp_path, "kinds", "list")
    code, shown, _ = call(tmp_path, "kinds", "show", "tally")

    by_name = {kind["name"]: kind for kind in listed["kinds"]}
    assert by_name["tally"]["command"] == "run tally"
    assert by_name["tally"]["summary"] == "Lists the most frequent words of each text."
    assert {"article", "sentiment_report", "recommendation"} < by_name.keys()
    assert code == 0
    assert [column["name"] for column in shown["columns"]] == ["text", "top"]
    assert [column["required"] for column in shown["columns"]] == [True, False]
    assert [setting["name"] for setting in shown["settings"]] == ["seconds"]
    assert "glossary" in print_text(tmp_path, "kinds", "list")
    assert "returns TermCounts" in print_text(tmp_path, "kinds", "show", "glossary")


def test_run_writes_files_a_table_and_a_page_and_goes_on_after_ctrl_c(tmp_path: Path) -> None:
    """In a home of its own, so that nobody else works on the batch meanwhile."""
    home, out = tmp_path / "home", tmp_path / "out"
    texts = TEXTS | {f"line-{number}": f"word number {number}" for number in range(60)}
    file = write_texts(tmp_path / "texts.csv", texts)
    options = ("--set", "seconds=0.5", "--out", out)
    with pressroom(home, "run", "tally", file, *options, "--json") as run:
        run.wait_until(
            lambda: run.count("SELECT count(*) FROM jobs WHERE status = 'succeeded'") > 0,
            "a job has succeeded",
        )
        run.interrupt()
        code, printed = run.finish()
        assert f"pressroom run tally --set seconds=0.5 --device auto --out {out} --batch" in run.stderr
    assert code == 1
    assert 0 < printed["counts"]["succeeded"] < len(texts)

    code, printed, _ = call(home, "run", "tally", "--batch", printed["batch_id"], "--out", out)
    assert code == 0
    assert printed["counts"]["succeeded"] == printed["num_results"] == len(texts)
    assert rows_of(out).keys() == texts.keys()
    assert (out / rows_of(out)["a"]["file"]).read_text() == "iron 2\nore 1\nand 1\n"
    with (out / "results.csv").open(newline="") as table:
        by_id = {row["id"]: row for row in csv.DictReader(table)}
    assert by_id["'=c"]["text"] == "'=1+1 1\n"
    assert by_id["a"]["metrics.num_words"] == "4"
    parquet = pq.read_table(out / "results.parquet")
    assert parquet.num_rows == len(texts)
    assert parquet["metrics.num_distinct"][0].as_py() == 3
    assert len((out / "provenance.jsonl").read_text().splitlines()) == len(texts)
    page = html.unescape((out / "index.html").read_text())
    assert "63 results" in page
    assert "default-src 'none'" in page


def test_example_file_is_accepted_and_results_of_the_submitted_batch_are_written(
    up: PressroomRun, tmp_path: Path
) -> None:
    for format_ in ("csv", "jsonl"):
        file = tmp_path / f"example.{format_}"
        file.write_text(print_text(up.home, "kinds", "show", "tally", "--example", format_))
        refused = tmp_path / "refused.jsonl"
        code, submitted, said = call(up.home, "submit", "tally", file, "--rejected", refused)
        assert code == 0, said
        assert submitted["counts"]["total"] == 3
        assert refused.read_text() == ""

    batch_id = finished_batch(up, "name = 'example.jsonl'")
    code, printed, _ = call(up.home, "results", batch_id, "--out", tmp_path / "out")
    assert code == 0
    assert printed["num_results"] == 3
    assert {row["status"] for row in rows_of(tmp_path / "out").values()} == {"succeeded"}


def test_refused_and_failed_lines_are_named_and_fail_the_command(up: PressroomRun, tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    lines = [{"id": "good", "text": "a word"}, {"id": "blank", "text": " . "[:1]}, {"id": "bad", "top": 3}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "out"

    code, printed, said = call(up.home, "run", "tally", file, "--out", out, "--max-dropped", "50%")

    assert code == 1
    assert (printed["counts"]["succeeded"], printed["counts"]["failed"], printed["counts"]["rejected"]) == (
        1,
        1,
        1,
    )
    assert json.loads((out / "failed.jsonl").read_text())["error"]["code"] == "tally_empty"
    assert json.loads((out / "rejected.jsonl").read_text())["code"] == "missing_column"
    assert rows_of(out)["blank"]["error"]["code"] == "tally_empty"
    assert "column 'text'" in said


def test_schedule_reads_the_same_file_again_and_shows_why_a_run_failed(
    up: PressroomRun, tmp_path: Path
) -> None:
    file = write_texts(tmp_path / "texts.csv", TEXTS)
    with file.open("a") as more:
        more.write("d,\n")
    code, made, _ = call(up.home, "schedule", "create", "tally", "words", file, "--cron", "* * * * * *")
    assert code == 0
    assert made["cron"] == "* * * * * *"
    finished_batch(up, "name LIKE 'words %'")
    assert up.query("SELECT num_jobs, num_rejected FROM batches WHERE name LIKE 'words %'")[0] == {
        "num_jobs": 3,
        "num_rejected": 1,
    }

    file.unlink()
    failed = "SELECT count(*) FROM schedule_runs WHERE outcome = 'failed'"
    up.wait_until(lambda: up.count(failed) > 0, "a run has failed")
    print_text(up.home, "schedule", "pause", "words")
    _, shown, _ = call(up.home, "schedule", "show", "words")
    _, listed, _ = call(up.home, "schedule", "list")

    errors = [run["error"] for run in shown["runs"] if run["outcome"] == "failed"]
    assert str(file) in errors[0]["message"]
    assert {"started", "failed"} <= {run["outcome"] for run in shown["runs"]}
    assert shown["paused_at"] is not None
    assert [schedule["name"] for schedule in listed["schedules"]] == ["words"]

    write_texts(file, {"e": "one more"})
    batch_id = call(up.home, "schedule", "run", "words")[1]["batch_id"]
    finished_batch(up, f"id = '{batch_id}'")
    print_text(up.home, "schedule", "remove", "words")
    assert call(up.home, "schedule", "list")[1]["schedules"] == []


def test_kind_with_table_stages_port_command_and_schedule_does_all_of_it(
    up: PressroomRun, tmp_path: Path
) -> None:
    file = write_texts(tmp_path / "texts.csv", {"a": "iron iron copper", "b": "copper lead"})
    call(up.home, "schedule", "create", "glossary", "metals", file, "--set", "at_least=2")
    for _ in range(2):
        batch_id = call(up.home, "schedule", "run", "metals")[1]["batch_id"]
        finished_batch(up, f"id = '{batch_id}'")
    code, _, said = call(up.home, "results", batch_id, "--out", tmp_path / "out")
    with pressroom(up.home, "schedule", "pause", "metals") as paused:
        assert paused.finish_text()[0] == 1
        assert "error [schedule_without_times]" in paused.stderr

    assert code == 0, said
    notes = {id_: row["text"] for id_, row in rows_of(tmp_path / "out").items()}
    assert notes == {"copper": "copper: 2 times, 2 before\n", "iron": "iron: 2 times, 2 before\n"}
    assert call(up.home, "terms")[1] == {
        "terms": [{"term": "copper", "number": 4}, {"term": "iron", "number": 4}]
    }
    revisions = up.query("SELECT version_num FROM alembic_version")
    assert "glossary_0001" in {row["version_num"] for row in revisions}

    call(up.home, "schedule", "create", "glossary", "metals", file, "--cron", "* * * * * *")
    due = "SELECT count(*) FROM schedule_runs r JOIN schedules s ON s.id = schedule_id WHERE name = 'metals'"
    up.wait_until(lambda: up.count(f"{due} AND r.outcome = 'started'") > 0, "a due run has started")
    print_text(up.home, "schedule", "pause", "metals")


def test_kind_with_two_inputs_is_submitted_shown_and_scheduled(up: PressroomRun, tmp_path: Path) -> None:
    before = write_texts(tmp_path / "before.csv", {"a": "iron ore", "b": "copper", "gone": "lead"})
    after = write_texts(tmp_path / "after.csv", {"a": "iron ingots", "b": "copper", "new": "tin"})
    rejected = tmp_path / "rejected.jsonl"
    options = ("--rejected", rejected, "--max-dropped", "50%")
    code, submitted, said = call(up.home, "submit", "compare", before, "--input", f"after={after}", *options)
    assert code == 0, said
    assert (submitted["counts"]["total"], submitted["counts"]["rejected"]) == (2, 1)
    refused = json.loads(rejected.read_text())
    assert (refused["code"], refused["line"], refused["file"]) == ("id_unusable", 4, str(after))

    batch_id = finished_batch(up, f"id = '{submitted['batch_id']}'")
    code, _, _ = call(up.home, "results", batch_id, "--out", tmp_path / "out")
    assert code == 0
    assert "+iron ingots" in rows_of(tmp_path / "out")["a"]["text"]
    shown = call(up.home, "show", f"{batch_id}/b")[1]
    assert shown["description"] == [{"label": "text", "text": "is the same"}]
    assert "has changed" in print_text(up.home, "show", f"{batch_id}/a")

    for inputs in ((), ("--input", f"afer={after}"), ("--input", "after=gone.csv")):
        with pressroom(up.home, "submit", "compare", before, *inputs) as run:
            assert run.finish_text()[0] == 2
            assert "--input" in run.stderr
    call(up.home, "schedule", "create", "compare", "nightly", before, "--input", f"after={after}")
    scheduled = call(up.home, "schedule", "run", "nightly")[1]
    assert (scheduled["counts"]["total"], scheduled["counts"]["rejected"]) == (2, 1)
    finished_batch(up, f"id = '{scheduled['batch_id']}'")


def test_kind_whose_batches_another_command_makes_names_it(tmp_path: Path) -> None:
    for arguments in (("run", "article", "x.csv", "--out", "y"), ("submit", "sentiment_report")):
        with pressroom(tmp_path, *arguments) as run:
            code, _ = run.finish_text()
            assert code == 2
            assert "are made by" in run.stderr
