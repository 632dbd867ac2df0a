"""Probabilities that mean what they say: a temperature, and offsets, for logits, chosen on labelled texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

Floats = NDArray[np.float64]
"""Logits or probabilities, shape (examples, classes)."""

TEMPERATURES = (0.05, 20.0)
"""Where it is sought; outside, a model is beyond what one temperature mends."""
MAX_OFFSET = 5.0
"""Of a class's logit: e to the 5 is a hundred times as frequent as the training made it."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What makes softmax((logits + offsets) / temperature) mean what it says."""

    temperature: float
    offsets: tuple[float, ...]
    """One for each class, added to the logits; 0 for neutral."""


def fit_calibration(logits: Floats, labels: NDArray[np.int64]) -> Calibration:
    """Temperature and offsets with the smallest negative log-likelihood.

    Bias-corrected temperature scaling (Alexandari, Kundaje, Shrikumar 2020, section 2.2): the training held
    the classes' shares back in part (`Recipe.balance`), the offsets bring back what the dev part has of them.
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
    """The temperature alone: temperature scaling (Guo et al. 2017, section 4.2). No answer becomes another.

    The loss is convex in 1 / T, so the one minimum is found.
    """
    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(lambda value: _loss(logits, labels, value), bounds=(low, high), method="bounded")
    return Calibration(round(float(np.exp(found.x)), 4), (0.0, 0.0, 0.0))


def _loss(logits: Floats, labels: NDArray[np.int64], log_temperature: float) -> float:
    """Mean negative log-likelihood."""
    said = probabilities(logits, float(np.exp(log_temperature)))
    return float(-np.log(np.maximum(said[np.arange(len(labels)), labels], 1e-12)).mean())


def probabilities(logits: Floats, temperature: float) -> Floats:
    """Softmax of the logits over the temperature."""
    scaled = logits / temperature
    shifted = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    said: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return said
