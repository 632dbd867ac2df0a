"""`pressroom models calibrate`: fits a calibration to a model's answers on labelled texts, and stores it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import Engine

from db.batches import batch_settings
from jobs.classification import ClassificationFigures
from jobs.errors import InputError, TransientError
from jobs.intake.files import digest_of
from jobs.rejection import DroppedTally, InputDroppedError, Rejected, check_dropped
from jobs.text.plain import normalise
from kinds.classifier.evaluate import OtherQuestionError, answered
from kinds.classifier.labelled import LabelColumns, read_labelled_texts
from kinds.classifier.labelled import LabelledText as RightAnswer
from kinds.classifier.order import LABELS
from kinds.classifier.training.recalibrate import Fitted, Halves, cut_in_halves, fit_on_half
from pressroom.summary import Summary
from storage.store import Store
from workers.models.calibration import (
    Calibration,
    CalibrationFile,
    CalibrationOfOtherWeightsError,
    HeldOutFigures,
    ModelCalibration,
    check_writable,
    logits_of,
    read_calibration,
    write_calibration,
)
from workers.models.files import MalformedFileError
from workers.models.manifest import Manifest, installed_digest, model_folder, read_manifest


class LabelledFileError(InputError):
    """Too many lines of the labelled file cannot be used."""

    code = "labelled_file_unusable"


class NotAnsweredError(TransientError):
    """Some texts were not classified, so nothing was fitted."""

    code = "calibration_interrupted"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A labelled file, read before the model classifies it, and its division into halves."""

    path: Path
    content: CalibrationFile
    texts: tuple[RightAnswer, ...]
    halves: Halves


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The calibration that was stored with a model."""

    folder: Path
    kept: Calibration
    replaced: str | None
    """Previous calibration, by the file it was fitted on if that is known; None if there was none."""


def read_labelled_file(path: Path, columns: LabelColumns, max_dropped: float | None = None) -> Labelled:
    """Read the file and report everything that can be wrong with it, before a worker is started.

    Raises FileRejectedError, LabelledFileError or CalibrationDataError.
    """
    digest = digest_of(path)
    texts: list[RightAnswer] = []
    tally = DroppedTally(path, lambda _: None)
    for one in read_labelled_texts(path, columns):
        if isinstance(one, Rejected):
            tally(one)
        else:
            texts.append(one)
    try:
        check_dropped(tally.dropped(len(texts)), max_dropped)
    except InputDroppedError as error:
        raise LabelledFileError(f"{error} (check the columns and --map first)") from error
    labels = [LABELS.index(one.label) for one in texts]
    halves = cut_in_halves([normalise(one.text) for one in texts], labels, name=str(path))
    content = CalibrationFile(name=path.name, sha256=digest, num_refused=tally.num_rejected)
    return Labelled(path, content, tuple(texts), halves)


@dataclass(frozen=True, slots=True)
class Model:
    """The installed model to calibrate, as it was before it classified the texts."""

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, models_folder: Path, name: str) -> Model:
        """Return the installed model of this name.

        Raises ModelNotInstalledError, or ConfigurationError if the folder cannot be written.
        """
        folder = model_folder(models_folder, name)
        check_writable(folder)
        return cls(folder, read_manifest(folder))

    @property
    def installed_sha256(self) -> str:
        """Return the digest by which a batch identifies the model that it uses."""
        return installed_digest(self.manifest)

    def calibrate(
        self, database: Engine, store: Store, summary: Summary, labelled: Labelled, *, with_offsets: bool
    ) -> Calibrated:
        """Fit a calibration on the batch's answers and store it; any error leaves the model as it was.

        Raises NotAnsweredError, OtherQuestionError, and the errors of `answered`, `fit_on_half` and
        `write_calibration`.
        """
        self._check_batch(database, summary)
        probabilities: list[tuple[float, float, float]] = []
        num_missing = 0
        asked = answered(
            database, store, summary.batch_id, iter(labelled.texts), labelled.path, calibrated=False
        )
        for _, said in asked:
            if said is None:
                num_missing += 1
            else:
                probabilities.append((said.negative, said.neutral, said.positive))
        if num_missing:
            errors = "".join(f", {code} ({number} jobs)" for code, number in summary.report.top_errors)
            raise NotAnsweredError(
                f"{num_missing} of {len(labelled.texts)} texts have no answer{errors}; the model is as it "
                f"was. Give the same command with --batch {summary.batch_id}"
            )
        fitted = fit_on_half(
            logits_of(np.array(probabilities)),
            np.array([LABELS.index(one.label) for one in labelled.texts], dtype=np.int64),
            labelled.halves,
            with_offsets=with_offsets,
            name=str(labelled.path),
        )
        replaced = self._standing()
        return Calibrated(
            self.folder, write_calibration(self.folder, self._content(labelled, fitted)), replaced
        )

    def _check_batch(self, database: Engine, summary: Summary) -> None:
        name, asked = self.folder.name, summary.report.model
        if asked != name:
            raise OtherQuestionError(
                f"batch {summary.batch_id} asks the model {asked}, not {name}: nothing was changed; leave "
                f"--batch away, or calibrate {asked}"
            )
        made_for = batch_settings(database, summary.batch_id).get("installed_sha256")
        if made_for and made_for != self.installed_sha256:
            raise OtherQuestionError(
                f"{name} was installed anew since batch {summary.batch_id} was made: nothing was changed; "
                "leave --batch away"
            )

    def _standing(self) -> str | None:
        try:
            standing = read_calibration(self.folder, self.manifest)
        except MalformedFileError:
            return "a file that cannot be read"
        except CalibrationOfOtherWeightsError:
            return "one of another model"
        return None if standing is None else standing.content.file.name

    def _content(self, labelled: Labelled, fitted: Fitted) -> ModelCalibration:
        return ModelCalibration(
            weights_sha256=self.manifest.weights_sha256,
            classifier_sha256=self.manifest.classifier_sha256 or "",
            temperature=fitted.calibration.temperature,
            offsets=dict(zip(LABELS, fitted.calibration.offsets, strict=True)),
            file=labelled.content,
            num_fitted=len(labelled.halves.fitted),
            num_held_out=len(labelled.halves.held_out),
            num_groups=labelled.halves.num_groups,
            num_changed=fitted.num_changed,
            uncalibrated=_figures(fitted.uncalibrated),
            calibrated=_figures(fitted.calibrated),
        )


def _figures(figures: ClassificationFigures) -> HeldOutFigures:
    return HeldOutFigures(
        calibration_error=round(figures.calibration_error, 4),
        log_loss=round(figures.log_loss, 4),
        accuracy=round(figures.accuracy, 4),
        macro_f1=round(figures.macro_f1, 4),
    )
