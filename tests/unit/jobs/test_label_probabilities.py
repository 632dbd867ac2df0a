"""Answers of a classifier: a probability for each label, whatever the labels are."""

from __future__ import annotations

import pytest

from jobs.inference import LabelProbabilities, OtherLabelsError

ANSWER = LabelProbabilities(("positive", "negative", "neutral"), (0.5, 0.2, 0.3))


def test_labels_in_another_order_are_put_in_order() -> None:
    assert ANSWER.of(("negative", "neutral", "positive")) == (0.2, 0.3, 0.5)
    assert ANSWER.of(ANSWER.labels) is ANSWER.values


@pytest.mark.parametrize(
    "labels", [("negative", "positive"), ("negative", "neutral", "positive", "mixed"), ("a",)]
)
def test_other_labels_than_needed_are_refused_by_name(labels: tuple[str, ...]) -> None:
    with pytest.raises(
        OtherLabelsError, match=f"negative, neutral, but the required labels are {', '.join(labels)}"
    ):
        ANSWER.of(labels)


def test_label_that_a_model_does_not_have_is_refused_by_name() -> None:
    with pytest.raises(OtherLabelsError, match="required labels are spam"):
        ANSWER["spam"]
