"""Calibration of probabilities: fits a temperature, and optionally offsets, for logits to labelled texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

Floats = NDArray[np.float64]
"""Logits or probabilities of shape (examples, classes)."""

TEMPERATURES = (0.05, 20.0)
"""Range in which the temperature is sought; a model outside it cannot be corrected by one temperature."""
MAX_OFFSET = 5.0
"""Maximum offset of a class's logit: e to the 5 makes a class over a hundred times as frequent as it was."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Parameters with which softmax((logits + offsets) / temperature) gives calibrated probabilities."""

    temperature: float
    offsets: tuple[float, ...]
    """Offsets added to the logits, one for each class; 0 for neutral."""


def fit_calibration(logits: Floats, labels: NDArray[np.int64]) -> Calibration:
    """Return the temperature and offsets with the smallest negative log-likelihood.

    This is bias-corrected temperature scaling (Alexandari, Kundaje, Shrikumar 2020, section 2.2). The
    training partly withholds the classes' shares (`Recipe.balance`); the offsets restore the shares of the
    dev part.
    """

    def loss(parameters: NDArray[np.float64]) -> float:
        log_temperature, negative, positive = parameters
        return _loss(logits + np.array([negative, 0.0, positive]), labels, log_temperature)

    low, high = np.log(TEMPERATURES)
    bounds = [(low, high), (-MAX_OFFSET, MAX_OFFSET), (-MAX_OFFSET, MAX_OFFSET)]
    found = minimize(loss, np.zeros(3), method="Nelder-Mead", bounds=bounds)
    log_temperature, negative, positive = found.x
    temperature = round(float(np.exp(log_temperature)), 4)
    return Calibration(temperature, (round(float(negative), 4), 0.0, round(float(positive), 4)))


def fit_temperature(logits: Floats, labels: NDArray[np.int64]) -> Calibration:
    """Return the temperature alone: temperature scaling (Guo et al. 2017, section 4.2) changes no answer.

    The loss is convex in 1 / T, so its only minimum is found.
    """
    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(lambda value: _loss(logits, labels, value), bounds=(low, high), method="bounded")
    return Calibration(round(float(np.exp(found.x)), 4), (0.0, 0.0, 0.0))


def _loss(logits: Floats, labels: NDArray[np.int64], log_temperature: float) -> float:
    """Return the mean negative log-likelihood."""
    said = probabilities(logits, float(np.exp(log_temperature)))
    return float(-np.log(np.maximum(said[np.arange(len(labels)), labels], 1e-12)).mean())


def probabilities(logits: Floats, temperature: float) -> Floats:
    """Return the softmax of the logits divided by the temperature."""
    scaled = logits / temperature
    shifted = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    said: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return said
