"""Probabilities that mean what they say: one temperature for the logits, chosen on the dev part."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

Floats = NDArray[np.float64]
"""Logits or probabilities, shape (examples, classes)."""

TEMPERATURES = (0.05, 20.0)
"""Where it is sought; outside, a model is beyond what one temperature mends."""


def fit_temperature(logits: Floats, labels: NDArray[np.int64]) -> float:
    """The temperature with the smallest negative log-likelihood (Guo et al. 2017, section 4.2).

    >>> sure = np.log(np.array([[0.999, 0.0005, 0.0005]] * 10))
    >>> labels = np.array([0] * 7 + [1, 2, 1])
    >>> fit_temperature(sure, labels) > 2
    True
    """

    def loss(log_temperature: float) -> float:
        said = probabilities(logits, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(said[np.arange(len(labels)), labels], 1e-12)).mean())

    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded")
    return round(float(np.exp(found.x)), 4)


def probabilities(logits: Floats, temperature: float) -> Floats:
    """Softmax of the logits over the temperature."""
    scaled = logits / temperature
    shifted = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    said: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return said
