"""Figures of a classifier, against the definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.classification import calibration_error, classification_figures

rows = st.lists(
    st.tuples(st.integers(0, 2), st.lists(st.floats(0.01, 1), min_size=3, max_size=3)),
    min_size=1,
    max_size=40,
)


@settings(deadline=None)  # the first example imports scikit-learn
@given(rows)
def test_figures_keep_to_their_definitions(drawn: list[tuple[int, list[float]]]) -> None:
    labels = np.array([label for label, _ in drawn])
    probabilities = np.array([weights for _, weights in drawn])
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    figures = classification_figures(labels, probabilities, ("negative", "neutral", "positive"))
    confusion = np.array(figures.confusion)
    assert confusion.sum() == figures.num_examples == len(drawn)
    assert figures.accuracy == pytest.approx(np.trace(confusion) / len(drawn))
    f1s = []
    for place, one in enumerate(figures.classes.values()):
        assert one.num_labelled == confusion[place].sum()
        assert one.num_predicted == confusion[:, place].sum()
        both = one.num_labelled + one.num_predicted
        assert one.f1 == pytest.approx(2 * confusion[place, place] / both if both else 0.0)
        if one.num_labelled:
            f1s.append(one.f1)
    assert figures.macro_f1 == pytest.approx(np.mean(f1s))
    assert 0 <= figures.calibration_error <= 1


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    sure = np.array([[0.1, 0.1, 0.8]] * 10)
    assert calibration_error(np.array([2] * 8 + [0] * 2), sure) == pytest.approx(0.0)
    assert calibration_error(np.array([2] * 3 + [0] * 7), sure) == pytest.approx(0.5)
    mixed = np.vstack([sure, [[0.4, 0.3, 0.3]] * 10])
    labels = np.array([2] * 8 + [0] * 2 + [0] * 10)
    assert calibration_error(labels, mixed) == pytest.approx(0.3)


def test_a_certain_answer_falls_into_the_last_bin() -> None:
    assert calibration_error(np.array([0]), np.array([[1.0, 0.0, 0.0]])) == 0.0
