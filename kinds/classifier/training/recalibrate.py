"""Calibrates an installed model: fits on one half of the labelled texts and measures on the other."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.classification import ClassificationFigures, classification_figures
from jobs.errors import InputError
from kinds.classifier.order import LABELS
from kinds.classifier.training.calibrate import (
    Calibration,
    Floats,
    fit_calibration,
    fit_temperature,
    probabilities,
)
from kinds.classifier.training.split import near_duplicate_groups

MIN_HALF = 100
"""Minimum number of texts in each half.

Fewer are enough for one temperature, but then the calibration error is mostly noise: of 100 answers that are
right in 70%, the share of right ones alone has a standard error of 0.05.
"""
MIN_OF_CLASS = 10
"""Minimum number of texts of each class in each half; without any, nothing is known about the class."""
SEED = 0
"""Seed of the draw; it is fixed, so that the same texts give the same halves and figures can be compared."""

MIN_DEVIATIONS = 3.0
"""Standard deviations that count as more than chance; with random answers, one file in 740 exceeds them."""
ROUNDING = 1e-9
"""Differences of probabilities below this count as zero. Answers have seven digits."""


class CalibrationDataError(InputError):
    """The labelled texts are too few, or lack a class."""

    code = "calibration_data_too_small"


class LabelsDisagreeError(InputError):
    """The model's answers are unrelated to the labels, or fit exchanged labels better."""

    code = "calibration_labels_disagree"


class NoBetterError(InputError):
    """The calibration is no improvement on held-out texts."""

    code = "calibration_no_better"


@dataclass(frozen=True, slots=True)
class Halves:
    """Indices of the texts to fit on and of those to measure on."""

    fitted: tuple[int, ...]
    held_out: tuple[int, ...]
    num_groups: int


@dataclass(frozen=True, slots=True)
class Fitted:
    """A calibration and its figures on the held-out half."""

    calibration: Calibration
    num_changed: int
    """Number of held-out texts whose most probable class changes with the calibration."""
    uncalibrated: ClassificationFigures
    calibrated: ClassificationFigures


def cut_in_halves(texts: Sequence[str], labels: Sequence[int], *, name: str) -> Halves:
    """Divide the texts into halves: each group of near-duplicates goes to the half that has fewer texts.

    The order of the groups is drawn with SEED, and the same text about several targets is in one group.
    `name` is that of the file, for the message. Raises CalibrationDataError.
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
    counts, found = Counter(half), Counter(labels)
    if len(half) >= MIN_HALF and all(counts[place] >= MIN_OF_CLASS for place in range(len(LABELS))):
        return
    has = ", ".join(f"{found[place]} {label}" for place, label in enumerate(LABELS))
    raise CalibrationDataError(
        f"{name} has {len(labels)} labelled texts that can be used ({has}) in {num_groups} groups of "
        f"near-duplicates: too few. Half of them is held out, and each half needs {MIN_HALF} texts, "
        f"{MIN_OF_CLASS} of each class; label more texts, or check --map"
    )


def fit_on_half(
    logits: Floats, labels: NDArray[np.int64], halves: Halves, *, with_offsets: bool, name: str
) -> Fitted:
    """Fit a calibration on one half and measure it on the other.

    `logits` and `labels` are those of all texts; classes are in the order of LABELS. The measured calibration
    is the one that is returned; it is not fitted again on all texts. Raises LabelsDisagreeError, or
    NoBetterError if the log loss on the held-out half does not fall.
    """
    check_agreement(probabilities(logits, 1.0), labels, name=name)
    fit = fit_calibration if with_offsets else fit_temperature
    own, held_out = np.array(halves.fitted), np.array(halves.held_out)
    calibration = fit(logits[own], labels[own])
    before = probabilities(logits[held_out], 1.0)
    after = probabilities(logits[held_out] + np.array(calibration.offsets), calibration.temperature)
    uncalibrated, calibrated = (
        classification_figures(labels[held_out], said, LABELS) for said in (before, after)
    )
    if calibrated.log_loss >= uncalibrated.log_loss:
        raise NoBetterError(
            f"on {len(held_out)} held-out texts of {name} the log loss is {uncalibrated.log_loss:.4f} "
            f"without and {calibrated.log_loss:.4f} with {_named(calibration)}: "
            "these texts show nothing to mend, and nothing was changed"
        )
    num_changed = int((before.argmax(axis=1) != after.argmax(axis=1)).sum())
    return Fitted(calibration, num_changed, uncalibrated, calibrated)


def _named(calibration: Calibration) -> str:
    temperature = f"temperature {calibration.temperature}"
    if not any(calibration.offsets):
        return temperature
    offsets = " ".join(
        f"{label} {value:+.2f}" for label, value in zip(LABELS, calibration.offsets, strict=True)
    )
    return f"{temperature} and offsets {offsets}"


def check_agreement(said: Floats, labels: NDArray[np.int64], *, name: str) -> None:
    """Raise LabelsDisagreeError if the answers are no better than chance, or the labels seem exchanged.

    Neither test counts right answers, because most of these are neutral in most files, and because a model
    that favours a class, which a temperature does not change, is no reason to refuse a file.
    """
    order = _better_order(said, labels)
    if order is not None:
        exchanged = ", ".join(
            f"{LABELS[place]} were called {LABELS[other]}"
            for place, other in enumerate(order)
            if place != other
        )
        raise LabelsDisagreeError(
            f"the model's answers would fit the labels of {name} better if what is {exchanged}: check --map, "
            "and the --labels that the model was installed with"
        )
    if deviations(said, labels) < MIN_DEVIATIONS:
        raise LabelsDisagreeError(
            f"the model's answers have no more to do with the labels of {name} than chance has: check the "
            "columns, --map, and the --labels that the model was installed with"
        )


def _better_order(said: Floats, labels: NDArray[np.int64]) -> tuple[int, ...] | None:
    """Return the best order of the classes if it is clearly better than their own, or else None.

    Orders are compared by the sum over the classes of the mean probability of the right class: a class that
    the model predicts too often for all texts alike adds the same to each order.
    """
    places = range(len(LABELS))
    best, most = None, ROUNDING
    for order in itertools.permutations(places):
        gains = [said[labels == place, order[place]] - said[labels == place, place] for place in places]
        gain = math.fsum(float(one.mean()) for one in gains)
        error = math.sqrt(math.fsum(float(one.var()) / len(one) for one in gains))
        if gain > max(most, MIN_DEVIATIONS * error):
            best, most = order, gain
    return best


def deviations(said: Floats, labels: NDArray[np.int64]) -> float:
    """Return how far the mean probability of the right class is above that of randomly permuted labels.

    The unit is standard deviations: Hoeffding 1951, "A combinatorial central limit theorem".
    """
    shares = np.bincount(labels, minlength=len(LABELS)) / len(labels)
    own = said - (said @ shares)[:, None]
    own -= own.mean(axis=0)
    variance = float((own**2 @ shares).sum()) * len(labels) / (len(labels) - 1)
    total = float(own[np.arange(len(labels)), labels].sum())
    return total / math.sqrt(variance) if variance > len(labels) * ROUNDING**2 else 0.0
