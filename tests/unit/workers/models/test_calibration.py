"""calibration.json of an installed model: written as a whole, part of what the model is, taken away again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import ConfigurationError
from kinds.classifier.training.calibration import probabilities
from tests.calibrations import model_calibration
from tests.tiny_encoder import write_manifest, write_scripted_encoder
from workers.models.calibration import (
    Calibration,
    CalibrationOfOtherWeightsError,
    ModelCalibration,
    read_calibration,
    remove_calibration,
    write_calibration,
)
from workers.models.classifier import CLASSIFIER
from workers.models.files import CALIBRATION, WEIGHTS, MalformedFileError
from workers.models.manifest import (
    ModelNotInstalledError,
    list_models,
    model_digest,
    read_manifest,
    verify_model,
)
from workers.models.preparation import choose_files

LABELS = ("negative", "neutral", "positive")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_scripted_encoder(tmp_path / "models" / "moods")
    write_manifest(folder, "moods", "classify")
    return folder


def content(folder: Path, **changes: object) -> ModelCalibration:
    return model_calibration(read_manifest(folder), **changes)


def test_what_is_written_is_read_and_a_later_one_replaces_it(folder: Path) -> None:
    assert read_calibration(folder, read_manifest(folder)) is None
    first = write_calibration(folder, content(folder))
    assert read_calibration(folder, read_manifest(folder)) == first
    second = write_calibration(folder, content(folder, temperature=3.0))
    assert read_calibration(folder, read_manifest(folder)) == second != first
    assert sorted(path.name for path in folder.parent.iterdir()) == ["moods"]


def test_the_same_fit_is_the_same_file(folder: Path) -> None:
    assert write_calibration(folder, content(folder)) == write_calibration(folder, content(folder))


def test_the_models_identity_changes_with_it_and_comes_back_without(folder: Path) -> None:
    models = folder.parent
    digests = [model_digest(models, "moods")]
    for temperature in (2.0, 3.0):
        write_calibration(folder, content(folder, temperature=temperature))
        digests.append(model_digest(models, "moods"))
    assert len(set(digests)) == 3
    assert remove_calibration(folder)
    assert model_digest(models, "moods") == digests[0]
    assert not remove_calibration(folder)


def test_a_calibrated_model_is_still_as_it_was_installed(folder: Path) -> None:
    before = verify_model(folder)
    write_calibration(folder, content(folder))
    assert verify_model(folder) == before
    assert list_models(folder.parent) == (before,)


def test_a_sources_own_file_of_that_name_is_left_behind() -> None:
    assert CALIBRATION not in choose_files({WEIGHTS, CALIBRATION}, "the source")


def test_one_for_other_weights_is_neither_applied_nor_written(folder: Path) -> None:
    write_calibration(folder, content(folder))
    with pytest.raises(CalibrationOfOtherWeightsError, match="restart the workers of moods"):
        read_calibration(folder, read_manifest(folder).model_copy(update={"weights_sha256": "0" * 64}))
    other = model_calibration(temperature=9.0)
    with pytest.raises(CalibrationOfOtherWeightsError, match="Nothing was changed"):
        write_calibration(folder, other)
    kept = read_calibration(folder, read_manifest(folder))
    assert kept is not None
    assert kept.content.temperature == 2.0


def test_nor_one_for_the_same_weights_whose_outputs_are_taken_otherwise(folder: Path) -> None:
    written = write_calibration(folder, content(folder))
    settings = json.loads((folder / CLASSIFIER).read_text())
    settings["labels"] = {"positive": 1, "negative": 0, "neutral": 2}
    (folder / CLASSIFIER).write_text(json.dumps(settings))
    (folder / CALIBRATION).unlink()
    manifest = write_manifest(folder, "moods", "classify")
    assert manifest.weights_sha256 == written.content.weights_sha256
    with pytest.raises(CalibrationOfOtherWeightsError, match="Nothing was changed"):
        write_calibration(folder, written.content)
    assert not (folder / CALIBRATION).exists()
    (folder / CALIBRATION).write_text(written.content.model_dump_json())
    with pytest.raises(CalibrationOfOtherWeightsError, match=r"with classifier\.json"):
        read_calibration(folder, manifest)


def test_a_model_that_is_gone_gets_none(tmp_path: Path) -> None:
    with pytest.raises(ModelNotInstalledError):
        write_calibration(tmp_path / "gone", model_calibration())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("body", ["", "{}", '{"temperature": 0}', "[1]"])
def test_a_damaged_file_says_how_to_get_rid_of_it(folder: Path, body: str) -> None:
    (folder / CALIBRATION).write_text(body)
    with pytest.raises(MalformedFileError, match="models calibrate moods --remove"):
        read_calibration(folder, read_manifest(folder))
    assert remove_calibration(folder)


def test_a_write_that_fails_leaves_the_earlier_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_calibration(folder, content(folder))
    other = content(folder, temperature=5.0)

    def full(_: Path, __: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ConfigurationError, match=r"No space left on device.*: free some space"):
        write_calibration(folder, other)
    assert read_calibration(folder, read_manifest(folder)) == first
    assert sorted(path.name for path in folder.parent.iterdir()) == ["moods"]


@given(
    st.lists(st.lists(st.floats(-60, 60), min_size=3, max_size=3), max_size=5),
    st.floats(0.1, 20),
)
def test_answers_are_those_of_the_logits_over_the_temperature(
    logits: list[list[float]], temperature: float
) -> None:
    rows = np.array(logits).reshape(-1, 3)
    said = probabilities(rows, 1.0).astype(np.float32).astype(float)
    calibration = Calibration(model_calibration(temperature=temperature), "1" * 64)
    found = np.array(calibration.apply(said.tolist(), LABELS)).reshape(-1, 3)
    kept = said.min(axis=1, initial=1.0) > 1e-37  # else the smallest is cut off
    assert np.allclose(found[kept], probabilities(rows, temperature)[kept], atol=1e-5)
    assert np.allclose(found.sum(axis=1), 1)


def test_offsets_are_added_before_the_temperature_in_the_order_of_the_answers() -> None:
    offsets = {"positive": 1.0, "negative": -1.0, "neutral": 0.5}
    calibration = Calibration(model_calibration(temperature=2.0, offsets=offsets), "1" * 64)
    logits = np.array([[0.3, -0.2, 0.1]])
    expected = probabilities(logits + np.array([[-1.0, 0.5, 1.0]]), 2.0)
    assert np.allclose(calibration.apply(probabilities(logits, 1.0).tolist(), LABELS), expected)


def test_answers_in_another_order_get_the_same_offsets() -> None:
    offsets = {"positive": 1.0, "negative": -1.0, "neutral": 0.5}
    calibration = Calibration(model_calibration(temperature=2.0, offsets=offsets), "1" * 64)
    (ours,) = calibration.apply([(0.2, 0.3, 0.5)], LABELS)
    (theirs,) = calibration.apply([(0.5, 0.2, 0.3)], ("positive", "negative", "neutral"))
    assert (ours[2], ours[0], ours[1]) == pytest.approx(theirs)


def test_calibration_of_other_labels_is_refused_by_name() -> None:
    calibration = Calibration(model_calibration(temperature=2.0), "1" * 64)
    with pytest.raises(MalformedFileError, match=r"answers with spam, ham: calibrate it again"):
        calibration.apply([(0.5, 0.5)], ("spam", "ham"))
