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
from kinds.classifier.evaluate import OtherQuestionError, answered, errors_in_words
from kinds.classifier.labelled_texts import LABELS, LabelledInput, LabelledText
from kinds.classifier.training.calibration import FitResult, Halves, cut_in_halves, fit_on_half
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
class CalibrationTexts:
    """The texts of a labelled file, divided into a half to fit on and a half to measure on."""

    path: Path
    content: CalibrationFile
    texts: tuple[LabelledText, ...]
    halves: Halves


@dataclass(frozen=True, slots=True)
class StoredCalibration:
    """The calibration that was stored with a model."""

    folder: Path
    calibration: Calibration
    replaced: str | None
    """Name of the labelled file on which the replaced calibration was fitted, or a description of an unusable
    calibration; None if nothing was replaced."""


def read_labelled_file(source: LabelledInput, max_dropped: float | None = None) -> CalibrationTexts:
    """Read the whole file and check it, before a worker is started.

    Raises FileRejectedError, LabelledFileError or CalibrationDataError.
    """
    path = source.path
    digest = digest_of(path)
    texts: list[LabelledText] = []
    tally = DroppedTally(path, lambda _: None)
    for text in source.texts():
        if isinstance(text, Rejected):
            tally(text)
        else:
            texts.append(text)
    try:
        check_dropped(tally.dropped(len(texts)), max_dropped)
    except InputDroppedError as error:
        raise LabelledFileError(f"{error} (check the columns and --map first)") from error
    labels = [LABELS.index(text.label) for text in texts]
    halves = cut_in_halves([normalise(text.text) for text in texts], labels, name=str(path))
    content = CalibrationFile(name=path.name, sha256=digest, num_refused=tally.num_rejected)
    return CalibrationTexts(path, content, tuple(texts), halves)


@dataclass(frozen=True, slots=True)
class Model:
    """The installed model to calibrate; its manifest is read before the model classifies the texts."""

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
        """Return the digest of the installed files. It is stored in the batch's settings, so that a later
        replacement of the files is noticed."""
        return installed_digest(self.manifest)

    def calibrate(
        self,
        database: Engine,
        store: Store,
        summary: Summary,
        labelled: CalibrationTexts,
        *,
        with_offsets: bool,
    ) -> StoredCalibration:
        """Fit a calibration on the batch's answers and store it; after an error the model is unchanged.

        Raises NotAnsweredError, OtherQuestionError, and the errors of `answered`, `fit_on_half` and
        `write_calibration`.
        """
        self._check_batch(database, summary)
        probabilities: list[tuple[float, float, float]] = []
        num_missing = 0
        predictions = answered(
            database, store, summary.batch_id, iter(labelled.texts), labelled.path, calibrated=False
        )
        for _, prediction in predictions:
            if prediction is None:
                num_missing += 1
            else:
                probabilities.append((prediction.negative, prediction.neutral, prediction.positive))
        if num_missing:
            raise NotAnsweredError(
                f"{num_missing} of {len(labelled.texts)} texts have no answer"
                f"{errors_in_words(summary.report)}; the model is unchanged. Repeat the command with --batch "
                f"{summary.batch_id}"
            )
        fitted = fit_on_half(
            logits_of(np.array(probabilities)),
            np.array([LABELS.index(text.label) for text in labelled.texts], dtype=np.int64),
            labelled.halves,
            with_offsets=with_offsets,
            name=str(labelled.path),
        )
        replaced = self._previous()
        return StoredCalibration(
            self.folder, write_calibration(self.folder, self._content(labelled, fitted)), replaced
        )

    def _check_batch(self, database: Engine, summary: Summary) -> None:
        name, model = self.folder.name, summary.report.model
        if model != name:
            raise OtherQuestionError(
                f"batch {summary.batch_id} uses the model {model}, not {name}; nothing was changed: omit "
                f"--batch, or calibrate {model}"
            )
        installed_sha256 = batch_settings(database, summary.batch_id).get("installed_sha256")
        if installed_sha256 and installed_sha256 != self.installed_sha256:
            raise OtherQuestionError(
                f"{name} was reinstalled after batch {summary.batch_id} was made; nothing was changed: omit "
                "--batch"
            )

    def _previous(self) -> str | None:
        try:
            previous = read_calibration(self.folder, self.manifest)
        except MalformedFileError:
            return "an unreadable file"
        except CalibrationOfOtherWeightsError:
            return "that of a different model"
        return None if previous is None else previous.content.file.name

    def _content(self, labelled: CalibrationTexts, fitted: FitResult) -> ModelCalibration:
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
