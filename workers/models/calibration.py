"""How an installed classifier's probabilities are mended, and what that was fitted on: `calibration.json`.

The one file of a model's folder that is not of the installation. It is written in one step, read by a worker
at the beginning of each job, so that a warm one needs no new start, and part of what identifies answers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.errors import ConfigurationError, PermanentError
from jobs.provenance import CalibrationFacts, sha256_hex
from workers.models.files import CALIBRATION, CALIBRATION_PARTIAL_SUFFIX, MalformedFileError
from workers.models.manifest import Manifest, Sha256, read_manifest
from workers.models.reading import NotAFileError, read_digested

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SMALLEST = 2.0**-126
"""Of a probability: the smallest normal number of fp32. Below it digits are lost; 0 has no logarithm."""


class CalibrationOfOtherWeightsError(PermanentError):
    """A model was installed anew under its name, and calibrated, while something still has the old one.

    The weights can be the same, and what their outputs are taken for another.
    """

    code = "calibration_of_other_weights"


class CalibrationFile(BaseModel):
    """The labelled file that a calibration was fitted on."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    name: str
    sha256: Sha256
    num_refused: int = Field(ge=0)
    """Lines that could not be used."""


class HeldOutFigures(BaseModel):
    """How good probabilities are on texts that nothing was fitted on."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    calibration_error: float
    """15 bins, as in Guo et al. 2017, equation 3."""
    log_loss: float
    accuracy: float
    macro_f1: float


class ModelCalibration(BaseModel):
    """A calibration, what it was fitted on and what it is good for.

    It holds no time: the same fit is the same file, and its answers are known already.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    weights_sha256: Sha256
    """Of the model that it is for."""
    classifier_sha256: Sha256
    """Of its classifier.json: which output is which class, and the temperature that this one is on top of."""
    temperature: float = Field(gt=0, le=100)
    """On top of the one in classifier.json."""
    offsets: dict[str, float]
    """Of each label: added to the logarithm of its probability before it is divided by the temperature."""
    file: CalibrationFile
    num_fitted: int = Field(ge=1)
    num_held_out: int = Field(ge=1)
    num_groups: int = Field(ge=1)
    """Of near-duplicates, each wholly among the fitted or the held-out texts."""
    num_changed: int = Field(ge=0)
    """Held-out texts whose most probable class is another one with it; 0 without offsets."""
    uncalibrated: HeldOutFigures
    calibrated: HeldOutFigures


@dataclass(frozen=True, slots=True)
class Calibration:
    """What stands in a model's folder."""

    content: ModelCalibration
    sha256: str
    """Of the file: part of what identifies the answers."""

    def apply(self, answers: Sequence[Sequence[float]], labels: Sequence[str]) -> list[tuple[float, ...]]:
        """Probabilities of each text, in the order of the labels, mended. Raises MalformedFileError."""
        if set(labels) != self.content.offsets.keys():
            raise MalformedFileError(
                f"the calibration has offsets for {', '.join(self.content.offsets)}, the model answers with "
                f"{', '.join(labels)}: calibrate it again"
            )
        if not answers:
            return []
        import numpy as np
        from scipy.special import softmax

        offsets = np.array([self.content.offsets[label] for label in labels])
        scaled = (logits_of(np.array(answers)) + offsets) / self.content.temperature
        return [tuple(row) for row in softmax(scaled, axis=1).tolist()]

    def facts(self) -> CalibrationFacts:
        """What provenance says of it."""
        content = self.content
        before, after = content.uncalibrated, content.calibrated
        return CalibrationFacts(
            sha256=self.sha256,
            file_name=content.file.name,
            file_sha256=content.file.sha256,
            num_fitted=content.num_fitted,
            num_held_out=content.num_held_out,
            temperature=str(content.temperature),
            offsets=tuple(map(str, content.offsets.values())),
            calibration_error=(str(before.calibration_error), str(after.calibration_error)),
            log_loss=(str(before.log_loss), str(after.log_loss)),
        )


def logits_of(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the softmax was taken of, but for a constant in each row; shape (texts, classes)."""
    import numpy as np

    logits: NDArray[np.float64] = np.log(np.maximum(probabilities, SMALLEST))
    return logits


def read_calibration(folder: Path, manifest: Manifest) -> Calibration | None:
    """The calibration of a model folder, if it has one. Takes a tenth of a millisecond.

    Raises MalformedFileError, or CalibrationOfOtherWeightsError if it is not for the model of this manifest.
    """
    path = folder / CALIBRATION
    try:
        body, sha256 = read_digested(path)
        content = ModelCalibration.model_validate_json(body)
    except FileNotFoundError:
        return None
    except (NotAFileError, OSError, ValidationError) as error:
        raise MalformedFileError(
            f"{path}: {_first(error)}; run `pressroom models calibrate {folder.name} --remove`, and "
            "calibrate again"
        ) from error
    if not _is_for(content, manifest):
        raise CalibrationOfOtherWeightsError(
            f"{path} is for {_named(content.weights_sha256, content.classifier_sha256)}, loaded are "
            f"{_named(manifest.weights_sha256, manifest.classifier_sha256)}: restart the workers of "
            f"{folder.name} if it was installed anew, else run `pressroom models calibrate {folder.name} "
            "--remove`, and calibrate again"
        )
    return Calibration(content, sha256)


def write_calibration(folder: Path, content: ModelCalibration) -> Calibration:
    """Keep it with the model, in place of an earlier one; a reader sees that or this one, never a part.

    Raises CalibrationOfOtherWeightsError if the model was installed anew meanwhile, ModelNotInstalledError if
    it is gone, ConfigurationError (`models_unwritable`).
    """
    found = read_manifest(folder)
    if not _is_for(content, found):
        raise CalibrationOfOtherWeightsError(
            f"{folder.name} was installed anew while it was asked: "
            f"{_named(found.weights_sha256, found.classifier_sha256)}, asked were "
            f"{_named(content.weights_sha256, content.classifier_sha256)}; nothing was changed, calibrate it "
            "again"
        )
    body = (content.model_dump_json(indent=2) + "\n").encode()
    # beside the folder: a worker that verifies the folder meanwhile must not find a file too many
    partial = folder.with_name(f".{folder.name}.{os.getpid()}{CALIBRATION_PARTIAL_SUFFIX}")
    try:
        partial.write_bytes(body)
        partial.replace(folder / CALIBRATION)
    except OSError as error:
        raise _unwritable(folder) from error
    finally:
        partial.unlink(missing_ok=True)
    return Calibration(content, sha256_hex(body))


def remove_calibration(folder: Path) -> bool:
    """Let the model say again what it says by itself; whether there was one, readable or not."""
    try:
        (folder / CALIBRATION).unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unwritable(folder) from error
    return True


def check_writable(folder: Path) -> None:
    """Raise ConfigurationError (`models_unwritable`), before minutes of work go into a calibration."""
    if not (os.access(folder, os.W_OK) and os.access(folder.parent, os.W_OK)):
        raise _unwritable(folder)


def _first(error: Exception) -> str:
    """What is wrong, in one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))


def _is_for(content: ModelCalibration, manifest: Manifest) -> bool:
    return (content.weights_sha256, content.classifier_sha256) == (
        manifest.weights_sha256,
        manifest.classifier_sha256,
    )


def _named(weights_sha256: str, classifier_sha256: str | None) -> str:
    return f"weights {weights_sha256[:12]} with classifier.json {(classifier_sha256 or 'none')[:12]}"


def _unwritable(folder: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{folder} cannot be written, and the calibration is kept there: run this as the user that installed "
        "the model",
        code="models_unwritable",
    )
