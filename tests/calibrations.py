"""A calibration for tests that are about what is done with one."""

from __future__ import annotations

from workers.models.calibration import CalibrationFile, HeldOutFigures, ModelCalibration
from workers.models.manifest import Manifest


def model_calibration(manifest: Manifest | None = None, **changes: object) -> ModelCalibration:
    """Of temperature 2 without offsets, unless the changes say otherwise; without a manifest, of no model."""
    content = ModelCalibration(
        weights_sha256="0" * 64 if manifest is None else manifest.weights_sha256,
        classifier_sha256=(manifest and manifest.classifier_sha256) or "0" * 64,
        temperature=2.0,
        offsets={"negative": 0.0, "neutral": 0.0, "positive": 0.0},
        file=CalibrationFile(name="labelled.csv", sha256="5" * 64, num_refused=0),
        num_fitted=150,
        num_held_out=149,
        num_groups=200,
        num_changed=0,
        uncalibrated=HeldOutFigures(calibration_error=0.2, log_loss=1.1, accuracy=0.7, macro_f1=0.65),
        calibrated=HeldOutFigures(calibration_error=0.04, log_loss=0.8, accuracy=0.7, macro_f1=0.65),
    )
    return content.model_copy(update=changes)
