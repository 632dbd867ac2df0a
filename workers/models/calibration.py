"""The calibration of an installed classifier's probabilities, which is stored in `calibration.json`.

This is the only file of a model's folder that is not part of the installation. It is written in one step, and
a worker reads it at the beginning of each job, so that a new calibration takes effect without a restart. Its
digest is part of what identifies a model's answers.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.errors import ConfigurationError, PermanentError
from jobs.provenance import CalibrationFacts, sha256_hex
from jobs.validation import describe_first
from workers.models.files import CALIBRATION, CALIBRATION_PARTIAL_SUFFIX, MalformedFileError
from workers.models.manifest import Manifest, Sha256, read_manifest
from workers.models.reading import NotAFileError, read_digested

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SMALLEST = 2.0**-126
"""Lower bound of a probability: the smallest normal number of fp32. Smaller numbers lose digits, and 0 has no
logarithm."""


class CalibrationOfOtherWeightsError(PermanentError):
    """A stored calibration was fitted to a different model from the one that this process has loaded.

    This happens if a model is reinstalled under the same name and calibrated while a process still has the
    old one. The two can have the same weights but assign different classes to their outputs.
    """

    code = "calibration_of_other_weights"


class CalibrationFile(BaseModel):
    """The labelled file on which a calibration was fitted."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    name: str
    sha256: Sha256
    num_refused: int = Field(ge=0)
    """Number of lines that could not be used."""


class HeldOutFigures(BaseModel):
    """The quality of probabilities on texts that were not used for fitting."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    calibration_error: float
    """Expected calibration error with 15 bins, as in Guo et al. 2017, equation 3."""
    log_loss: float
    accuracy: float
    macro_f1: float


class ModelCalibration(BaseModel):
    """A calibration, the data on which it was fitted, and its quality.

    The file contains no timestamp, so repeating a fit gives the same file, and earlier answers remain valid.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    weights_sha256: Sha256
    """Digest of the weights of the calibrated model."""
    classifier_sha256: Sha256
    """Digest of the model's classifier.json, which assigns outputs to classes, and whose temperature applies
    first."""
    temperature: float = Field(gt=0, le=100)
    """Temperature that is applied in addition to the one in classifier.json."""
    offsets: dict[str, float]
    """For each label, the number added to the logarithm of its probability before the division by the
    temperature."""
    file: CalibrationFile
    num_fitted: int = Field(ge=1)
    num_held_out: int = Field(ge=1)
    num_groups: int = Field(ge=1)
    """Number of groups of near-duplicates, each of which is entirely among the fitted or the held-out texts.
    """
    num_changed: int = Field(ge=0)
    """Number of held-out texts whose most probable class differs after calibration; 0 without offsets."""
    uncalibrated: HeldOutFigures
    calibrated: HeldOutFigures


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibration in a model's folder."""

    content: ModelCalibration
    sha256: str
    """Digest of the file, which is part of what identifies the model's answers."""

    def apply(self, answers: Sequence[Sequence[float]], labels: Sequence[str]) -> list[tuple[float, ...]]:
        """Return the calibrated probabilities of each text, in the order of `labels`.

        Raises MalformedFileError.
        """
        if set(labels) != self.content.offsets.keys():
            raise MalformedFileError(
                f"the calibration has offsets for {', '.join(self.content.offsets)}, but the model answers "
                f"with {', '.join(labels)}: calibrate it again"
            )
        if not answers:
            return []
        import numpy as np
        from scipy.special import softmax

        offsets = np.array([self.content.offsets[label] for label in labels])
        scaled = (logits_of(np.array(answers)) + offsets) / self.content.temperature
        return [tuple(row) for row in softmax(scaled, axis=1).tolist()]

    def facts(self) -> CalibrationFacts:
        """Return what provenance records about the calibration."""
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
    """Return the logits of probabilities, of shape (texts, classes), up to a constant for each text."""
    import numpy as np

    logits: NDArray[np.float64] = np.log(np.maximum(probabilities, SMALLEST))
    return logits


def read_calibration(folder: Path, manifest: Manifest) -> Calibration | None:
    """Return the calibration in a model's folder; None if there is none. Reading it takes 0.1 ms.

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
            f"{path} cannot be used ({_first(error)}): run `pressroom models calibrate {folder.name} "
            "--remove`, and calibrate again"
        ) from error
    if not _is_for(content, manifest):
        raise CalibrationOfOtherWeightsError(
            f"{path} is for {_named(content.weights_sha256, content.classifier_sha256)}, but the loaded "
            f"model has {_named(manifest.weights_sha256, manifest.classifier_sha256)}: restart the workers "
            f"of {folder.name} if it was reinstalled, otherwise run `pressroom models calibrate "
            f"{folder.name} --remove`, and calibrate again"
        )
    return Calibration(content, sha256)


def write_calibration(folder: Path, content: ModelCalibration) -> Calibration:
    """Store a calibration with the model, replacing an earlier one; readers never see a partial file.

    Raises CalibrationOfOtherWeightsError if the model was reinstalled meanwhile, ModelNotInstalledError if it
    is gone, and ConfigurationError (`models_unwritable`).
    """
    manifest = read_manifest(folder)
    if not _is_for(content, manifest):
        raise CalibrationOfOtherWeightsError(
            f"{folder.name} was reinstalled while it was being calibrated: it had "
            f"{_named(content.weights_sha256, content.classifier_sha256)} and now has "
            f"{_named(manifest.weights_sha256, manifest.classifier_sha256)}. Nothing was changed. Calibrate "
            "it again"
        )
    body = (content.model_dump_json(indent=2) + "\n").encode()
    # The partial file is beside the folder: a worker that verifies the folder must not find an extra file.
    partial = folder.with_name(f".{folder.name}.{os.getpid()}{CALIBRATION_PARTIAL_SUFFIX}")
    try:
        partial.write_bytes(body)
        partial.replace(folder / CALIBRATION)
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        partial.unlink(missing_ok=True)
    return Calibration(content, sha256_hex(body))


def remove_calibration(folder: Path) -> bool:
    """Remove the calibration, so that the model's own probabilities apply; return whether there was one.

    A damaged calibration is removed, too.
    """
    try:
        (folder / CALIBRATION).unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unwritable(folder, error) from error
    return True


def check_writable(folder: Path) -> None:
    """Raise ConfigurationError (`models_unwritable`) if a calibration could not be stored in the folder.

    It is called before the minutes of work that a calibration takes.
    """
    if not (os.access(folder, os.W_OK) and os.access(folder.parent, os.W_OK)):
        raise _unwritable(folder)


def _first(error: Exception) -> str:
    """Return an error's message; for a ValidationError, a description of its first fault with the field."""
    if not isinstance(error, ValidationError):
        return str(error)
    return describe_first(error)


def _is_for(content: ModelCalibration, manifest: Manifest) -> bool:
    return (content.weights_sha256, content.classifier_sha256) == (
        manifest.weights_sha256,
        manifest.classifier_sha256,
    )


def _named(weights_sha256: str, classifier_sha256: str | None) -> str:
    settings = f"with classifier.json {classifier_sha256[:12]}" if classifier_sha256 else "no classifier.json"
    return f"weights {weights_sha256[:12]} {settings}"


def _unwritable(folder: Path, error: OSError | None = None) -> ConfigurationError:
    reason, remedy = "", "run this as the user who installed the model"
    if error is not None:
        reason = f" ({error.strerror or error})"
        remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else remedy
    return ConfigurationError(
        f"{folder} is not writable{reason}, but the calibration must be saved or removed there: {remedy}",
        code="models_unwritable",
    )
