"""Temperature: it mends confidence, and changes no answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kinds.classifier.training.calibrate import TEMPERATURES, fit_calibration, probabilities


def drawn(scale: float, number: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the softmax of logits, which are then scaled: the right temperature is the scale."""
    random = np.random.default_rng(5)
    logits = random.normal(size=(number, 3)) * 2
    uniform = random.random((number, 1))
    labels = (probabilities(logits, 1.0).cumsum(axis=1) < uniform).sum(axis=1).clip(max=2)
    return logits * scale, labels


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(scale: float) -> None:
    found = fit_calibration(*drawn(scale))
    assert found.temperature == pytest.approx(scale, rel=0.08)
    assert np.allclose(found.offsets, 0, atol=0.15 * scale)


def test_the_shares_that_the_training_held_back_are_found() -> None:
    logits, labels = drawn(1.0)
    found = fit_calibration(logits - np.array([0.7, 0.0, -0.4]), labels)
    assert np.allclose(found.offsets, (0.7, 0.0, -0.4), atol=0.15)


def test_a_model_that_is_always_wrong_gets_the_highest_temperature() -> None:
    logits, labels = drawn(1.0)
    assert fit_calibration(-5 * logits, labels).temperature == pytest.approx(TEMPERATURES[1], rel=0.05)


@given(
    arrays(np.float64, (7, 3), elements=st.floats(-50, 50)),
    st.floats(*TEMPERATURES),
)
def test_probabilities_sum_to_one_and_keep_the_order(logits: np.ndarray, temperature: float) -> None:
    said = probabilities(logits, temperature)
    assert np.allclose(said.sum(axis=1), 1)
    best = np.take_along_axis(said, logits.argmax(axis=1, keepdims=True), axis=1)[:, 0]
    assert np.all(best >= said.max(axis=1) - 1e-12)
