"""`pressroom models`: what goes where, and which exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pressroom.cli import app
from tests.calibrations import model_calibration
from tests.tiny_encoder import write_manifest, write_scripted_encoder
from tests.tiny_model import write_tiny_model
from workers.models.calibration import write_calibration
from workers.models.files import CALIBRATION, MANIFEST

pytestmark = pytest.mark.usefixtures("untried")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PRESSROOM_MODELS_DIR", str(tmp_path / "models"))
    return f"folder:{write_tiny_model(tmp_path / 'source')}"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments])


def test_result_goes_to_stdout_and_progress_to_stderr(source: str) -> None:
    done = run("add", "tiny", "--from", source)

    assert done.exit_code == 0
    assert done.stdout.startswith("tiny installed: ")
    assert "copying model.safetensors" in done.stderr


def test_second_add_says_that_it_is_there(source: str) -> None:
    run("add", "tiny", "--from", source)

    done = run("add", "tiny", "--json")

    assert done.exit_code == 0
    assert json.loads(done.stdout)["was_installed"] is True
    assert done.stderr == ""


def test_list_prints_each_model_as_text_and_as_json(source: str) -> None:
    run("add", "tiny", "--from", source, "--licence", "MIT")

    assert "tiny  LlamaForCausalLM" in run("list").stdout
    assert [model["licence"] for model in json.loads(run("list", "--json").stdout)["models"]] == ["MIT"]


def test_list_says_whether_and_by_what_a_classifier_is_calibrated(source: str, tmp_path: Path) -> None:
    run("add", "tiny", "--from", source)
    folder = write_scripted_encoder(tmp_path / "models" / "moods")
    manifest = write_manifest(folder, "moods", "classify")

    def listed() -> tuple[list[str], dict[str, Any]]:
        models = json.loads(run("list", "--json").stdout)["models"]
        return run("list").stdout.splitlines(), models[0]

    lines, model = listed()
    assert lines[0].endswith("calibrated by its training")
    assert "calibrated" not in lines[1]
    assert (model["calibration"], model["training_temperature"]) == (None, 1.7)
    write_calibration(folder, model_calibration(manifest))
    lines, model = listed()
    assert lines[0].endswith("calibrated by labelled.csv (temperature 2.0)")
    assert model["calibration"]["calibrated"]["calibration_error"] == 0.04
    offsets = {"negative": 0.5, "neutral": 0.0, "positive": 0.0}
    write_calibration(folder, model_calibration(manifest, offsets=offsets))
    assert listed()[0][0].endswith("(temperature 2.0, offsets)")
    assert run("verify", "moods").exit_code == 0


def test_a_calibration_is_removed_once(source: str, tmp_path: Path) -> None:
    folder = write_scripted_encoder(tmp_path / "models" / "moods")
    write_calibration(folder, model_calibration(write_manifest(folder, "moods", "classify")))

    assert run("calibrate", "moods", "--remove").stdout == "moods: the calibration was removed\n"
    assert json.loads(run("calibrate", "moods", "--remove", "--json").stdout)["removed"] is False
    assert not (folder / CALIBRATION).exists()
    assert run("calibrate", "gone", "--remove").exit_code == 1


def test_a_damaged_calibration_is_found_by_verify_with_the_way_out(source: str, tmp_path: Path) -> None:
    folder = write_scripted_encoder(tmp_path / "models" / "moods")
    write_manifest(folder, "moods", "classify")
    (folder / CALIBRATION).write_text("{")

    done = run("verify", "moods")

    assert (done.exit_code, done.stdout) == (1, "")
    assert "pressroom models calibrate moods --remove" in done.stderr
    assert run("calibrate", "moods", "--remove").exit_code == 0


@pytest.mark.parametrize("body", ["{", "{}", "of another model"])
def test_a_calibration_that_cannot_be_used_hides_no_model_from_the_list(
    source: str, tmp_path: Path, body: str
) -> None:
    run("add", "tiny", "--from", source)
    folder = write_scripted_encoder(tmp_path / "models" / "moods")
    write_manifest(folder, "moods", "classify")
    other = model_calibration().model_dump_json()
    (folder / CALIBRATION).write_text(other if body == "of another model" else body)

    done = run("list")

    assert done.exit_code == 0
    moods, tiny = done.stdout.splitlines()
    assert moods.endswith("  calibration unusable")
    assert tiny.startswith("tiny  ")
    assert "pressroom models calibrate moods --remove" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    listed = json.loads(run("list", "--json").stdout)["models"]
    assert [model["name"] for model in listed] == ["moods", "tiny"]
    assert "--remove" in listed[0]["calibration_error"]


def test_empty_list_tells_the_command_on_stderr(source: str) -> None:
    done = run("list")

    assert (done.exit_code, done.stdout) == (0, "")
    assert "pressroom models add" in done.stderr


@pytest.mark.attack("altered weights")
@pytest.mark.parametrize("names", [[], ["tiny"]])
def test_verify_finds_a_changed_byte(source: str, tmp_path: Path, names: list[str]) -> None:
    run("add", "tiny", "--from", source)
    assert run("verify", *names).exit_code == 0
    weights = tmp_path / "models" / "tiny" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")

    done = run("verify", *names)

    assert (done.exit_code, done.stdout) == (1, "")
    assert "weights_digest_mismatch" in done.stderr


def test_verify_of_a_model_that_is_not_there_fails_with_the_command(source: str) -> None:
    done = run("verify", "tiny")

    assert done.exit_code == 1
    assert "model_not_installed" in done.stderr


def test_outdated_model_is_listed_with_the_command_that_mends_it(source: str, tmp_path: Path) -> None:
    run("add", "tiny", "--from", source)
    path = tmp_path / "models" / "tiny" / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "trial": None}))

    assert "outdated: run `pressroom models add tiny`" in run("list").stdout
    assert "model_outdated" in run("verify").stderr
    assert run("add", "tiny").exit_code == 0
    assert "outdated:" not in run("list").stdout
    assert run("verify").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["add", "../x"],
        ["add", "unheard-of"],
        ["add", "tiny", "--from", "ftp:x"],
        ["add", "tiny", "--revision", "main"],
        ["verify", "A B"],
        ["remove"],
    ],
)
def test_wrong_usage_exits_with_two(source: str, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.attack("model of a moving revision")
def test_moving_hub_revision_is_refused_before_any_download(source: str) -> None:
    done = run("add", "tiny", "--from", "hub:organisation/name", "--revision", "main")

    assert done.exit_code == 1
    assert "model_revision_not_pinned" in done.stderr
