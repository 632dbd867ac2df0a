"""Fits a temperature and optional offsets to labelled texts, and measures them on held-out texts."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from jobs.classification import ClassificationFigures, classification_figures
from jobs.errors import InputError
from kinds.classifier.labelled_texts import LABELS
from kinds.classifier.training.data import near_duplicate_groups

Floats = NDArray[np.float64]
"""Logits or probabilities of shape (examples, classes)."""

TEMPERATURES = (0.05, 20.0)
"""Range in which the temperature is sought; a model that needs a value outside it cannot be calibrated."""
MAX_OFFSET = 5.0
"""Maximum absolute offset of a class's logit: at temperature 1, an offset of 5 already multiplies the odds of
the class by e^5, which is about 150."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Parameters with which softmax((logits + offsets) / temperature) gives calibrated probabilities."""

    temperature: float
    offsets: tuple[float, ...]
    """Offsets added to the logits, one for each class; 0 for neutral."""


def fit_calibration(logits: Floats, labels: NDArray[np.int64]) -> Calibration:
    """Return the temperature and offsets with the smallest negative log-likelihood.

    This is bias-corrected temperature scaling (Alexandari, Kundaje, Shrikumar 2020, section 2.2). A
    training run partly removes the effect of class frequencies (`Recipe.balance`); the offsets restore the
    class shares of the texts on which they are fitted.
    """

    def loss(parameters: NDArray[np.float64]) -> float:
        log_temperature, negative, positive = parameters
        return _loss(logits + np.array([negative, 0.0, positive]), labels, log_temperature)

    low, high = np.log(TEMPERATURES)
    bounds = [(low, high), (-MAX_OFFSET, MAX_OFFSET), (-MAX_OFFSET, MAX_OFFSET)]
    minimum = minimize(loss, np.zeros(3), method="Nelder-Mead", bounds=bounds)
    log_temperature, negative, positive = minimum.x
    temperature = round(float(np.exp(log_temperature)), 4)
    return Calibration(temperature, (round(float(negative), 4), 0.0, round(float(positive), 4)))


def fit_temperature(logits: Floats, labels: NDArray[np.int64]) -> Calibration:
    """Return the temperature with the smallest negative log-likelihood, with offsets of 0.

    This is temperature scaling (Guo et al. 2017, section 4.2), which never changes the most probable class.
    The loss is convex in the inverse of the temperature, so the search finds its only minimum.
    """
    low, high = np.log(TEMPERATURES)
    minimum = minimize_scalar(
        lambda value: _loss(logits, labels, value), bounds=(low, high), method="bounded"
    )
    return Calibration(round(float(np.exp(minimum.x)), 4), (0.0, 0.0, 0.0))


def _loss(logits: Floats, labels: NDArray[np.int64], log_temperature: float) -> float:
    """Return the mean negative log-likelihood of the labels at this temperature."""
    predicted = probabilities(logits, float(np.exp(log_temperature)))
    return float(-np.log(np.maximum(predicted[np.arange(len(labels)), labels], 1e-12)).mean())


def probabilities(logits: Floats, temperature: float) -> Floats:
    """Return the softmax of the logits divided by the temperature."""
    scaled = logits / temperature
    shifted = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    predicted: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return predicted


MIN_HALF = 100
"""Minimum number of texts in each half.

Fewer would be enough to fit one temperature, but the calibration error would be mostly noise: if 70 of 100
answers are right, even the share of right answers has a standard error of 0.05.
"""
MIN_OF_CLASS = 10
"""Minimum number of texts of each class in each half; a class without texts cannot be fitted or measured."""
SEED = 0
"""Seed of the division into halves. It is fixed, so that the same texts give the same halves and comparable
figures."""

MIN_DEVIATIONS = 3.0
"""Minimum number of standard deviations at which a result is not attributed to chance.

Random answers reach it for one file in 740.
"""
ROUNDING = 1e-9
"""Differences between probabilities that are below this count as zero, because answers are rounded to seven
digits."""


class CalibrationDataError(InputError):
    """There are too few labelled texts, either in total or of one of the classes."""

    code = "calibration_data_too_small"


class LabelsDisagreeError(InputError):
    """The model's answers are unrelated to the labels, or fit exchanged labels better."""

    code = "calibration_labels_disagree"


class NoBetterError(InputError):
    """The calibration does not reduce the log loss on held-out texts."""

    code = "calibration_no_better"


@dataclass(frozen=True, slots=True)
class Halves:
    """Indices of the texts to fit on and to measure on, and the number of groups of near-duplicates."""

    fitted: tuple[int, ...]
    held_out: tuple[int, ...]
    num_groups: int


@dataclass(frozen=True, slots=True)
class FitResult:
    """A calibration and its figures on the held-out half."""

    calibration: Calibration
    num_changed: int
    """Number of held-out texts whose most probable class changes with the calibration."""
    uncalibrated: ClassificationFigures
    calibrated: ClassificationFigures


def cut_in_halves(texts: Sequence[str], labels: Sequence[int], *, name: str) -> Halves:
    """Divide the texts into halves: each group of near-duplicates goes to the half that has fewer texts.

    The groups are shuffled with SEED; all occurrences of a text with different targets are in one group.
    `name` is the file's name, for error messages. Raises CalibrationDataError.
    """
    places: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        places.setdefault(text, []).append(place)
    of_text = list(places.values())
    groups = near_duplicate_groups(places)
    order = list(groups)
    random.Random(SEED).shuffle(order)  # noqa: S311 - a reproducible draw
    fitted: list[int] = []
    held_out: list[int] = []
    for group in order:
        smaller = min(fitted, held_out, key=len)
        smaller.extend(place for number in group for place in of_text[number])
    for half in (fitted, held_out):
        _check_half([labels[place] for place in half], labels, len(groups), name)
    return Halves(tuple(sorted(fitted)), tuple(sorted(held_out)), len(groups))


def _check_half(half: Sequence[int], labels: Sequence[int], num_groups: int, name: str) -> None:
    counts, totals = Counter(half), Counter(labels)
    if len(half) >= MIN_HALF and all(counts[place] >= MIN_OF_CLASS for place in range(len(LABELS))):
        return
    has = ", ".join(f"{totals[place]} {label}" for place, label in enumerate(LABELS))
    raise CalibrationDataError(
        f"{name} has {len(labels)} labelled texts that can be used ({has}) in {num_groups} groups of "
        f"near-duplicates, which is too few. Half of them are held out, and each half needs "
        f"{MIN_HALF} texts, {MIN_OF_CLASS} of each class; label more texts, or check --map"
    )


def fit_on_half(
    logits: Floats, labels: NDArray[np.int64], halves: Halves, *, with_offsets: bool, name: str
) -> FitResult:
    """Fit a calibration on one half and measure it on the other.

    `logits` and `labels` are those of all texts; classes are in the order of LABELS. The calibration that was
    measured is returned; it is not fitted again on all texts. Raises LabelsDisagreeError, or
    NoBetterError if the log loss on the held-out half does not fall.
    """
    check_agreement(probabilities(logits, 1.0), labels, name=name)
    fit = fit_calibration if with_offsets else fit_temperature
    own, held_out = np.array(halves.fitted), np.array(halves.held_out)
    calibration = fit(logits[own], labels[own])
    before = probabilities(logits[held_out], 1.0)
    after = probabilities(logits[held_out] + np.array(calibration.offsets), calibration.temperature)
    uncalibrated, calibrated = (
        classification_figures(labels[held_out], predicted, LABELS) for predicted in (before, after)
    )
    if calibrated.log_loss >= uncalibrated.log_loss:
        raise NoBetterError(
            f"on {len(held_out)} held-out texts of {name} the log loss is {uncalibrated.log_loss:.4f} "
            f"without and {calibrated.log_loss:.4f} with {_named(calibration)}: "
            "these texts do not show that a calibration helps, and nothing was changed"
        )
    num_changed = int((before.argmax(axis=1) != after.argmax(axis=1)).sum())
    return FitResult(calibration, num_changed, uncalibrated, calibrated)


def _named(calibration: Calibration) -> str:
    temperature = f"temperature {calibration.temperature}"
    if not any(calibration.offsets):
        return temperature
    offsets = " ".join(
        f"{label} {value:+.2f}" for label, value in zip(LABELS, calibration.offsets, strict=True)
    )
    return f"{temperature} and offsets {offsets}"


def check_agreement(predicted: Floats, labels: NDArray[np.int64], *, name: str) -> None:
    """Raise LabelsDisagreeError if the answers are no better than chance, or the labels seem exchanged.

    Neither test counts right answers. In most files, most of these are neutral; and a model that favours one
    class can have few of them, which is no reason to refuse the file, because a temperature changes
    probabilities, not answers.
    """
    order = _better_order(predicted, labels)
    if order is not None:
        exchanged = ", ".join(
            f"{LABELS[place]} were {LABELS[other]}" for place, other in enumerate(order) if place != other
        )
        raise LabelsDisagreeError(
            f"the model's answers would fit the labels of {name} better if {exchanged}: check --map, "
            "and the --labels that the model was installed with"
        )
    if deviations(predicted, labels) < MIN_DEVIATIONS:
        raise LabelsDisagreeError(
            f"the model's answers agree with the labels of {name} no better than chance: check the "
            "columns, --map, and the --labels that the model was installed with"
        )


def _better_order(predicted: Floats, labels: NDArray[np.int64]) -> tuple[int, ...] | None:
    """Return the order of classes that fits the answers best; None if none is clearly better than LABELS.

    Orders are compared by the mean probability of the right class, summed over the classes. A class that the
    model predicts too often for all texts alike adds the same amount to every order.
    """
    places = range(len(LABELS))
    best, most = None, ROUNDING
    for order in itertools.permutations(places):
        gains = [
            predicted[labels == place, order[place]] - predicted[labels == place, place] for place in places
        ]
        gain = math.fsum(float(values.mean()) for values in gains)
        error = math.sqrt(math.fsum(float(values.var()) / len(values) for values in gains))
        if gain > max(most, MIN_DEVIATIONS * error):
            best, most = order, gain
    return best


def deviations(predicted: Floats, labels: NDArray[np.int64]) -> float:
    """Return by how much the mean probability of the right class exceeds its mean over permuted labels.

    The result is in standard deviations (Hoeffding 1951, "A combinatorial central limit theorem"), and 0 if
    all answers are the same.
    """
    shares = np.bincount(labels, minlength=len(LABELS)) / len(labels)
    own = predicted - (predicted @ shares)[:, None]
    own -= own.mean(axis=0)
    variance = float((own**2 @ shares).sum()) * len(labels) / (len(labels) - 1)
    total = float(own[np.arange(len(labels)), labels].sum())
    return total / math.sqrt(variance) if variance > len(labels) * ROUNDING**2 else 0.0
