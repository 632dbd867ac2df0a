"""Which batch a model can be calibrated by: one that asked it, as it is installed now."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import create_engine

import kinds.classifier.calibrate
from jobs.batch import BatchStatus, BatchStatusReport, JobCounts
from jobs.inference import Usage
from kinds.classifier.calibrate import CalibrationTexts, Model
from kinds.classifier.evaluate import OtherQuestionError
from kinds.classifier.training.calibration import Halves
from pressroom.summary import Summary
from storage import open_store
from tests.tiny_encoder import write_manifest, write_scripted_encoder
from workers.models.calibration import CalibrationFile
from workers.models.classifier import CLASSIFIER
from workers.models.files import CALIBRATION

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = write_scripted_encoder(tmp_path / "moods")
    write_manifest(folder, "moods", "classify")
    return tmp_path


def batch_of(model: str) -> Summary:
    report = BatchStatusReport(
        batch_id=UUID(int=7),
        name="labelled.csv",
        kind="sentiment_labels",
        model=model,
        profile="evaluate",
        status=BatchStatus.FINISHED,
        counts=JobCounts(succeeded=1),
        usage=Usage(0, 0, 0),
        created_at=AT,
        first_claim_at=AT,
        last_commit_at=AT,
        top_errors=(),
        waiting_reason=None,
    )
    return Summary(report=report, elapsed_seconds=1, startup_seconds=1)


def refusal(models: Path, model: str, installed_sha256: str, monkeypatch: pytest.MonkeyPatch) -> str:
    kept = {"calibrated": False, "installed_sha256": installed_sha256}
    monkeypatch.setattr(kinds.classifier.calibrate, "batch_settings", lambda *_: kept)
    labelled = CalibrationTexts(
        Path("labelled.csv"),
        CalibrationFile(name="labelled.csv", sha256="5" * 64, num_refused=0),
        (),
        Halves((), (), 0),
    )
    asked = Model.open(models, "moods")
    with pytest.raises(OtherQuestionError) as caught:
        asked.calibrate(
            create_engine("sqlite://"), open_store("memory:"), batch_of(model), labelled, with_offsets=False
        )
    assert not (models / "moods" / CALIBRATION).exists()
    return str(caught.value)


def test_what_another_model_said_is_no_calibration_of_this_one(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = Model.open(models, "moods").installed_sha256
    assert "uses the model finbert, not moods" in refusal(models, "finbert", installed, monkeypatch)


def test_nor_is_what_it_said_before_it_was_installed_anew(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Model.open(models, "moods").installed_sha256
    settings = models / "moods" / CLASSIFIER
    settings.write_text(settings.read_text().replace("1.7", "1.2"))
    write_manifest(models / "moods", "moods", "classify")
    assert "moods was reinstalled after batch" in refusal(models, "moods", before, monkeypatch)
