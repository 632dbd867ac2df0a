"""`pressroom models calibrate` as a user gives it, with a small classifier from a hub that is too sure."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, BertForSequenceClassification

from tests.acceptance.running import PressroomRun, pressroom
from tests.integration.hub_server import serve_hub
from tests.tiny_bert import WORDS, write_tiny_bert
from tests.tiny_encoder import write_manifest, write_scripted_encoder
from workers.models.files import CALIBRATION
from workers.models.install import add_model
from workers.models.manifest import model_digest
from workers.models.sources import HubSource

MODEL = "finbert"
REPOSITORY, REVISION = "analysts/finbert", "b" * 40
PLACES = {0: "positive", 1: "negative", 2: "neutral"}
VERBS = {"falls": "negative", "sinks": "negative", "holds": "neutral", "meets": "neutral"}
VERBS |= {"rises": "positive", "jumps": "positive"}
MOODS = {"negative": "bad", "neutral": "so-so", "positive": "good"}
SHARE_OF_NOISE = 0.3
TOO_SURE = 8.0
COLUMNS = ("--text", "headline", "--label", "mood", "--map", "negative=bad,neutral=so-so,positive=good")
CPU = ("--device", "cpu")

Rows = list[tuple[str, str]]


def headlines(seed: int, number: int = 600) -> Rows:
    """Headlines whose verb says the mood, but where the annotators were of another opinion."""
    draw = random.Random(seed)
    rows = []
    for _ in range(number):
        verb = draw.choice(list(VERBS))
        digits = [str(draw.randrange(100)) for _ in range(9)]
        label = draw.choice(list(MOODS)) if draw.random() < SHARE_OF_NOISE else VERBS[verb]
        rows.append((" ".join([draw.choice(WORDS[:3]), verb, *digits]), label))
    return rows


def write_labelled(path: Path, rows: Rows) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["headline", "mood"])
        writer.writerows((text, MOODS[label]) for text, label in rows)
    return path


def write_overconfident(folder: Path) -> Path:
    """A published classifier: it learned the verbs, and its logits are much larger than they may be."""
    write_tiny_bert(folder, labels=PLACES)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = BertForSequenceClassification.from_pretrained(folder)
    place_of = {label: place for place, label in PLACES.items()}
    rows = headlines(1, 1000)
    inputs = tokenizer([text for text, _ in rows], return_tensors="pt", padding=True)
    labels = torch.tensor([place_of[label] for _, label in rows])
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.train()
    for _ in range(60):
        optimiser.zero_grad()
        model(**inputs, labels=labels).loss.backward()
        optimiser.step()
    with torch.no_grad():
        model.classifier.weight.mul_(TOO_SURE)
        model.classifier.bias.mul_(TOO_SURE)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    published = write_overconfident(tmp_path_factory.mktemp("hub"))
    with serve_hub(published, REPOSITORY, REVISION) as (endpoint, _):
        add_model(MODEL, folder, HubSource(REPOSITORY, REVISION, endpoint=endpoint))
    write_scripted_encoder(folder / "vectors", "embed")
    write_manifest(folder / "vectors", "vectors", "embed")
    return folder


@pytest.fixture
def model(models: Path) -> Iterator[Path]:
    """The model's folder; without a calibration, before and after."""
    yield models / MODEL
    (models / MODEL / CALIBRATION).unlink(missing_ok=True)


def finished(run: PressroomRun) -> dict[str, Any]:
    code, printed = run.finish()
    assert (code, bool(printed)) == (0, True), run.stderr
    return printed


def test_probabilities_of_a_model_that_is_too_sure_mean_what_they_say(tmp_path: Path, model: Path) -> None:
    file = write_labelled(tmp_path / "labelled.csv", headlines(2))
    unseen = write_labelled(tmp_path / "unseen.csv", headlines(3))
    home, models = tmp_path / "home", {"models_dir": str(model.parent)}
    evaluate = ("evaluate", "sentiment", unseen, *COLUMNS, "--model", MODEL, *CPU, "--json")
    digest = model_digest(model.parent, MODEL)

    with pressroom(home, *evaluate, **models) as run:
        before = finished(run)["evaluation"]
    with pressroom(home, "models", "calibrate", MODEL, file, *COLUMNS, *CPU, "--json", **models) as run:
        calibrated = finished(run)
    with pressroom(home, *evaluate, **models) as run:
        printed = finished(run)
    with pressroom(home, "show", f"{printed['batch_id']}/block-0", "--json", **models) as run:
        statement = finished(run)

    after, content = printed["evaluation"], calibrated["calibration"]
    assert content["uncalibrated"]["calibration_error"] > 0.15
    assert content["calibrated"]["calibration_error"] < 0.06
    assert content["calibrated"]["log_loss"] < content["uncalibrated"]["log_loss"] / 2
    assert (content["num_changed"], content["num_fitted"] + content["num_held_out"]) == (0, 600)
    assert content["temperature"] == pytest.approx(TOO_SURE, rel=0.5)
    assert calibrated["replaced"] is None

    assert after["confusion"] == before["confusion"]
    assert after["calibration_error"] < before["calibration_error"] / 2
    assert after["log_loss"] < before["log_loss"] / 2

    assert model_digest(model.parent, MODEL) != digest
    said = json.dumps(statement)
    assert calibrated["calibration_sha256"] in said
    assert content["file"]["sha256"] in said

    with pressroom(home, "models", "calibrate", MODEL, file, *COLUMNS, *CPU, "--json", **models) as run:
        again = finished(run)
    assert (
        again["calibration"] == content
    )  # fitted on what the model says by itself, not on what it said last
    assert again["replaced"] == "labelled.csv"


def test_an_interrupted_calibration_leaves_the_model_and_goes_on(tmp_path: Path, model: Path) -> None:
    file = write_labelled(tmp_path / "labelled.csv", headlines(2, 2000))
    home, models = tmp_path / "home", {"models_dir": str(model.parent)}
    command = ("models", "calibrate", MODEL, file, *COLUMNS, *CPU)
    with pressroom(home, *command, **models) as run:
        run.wait_until(lambda: "Batch " in run.stderr, "the batch is there")
        run.interrupt()
        code, output = run.finish_text()
        batch_id = run.stderr.partition("Batch ")[2].split(";")[0]
    assert (code, output) == (1, "")
    assert "the model is unchanged" in run.stderr
    assert f"--device cpu --batch {batch_id}" in run.stderr
    assert not (model / CALIBRATION).exists()
    evaluate = ("evaluate", "sentiment", *command[3:], "--model", MODEL, "--batch", batch_id)
    with pressroom(home, *evaluate, **models) as run:
        code, _ = run.finish_text()
        assert (code, "[batch_of_another_question]" in run.stderr) == (1, True), run.stderr
    with pressroom(home, *command, "--batch", batch_id, "--json", **models) as run:
        assert finished(run)["calibration"]["num_changed"] == 0
    assert (model / CALIBRATION).is_file()


def labelled_like(path: Path, case: str) -> Path:
    rows = headlines(2, 50 if case == "few" else 600)
    if case == "class":
        rows = [row for row in rows if row[1] != "neutral"]
    if case == "labels":
        rows = [(text, "other") for text, _ in rows]
        path.write_text("headline,mood\n" + "".join(f"{text},{label}\n" for text, label in rows))
        return path
    return write_labelled(path, rows)


@pytest.mark.parametrize(
    ("case", "name", "options", "code", "words"),
    [
        ("few", MODEL, COLUMNS, 1, "[calibration_data_too_small]"),
        ("class", MODEL, COLUMNS, 1, "0 neutral"),
        ("labels", MODEL, COLUMNS, 1, "[labelled_file_unusable]"),
        ("good", MODEL, (*COLUMNS[:2], "--label", "nothing"), 1, "no column is named 'nothing'"),
        ("good", "absent", COLUMNS, 1, "is not installed"),
        ("good", "vectors", COLUMNS, 1, "[model_task_mismatch]"),
        ("good", "../x", COLUMNS, 2, "NAME"),
        ("good", MODEL, COLUMNS[2:], 2, "--text"),
        ("good", MODEL, (*COLUMNS, "--remove"), 2, "--remove cannot be combined with FILE"),
    ],
    ids=["few", "class", "labels", "column", "model", "task", "name", "text", "remove"],
)
def test_what_cannot_be_calibrated_is_said_before_anything_is_started(
    tmp_path: Path, model: Path, case: str, name: str, options: tuple[str, ...], code: int, words: str
) -> None:
    file = labelled_like(tmp_path / "labelled.csv", case)
    models = {"models_dir": str(model.parent)}
    with pressroom(tmp_path / "home", "models", "calibrate", name, file, *options, **models) as run:
        found, output = run.finish_text()
        assert (found, output, words in run.stderr) == (code, "", True), run.stderr
        assert "Starting" not in run.stderr
    assert not (model / CALIBRATION).exists()
