"""Calibration: fitting by the dev part, and fitting and measuring on halves of a labelled file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kinds.classifier.labelled_texts import LABELS
from kinds.classifier.training.calibration import (
    MIN_HALF,
    MIN_OF_CLASS,
    TEMPERATURES,
    CalibrationDataError,
    Halves,
    LabelsDisagreeError,
    NoBetterError,
    check_agreement,
    cut_in_halves,
    deviations,
    fit_calibration,
    fit_on_half,
    fit_temperature,
    probabilities,
)


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


WORDS = ("tea", "ships", "iron", "grain", "paper", "salt", "glass", "cloth", "maps", "clocks", "wine", "wool")
NUM_TEXTS = 4000
ALTERNATE = Halves(tuple(range(0, NUM_TEXTS, 2)), tuple(range(1, NUM_TEXTS, 2)), NUM_TEXTS)


def sampled(scale: float, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Logits `scale` times as large as their labels allow."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(NUM_TEXTS, 3)) * 2
    uniform = generator.random((NUM_TEXTS, 1))
    labels = (probabilities(logits, 1.0).cumsum(axis=1) < uniform).sum(axis=1).clip(max=2)
    return logits * scale, labels


def distinct_texts(number: int) -> list[str]:
    generator = np.random.default_rng(1)
    return [" ".join(generator.choice(WORDS, 8)) + f" {number}" for number in range(number)]


@pytest.mark.parametrize("scale", [0.4, 3.0])
def test_the_temperature_alone_is_found_and_changes_no_answer(scale: float) -> None:
    logits, labels = sampled(scale)
    found = fit_temperature(logits, labels)
    assert found.temperature == pytest.approx(scale, rel=0.08)
    assert found.offsets == (0.0, 0.0, 0.0)
    fitted = fit_on_half(logits, labels, ALTERNATE, with_offsets=False, name="f")
    assert fitted.num_changed == 0
    assert fitted.calibrated.accuracy == fitted.uncalibrated.accuracy
    assert fitted.calibrated.calibration_error < 0.03 < fitted.uncalibrated.calibration_error
    assert fitted.calibrated.log_loss < fitted.uncalibrated.log_loss


def test_figures_are_of_the_half_that_nothing_was_fitted_on() -> None:
    logits, labels = sampled(3.0)
    other = labels.copy()
    held_out = np.array(ALTERNATE.held_out)
    other[held_out] = (other[held_out] + np.arange(len(held_out)) // 2 % 2) % 3
    one, two = (
        fit_on_half(logits, each, ALTERNATE, with_offsets=False, name="f") for each in (labels, other)
    )
    assert one.calibration == two.calibration
    assert two.calibrated.num_examples == len(held_out)
    assert two.calibrated.accuracy < one.calibrated.accuracy - 0.2


def test_offsets_are_fitted_where_they_are_asked_for_and_the_changed_answers_counted() -> None:
    logits, labels = sampled(1.0)
    shifted = logits - np.array([1.5, 0.0, -1.0])
    fitted = fit_on_half(shifted, labels, ALTERNATE, with_offsets=True, name="f")
    assert fitted.calibration.offsets == pytest.approx((1.5, 0.0, -1.0), abs=0.25)
    assert fitted.num_changed > 100
    assert fitted.calibrated.accuracy > fitted.uncalibrated.accuracy


@pytest.mark.parametrize("shares", [(1 / 3, 1 / 3, 1 / 3), (0.05, 0.9, 0.05)])
@pytest.mark.parametrize("number", [200, 4000])
def test_labels_that_have_nothing_to_do_with_the_answers_are_no_calibration(
    shares: tuple[float, ...], number: int
) -> None:
    generator = np.random.default_rng(3)
    for _ in range(40):
        logits = generator.normal(size=(number, 3)) * 6 + np.array([0.0, 3.0, 0.0])
        labels = generator.choice(3, number, p=shares)
        with pytest.raises(LabelsDisagreeError, match=r"labels of moods\.csv .*--map.*--labels"):
            check_agreement(probabilities(logits, 1.0), labels, name="moods.csv")


def mostly_neutral(share: float, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Answers of which seven in ten are right, too sure, and labels of which this share is neutral."""
    generator = np.random.default_rng(4)
    other = (1 - share) / 2
    labels = generator.choice(3, number, p=(other, share, other))
    said = np.where(generator.random(number) < 0.7, labels, generator.integers(0, 3, number))
    return generator.normal(size=(number, 3)) + 5 * np.eye(3)[said], labels


@pytest.mark.parametrize("share", [1 / 3, 0.65, 0.9])
@pytest.mark.parametrize("number", [400, 4000])
def test_classes_that_were_exchanged_are_named_however_many_texts_are_neutral(
    share: float, number: int
) -> None:
    logits, labels = mostly_neutral(share, number)
    with pytest.raises(LabelsDisagreeError, match=r"negative were positive.*--map.*--labels"):
        check_agreement(probabilities(logits, 1.0), 2 - labels, name="moods.csv")


@pytest.mark.parametrize("bias", [(0.0, 0.0, 0.0), (0.0, -4.0, 3.0), (0.0, 8.0, 0.0)])
@pytest.mark.parametrize("number", [400, 4000])
def test_a_model_that_favours_a_class_is_no_such_case(bias: tuple[float, ...], number: int) -> None:
    logits, labels = mostly_neutral(0.9, number)
    said = probabilities(logits + np.array(bias), 1.0)
    if any(bias):
        assert (said.argmax(axis=1) == labels).mean() < 0.92
    check_agreement(said, labels, name="moods.csv")


def test_chance_is_as_often_as_labels_dealt_out_anew_say() -> None:
    logits, labels = mostly_neutral(0.65, 400)
    said = probabilities(logits, 1.0)
    generator = np.random.default_rng(6)
    dealt = [deviations(said, generator.permutation(labels)) for _ in range(2000)]
    assert np.mean(dealt) == pytest.approx(0, abs=0.1)
    assert np.std(dealt) == pytest.approx(1, abs=0.06)
    assert deviations(np.tile([0.1, 0.8, 0.1], (400, 1)), labels) == 0


def test_a_model_that_is_right_and_far_too_sure_is_no_such_case() -> None:
    logits, labels = sampled(60.0)
    fitted = fit_on_half(logits, labels, ALTERNATE, with_offsets=False, name="f")
    assert fitted.calibrated.log_loss < fitted.uncalibrated.log_loss / 2


def test_what_does_not_help_on_held_out_texts_is_not_kept() -> None:
    logits, labels = sampled(3.0)
    own = np.array(ALTERNATE.fitted)
    logits[own] /= 9  # one half wants to be more sure, the other less
    with pytest.raises(NoBetterError, match=r"2000 held-out texts .* nothing was changed") as caught:
        fit_on_half(logits, labels, ALTERNATE, with_offsets=False, name="f")
    assert "offsets" not in str(caught.value)
    with pytest.raises(
        NoBetterError, match=r"temperature 0\.\d+ and offsets negative [+-]\d.* neutral \+0\.00"
    ):
        fit_on_half(logits, labels, ALTERNATE, with_offsets=True, name="f")


def test_near_duplicates_and_targets_of_a_text_are_in_one_half() -> None:
    texts = distinct_texts(300)
    several = [*texts, *texts[:50], *(f"{text}!" for text in texts[50:100])]
    halves = cut_in_halves(several, [place % 3 for place in range(len(several))], name="f")
    own = set(halves.fitted)
    assert sorted((*halves.fitted, *halves.held_out)) == list(range(len(several)))
    assert all((place in own) == (place + 300 in own) for place in range(100))
    assert abs(len(halves.fitted) - len(halves.held_out)) < 40
    assert halves == cut_in_halves(several, [place % 3 for place in range(len(several))], name="f")


@pytest.mark.parametrize("number", [0, 20, 2 * MIN_HALF - 1])
def test_too_few_texts_are_refused_with_what_is_needed(number: int) -> None:
    with pytest.raises(
        CalibrationDataError, match=rf"m\.csv has {number} labelled .* needs {MIN_HALF} texts"
    ):
        cut_in_halves(distinct_texts(number), [place % 3 for place in range(number)], name="m.csv")


def test_a_class_that_hardly_occurs_is_refused_by_its_number() -> None:
    labels = [LABELS.index("positive") if place < 3 else place % 2 for place in range(600)]
    with pytest.raises(CalibrationDataError, match=rf"3 positive.*{MIN_OF_CLASS} of each class"):
        cut_in_halves(distinct_texts(600), labels, name="m.csv")


def test_one_report_in_a_hundred_words_cannot_be_held_out() -> None:
    texts = [f"the very same long report about the very same company, number {n}" for n in range(400)]
    with pytest.raises(CalibrationDataError, match="groups of near-duplicates"):
        cut_in_halves(texts, [place % 3 for place in range(400)], name="f")
