"""Metrics of a classifier on labelled texts: accuracy, F1, confusion matrix and calibration error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 15
"""Number of confidence bins for the calibration error, as in Guo et al. 2017, section 5, table 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """Metrics of a classifier for one class."""

    precision: float
    recall: float
    f1: float
    num_labelled: int
    num_predicted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationFigures:
    """Metrics of a classifier over all texts of a file."""

    num_examples: int
    accuracy: float
    macro_f1: float
    """Mean of F1 over the classes that occur among the labels."""
    calibration_error: float
    """Expected absolute difference between confidence and accuracy; see `calibration_error`."""
    log_loss: float
    classes: dict[str, ClassFigures]
    confusion: tuple[tuple[int, ...], ...]
    """Numbers of texts by label (row) and by the class with the highest probability (column), both in the
    order of `classes`."""


def classification_figures(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], names: Sequence[str]
) -> ClassificationFigures:
    """Return the metrics of probabilities (N, C) for labels (N,), which are indices of the C names; N >= 1.

    >>> sure = np.eye(3)[[0, 1, 2, 2]]
    >>> figures = classification_figures(np.array([0, 1, 2, 0]), sure, ("a", "b", "c"))
    >>> figures.accuracy, figures.confusion[0]
    (0.75, (1, 0, 1))
    """
    # This is imported here because it takes a second, and every command imports this module.
    from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support

    predicted = probabilities.argmax(axis=1)
    places = list(range(len(names)))
    precision, recall, f1, num_labelled = precision_recall_fscore_support(
        labels, predicted, labels=places, zero_division=0
    )
    present = [place for place in places if num_labelled[place]]
    return ClassificationFigures(
        num_examples=len(labels),
        accuracy=float((predicted == labels).mean()),
        macro_f1=float(np.mean(f1[present])),
        calibration_error=calibration_error(labels, probabilities),
        log_loss=float(log_loss(labels, _normalised(probabilities), labels=places)),
        classes={
            label: ClassFigures(
                precision=float(precision[place]),
                recall=float(recall[place]),
                f1=float(f1[place]),
                num_labelled=int(num_labelled[place]),
                num_predicted=int((predicted == place).sum()),
            )
            for place, label in enumerate(names)
        },
        confusion=tuple(
            tuple(map(int, row)) for row in confusion_matrix(labels, predicted, labels=places).tolist()
        ),
    )


def calibration_error(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Return the expected calibration error of the predicted class (Guo et al. 2017, eq. 3).

    It uses NUM_BINS bins of equal width.

    >>> calibration_error(np.array([0, 0, 1, 2]), np.array([[0.5, 0.25, 0.25]] * 4))
    0.0
    """
    confidence = probabilities.max(axis=1)
    is_right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    num = np.bincount(bins, minlength=NUM_BINS)
    gap = np.bincount(bins, is_right - confidence, minlength=NUM_BINS)
    return float(np.abs(gap).sum() / num.sum())


def _normalised(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide each row by its sum, because scikit-learn warns about fp32 rows whose sum is not exactly 1."""
    rows: NDArray[np.float64] = probabilities / probabilities.sum(axis=1, keepdims=True)
    return rows
