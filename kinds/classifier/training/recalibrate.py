"""A calibration for a model that is there already: fitted on half of some texts, measured on the others."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.errors import InputError
from jobs.metrics.classification import ClassificationFigures, classification_figures
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
"""Texts of each half. One temperature is settled by fewer, but a calibration error of fewer is mostly noise:
of 100 answers that are right in 70%, the share of the right ones alone is good to 0.05."""
MIN_OF_CLASS = 10
"""Texts of each class in each half: of a class without any, nothing is known."""
SEED = 0
"""Of the draw: the same texts are cut in the same halves each time, so that figures can be compared."""

MIN_DEVIATIONS = 3.0
"""Standard deviations that count as more than chance: of answers that are drawn, one file in 740 has them."""
ROUNDING = 1e-9
"""Of probabilities: less than this does not differ. Answers come with seven digits."""


class CalibrationDataError(InputError):
    """The labelled texts are too few, or lack a class."""

    code = "calibration_data_too_small"


class LabelsDisagreeError(InputError):
    """The model's answers have nothing to do with the labels, or fit other ones better."""

    code = "calibration_labels_disagree"


class NoBetterError(InputError):
    """The calibration does not help on held-out texts."""

    code = "calibration_no_better"


@dataclass(frozen=True, slots=True)
class Halves:
    """Places of the texts to fit on, and of those to measure on."""

    fitted: tuple[int, ...]
    held_out: tuple[int, ...]
    num_groups: int


@dataclass(frozen=True, slots=True)
class Fitted:
    """A calibration and what it is good for, on the held-out half."""

    calibration: Calibration
    num_changed: int
    """Held-out texts whose most probable class is another one with it."""
    uncalibrated: ClassificationFigures
    calibrated: ClassificationFigures


def cut_in_halves(texts: Sequence[str], labels: Sequence[int], *, name: str) -> Halves:
    """Whole groups of near-duplicates go to the half that has fewer texts, in an order drawn by SEED.

    The same text about several targets is one group. Raises CalibrationDataError; `name` is the file's.
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
    """Fit on one half, measure on the other. Logits and labels of all texts, in the order of LABELS.

    What is measured is what is kept: it is not fitted anew on everything. Raises LabelsDisagreeError, or
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
    """Raise LabelsDisagreeError for answers that cannot be told from chance, or with labels exchanged.

    Neither test counts right answers: most of these are neutral in most files, and a model that favours a
    class, as a temperature leaves it, is no reason to refuse a file.
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
    """The best order of the classes, if it is clearly better than their own.

    By the sum over the classes of the mean probability of the right one: what a model says too often of all
    texts alike is the same in each order.
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
    """How far the mean probability of the right class is above that of the same labels dealt out by chance.

    In standard deviations: Hoeffding 1951, "A combinatorial central limit theorem".
    """
    shares = np.bincount(labels, minlength=len(LABELS)) / len(labels)
    own = said - (said @ shares)[:, None]
    own -= own.mean(axis=0)
    variance = float((own**2 @ shares).sum()) * len(labels) / (len(labels) - 1)
    total = float(own[np.arange(len(labels)), labels].sum())
    return total / math.sqrt(variance) if variance > len(labels) * ROUNDING**2 else 0.0
