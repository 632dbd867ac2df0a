"""What `pressroom train classifier` is asked for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.errors import InputError
from jobs.intake.files import digest_of
from kinds.classifier.labelled_texts import LABELS, parse_label_map
from kinds.classifier.train import TrainingDataMissingError, prepare, read_plan
from kinds.classifier.training_spec import TrainingSpec
from pressroom.cli import app
from pressroom.console import EXIT_USAGE
from tests.tiny_model import write_tiny_model
from workers.models.adapters import BUNDLED
from workers.models.install import add_model
from workers.models.sources import FolderSource

pytestmark = pytest.mark.usefixtures("untried")

PLAN = """
model = "mine"
base = "tiny"
seed = 3
[[files]]
name = "sets/a.csv"
sha256 = "{digest}"
text = "text"
label = "label"
[recipe]
epochs = 2
"""
ROWS = "text,label\nprofit rises,positive\nprofit falls,negative\nprofit holds,neutral\n"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    add_model("tiny", tmp_path / "models", FolderSource(write_tiny_model(tmp_path / "source")))
    return tmp_path / "models"


def write_plan(folder: Path, *, digest: str | None = None, plan: str = PLAN) -> Path:
    path = folder / "plan.toml"
    path.write_text(plan.replace("{digest}", digest or hashlib.sha256(ROWS.encode()).hexdigest()))
    return path


def test_a_plan_finds_its_files_with_or_without_their_folder(tmp_path: Path, models: Path) -> None:
    plan = read_plan(write_plan(tmp_path))
    (tmp_path / "a.csv").write_text(ROWS)
    prepared = prepare(plan, tmp_path, models)
    assert len(prepared.data[0].examples) == 3
    assert prepared.spec.recipe.epochs == 2
    (tmp_path / "a.csv").rename(tmp_path / "sets.csv")
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets.csv").rename(tmp_path / "sets" / "a.csv")
    assert prepare(plan, tmp_path, models).spec == prepared.spec


def test_the_same_order_has_the_same_key_and_another_has_another(tmp_path: Path, models: Path) -> None:
    (tmp_path / "a.csv").write_text(ROWS)
    plan = read_plan(write_plan(tmp_path))
    keys = [prepare(each, tmp_path, models).idempotency_key for each in (plan, plan)]
    assert keys[0] == keys[1]
    assert prepare(plan.model_copy(update={"seed": 4}), tmp_path, models).idempotency_key != keys[0]


def test_a_file_that_is_not_there_is_named_with_what_to_do(tmp_path: Path, models: Path) -> None:
    with pytest.raises(TrainingDataMissingError, match=r"sets/a\.csv is not in .* --data"):
        prepare(read_plan(write_plan(tmp_path)), tmp_path, models)


def test_too_few_texts_are_refused_before_anything_is_started(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("copper", "maize", "rupee", "airline", "telecom", "hotel", "sugar")
    rows = [f"{words[n % 7]} {n * 7919} {words[n * n % 5]} {n * 104729},{LABELS[n % 3]}" for n in range(150)]
    (tmp_path / "small.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    monkeypatch.setenv("PRESSROOM_MODELS_DIR", str(models))
    monkeypatch.setenv("PRESSROOM_HOME", str(tmp_path / "home"))
    arguments = ["train", "classifier", str(tmp_path / "small.csv"), "--out", "mine", "--base", "tiny"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == EXIT_USAGE
    assert "error [training_data_too_small]" in done.stderr
    assert "give at least 300 labelled texts" in done.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("wrong", "part"),
    [("epochs = 0", "recipe.epochs"), ("epoch = 2", "recipe.epoch"), ("epochs = ", "not valid TOML")],
)
def test_a_faulty_plan_names_the_field(tmp_path: Path, wrong: str, part: str) -> None:
    path = write_plan(tmp_path, plan=PLAN.replace("epochs = 2", wrong))
    with pytest.raises(InputError, match=part):
        read_plan(path)


@pytest.mark.parametrize("text", ["negative", "bad=0", "negative=0,positive=0", "negative="])
def test_a_faulty_map_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="CLASS=LABEL"):
        parse_label_map(text)


def test_the_bundled_model_names_the_plan_that_made_it() -> None:
    folder = BUNDLED / "finance-sentiment"
    plan = read_plan(folder / "training.toml")
    spec = TrainingSpec.model_validate(json.loads((folder / "recipe.json").read_text())["training"])
    assert (spec.model, spec.base, spec.seed) == (plan.model, plan.base, plan.seed)
    assert (spec.files, spec.recipe) == (plan.files, plan.recipe)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5_000_000


def test_a_digest_is_that_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ROWS)
    assert digest_of(tmp_path / "a.csv") == hashlib.sha256(ROWS.encode()).hexdigest()
