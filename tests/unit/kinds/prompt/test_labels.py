"""Answers are compared with labels as scikit-learn compares them."""

from __future__ import annotations

import json

import pytest
from sklearn.metrics import accuracy_score, f1_score

from kinds.prompt.columns import ColumnUnknownError, LabelsUnusableError, check_settings
from kinds.prompt.labels import LabelTally
from kinds.prompt.payload import PromptSettings


def settings(**changes: object) -> PromptSettings:
    values = {
        "template": "{{ text }}",
        "columns": ("text", "label"),
        "into": "text_2",
        "labels": "label",
        **changes,
    }
    return PromptSettings.model_validate(values)


def test_figures_are_those_of_scikit_learn_over_the_rows() -> None:
    pairs = [("a", "a"), ("a", "b"), ("b", "b"), ("c", "a"), ("a", "a"), ("b", "d")]
    tally = LabelTally(settings())
    for label, answer in pairs:
        tally.add({"label": label}, {"text_2": answer})
    true, guessed = zip(*pairs, strict=True)
    figures = tally.figures()
    assert figures.accuracy == pytest.approx(accuracy_score(true, guessed))
    f1 = f1_score(true, guessed, labels=["a", "b", "c"], average="macro", zero_division=0)
    assert figures.macro_f1 == pytest.approx(f1)
    assert ("a", "b", 1) in figures.confusions


def test_rows_without_a_label_or_an_answer_are_not_compared() -> None:
    tally = LabelTally(settings(choice=["1", "2"]))
    tally.add({"label": None}, {"text_2": "1"})
    tally.add({"label": 1}, None)
    tally.add({"label": 1}, {"text_2": "1"})
    tally.add({"label": "one"}, {"text_2": "1"})
    figures = tally.figures()
    assert (figures.num_compared, figures.num_unanswered, figures.accuracy) == (2, 1, 0.5)
    assert figures.strange_labels == ("one",)


def test_figures_without_rows_are_absent() -> None:
    assert LabelTally(settings()).figures().as_json()["accuracy"] is None


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"labels": "lable"}, ColumnUnknownError, "did you mean 'label'"),
        ({"template": "{{ text }} {{ label }}"}, LabelsUnusableError, "the model sees the right answer"),
        (
            {"json_schema": json.dumps({"type": "object", "properties": {"a": {}, "b": {}}})},
            LabelsUnusableError,
            "there are 2: 'a', 'b'",
        ),
        ({"column_names": {"text": "body"}}, ColumnUnknownError, "no column 'body' for 'text'"),
        ({"column_names": {"title": "text"}}, ColumnUnknownError, "reads nothing named 'title'"),
    ],
)
def test_columns_that_cannot_be_used_are_refused(
    changes: dict[str, object], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        check_settings(settings(**{"into": "answer", **changes}))
