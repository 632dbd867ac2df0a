"""An evaluation's batch goes to the workers that the command starts, whatever profiles there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.inference import OtherLabelsError
from kinds.classifier.evaluate import PROFILE, with_profile
from tests.tiny_encoder import write_manifest, write_scripted_encoder
from workers.models.classifier import CLASSIFIER
from workers.settings import Settings


@pytest.mark.parametrize("name", ["own", PROFILE])
def test_the_batch_goes_to_the_profile_that_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_manifest(write_scripted_encoder(tmp_path / "moods"), "moods", "classify")
    monkeypatch.setenv("PRESSROOM_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("PRESSROOM_PROFILES", f'{{"{name}": {{"models": ["moods"]}}}}')
    settings = with_profile(Settings(), "moods")
    assert settings.profile_of(["moods"]) == PROFILE
    assert settings.profile(PROFILE).models == ("moods",)


def test_classifier_of_something_else_is_refused_before_workers_start(tmp_path: Path) -> None:
    folder = write_scripted_encoder(tmp_path / "spam")
    (folder / CLASSIFIER).write_text('{"labels": {"ham": 0, "spam": 1}}')
    write_manifest(folder, "spam", "classify")
    with pytest.raises(
        OtherLabelsError, match="labels ham, spam, but the required labels are negative, neutral, positive"
    ):
        with_profile(Settings(models_dir=tmp_path), "spam")
