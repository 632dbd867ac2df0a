"""`pressroom evaluate sentiment` as a user gives it: figures, refusals, exit codes; with a scripted model."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.running import PressroomRun, pressroom
from tests.tiny_encoder import write_manifest, write_scripted_encoder

MODEL = "moods"
NUM_TEXTS = 600
BLOCKS = 3
COLUMNS = ("--text", "headline", "--label", "mood", "--target", "company")
MAP = ("--map", "negative=0,neutral=2,positive=1")
TEXTS = (("Acme profit surges", "1"), ("Acme shares fall on loss", "0"), ("Acme meets", "2"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, task in ((MODEL, "classify"), ("vectors", "embed")):
        write_scripted_encoder(folder / name, task)  # type: ignore[arg-type]
        write_manifest(folder / name, name, task)  # type: ignore[arg-type]
    return folder


def write_labelled(path: Path, *, num_wrong: int = 0, num_bad: int = 0) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["headline", "company", "mood"])
        for number in range(NUM_TEXTS):
            headline, mood = TEXTS[number % 3]
            writer.writerow([f"{headline} {number}", "Acme", mood if number >= num_wrong else "2"])
        for number in range(num_bad):
            writer.writerow([f"Acme {number}", "Acme", "9"])
    return path


def evaluate(run: PressroomRun) -> tuple[int, dict[str, Any]]:
    code, printed = run.finish()
    assert printed, run.stderr
    return code, printed


def test_figures_come_from_every_text_and_labels_never_reach_the_job(tmp_path: Path, models: Path) -> None:
    file = write_labelled(tmp_path / "labelled.csv", num_wrong=30)
    arguments = ("evaluate", "sentiment", file, *COLUMNS, *MAP, "--model", MODEL, "--json")
    environment = {"models_dir": str(models), "engine": "scripted"}
    out = tmp_path / "out"
    with pressroom(tmp_path / "home", *arguments, "--out", out, "--device", "cpu", **environment) as run:
        code, printed = evaluate(run)
    assert (code, printed["counts"]["succeeded"]) == (0, BLOCKS)
    figures = printed["evaluation"]
    assert (figures["num_examples"], figures["num_missing"]) == (NUM_TEXTS, 0)
    assert figures["accuracy"] == pytest.approx(1 - 20 / NUM_TEXTS, abs=1e-3)  # a third of 30 was neutral
    assert figures["confusion"] == [[190, 0, 0], [10, 200, 10], [0, 0, 190]]
    assert figures["documents_per_second"] > 0
    assert json.loads((out / "evaluation.json").read_text()) == figures
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [line["line"] for line in lines] == list(range(2, NUM_TEXTS + 2))
    assert lines[0]["label"] == "neutral" != lines[0]["predicted"]


def test_refused_lines_are_named_and_the_rest_is_measured(tmp_path: Path, models: Path) -> None:
    file = write_labelled(tmp_path / "labelled.csv", num_bad=2)
    options = (*COLUMNS, *MAP, "--model", MODEL, "--device", "cpu")
    environment = {"models_dir": str(models), "engine": "scripted"}
    out = tmp_path / "out"
    command = ("evaluate", "sentiment")
    with pressroom(tmp_path / "home", *command, file, *options, "--out", out, "--json", **environment) as run:
        code, printed = evaluate(run)
        assert f"{file}:{NUM_TEXTS + 2}: column 'mood': '9' is none of 0, 2, 1" in run.stderr
        batch_id = printed["batch_id"]
    assert (code, printed["counts"]["rejected"]) == (1, 2)
    assert printed["evaluation"]["num_examples"] == NUM_TEXTS
    assert len((out / "rejected.jsonl").read_text().splitlines()) == 2

    other = write_labelled(tmp_path / "other.csv")
    other.write_text(other.read_text().replace("Acme", "Birch"))
    with pressroom(tmp_path / "home", *command, other, *options, "--batch", batch_id, **environment) as run:
        code, _ = run.finish_text()
        assert code == 1
        assert "batch_of_another_file" in run.stderr


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ((*COLUMNS, "--map", "good=1"), 2, "CLASS=LABEL"),
        (("--text", "headline"), 2, "--label"),
        ((*COLUMNS[:2], "--label", "nothing", "--model", MODEL), 1, "no column is named 'nothing'"),
        ((*COLUMNS, "--map", "negative=7,neutral=8,positive=9", "--model", MODEL), 1, "nothing_evaluated"),
        ((*COLUMNS, *MAP, "--model", "absent"), 1, "is not installed"),
        ((*COLUMNS, *MAP, "--model", "vectors"), 1, "model_task_mismatch"),
    ],
    ids=["map", "no label", "column", "all refused", "model", "task"],
)
def test_wrong_use_is_named(
    tmp_path: Path, models: Path, options: tuple[str, ...], code: int, words: str
) -> None:
    file = write_labelled(tmp_path / "labelled.csv")
    command, device = ("evaluate", "sentiment"), ("--device", "cpu")
    environment = {"models_dir": str(models), "engine": "scripted"}
    with pressroom(tmp_path / "home", *command, file, *options, *device, **environment) as run:
        found, _ = run.finish_text()
        assert (found, words in run.stderr) == (code, True), run.stderr
        assert "Batch " not in run.stderr  # nothing was started for it
