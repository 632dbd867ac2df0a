"""Labelled CSV files: every usable line becomes examples, every other one is named."""

from __future__ import annotations

import hashlib

import pytest
from pydantic import ValidationError

from kinds.classifier.order import LABELS, LabelledFile
from kinds.classifier.training.data import LabelledData, TrainingDataError, read_labelled

PLAIN = "text,label\nprofit rises,positive\nprofit falls,negative\nprofit holds,neutral\n"


def labelled(body: str, **columns: object) -> LabelledFile:
    given = {"text": "text", "label": "label", **columns}
    digest = hashlib.sha256(body.encode()).hexdigest()
    return LabelledFile.model_validate({"name": "a.csv", "sha256": digest, **given})


def read(body: str, **columns: object) -> LabelledData:
    return read_labelled(body.encode(), labelled(body, **columns))


def test_each_line_becomes_an_example_with_its_class() -> None:
    data = read(PLAIN)
    assert [(each.line, LABELS[each.label]) for each in data.examples] == [
        (2, "positive"),
        (3, "negative"),
        (4, "neutral"),
    ]
    assert data.skipped == ()


def test_a_map_translates_the_labels_of_the_file() -> None:
    body = "text,label\nup,1\ndown, 0\nflat,2\n"
    data = read(body, map={"0": "negative", "1": "positive", "2": "neutral"})
    assert [LABELS[each.label] for each in data.examples] == ["positive", "negative", "neutral"]


@pytest.mark.parametrize(
    "mapping", ["{'A': 'positive', 'B': 'negative'}", '{"A": "positive", "B": "negative"}']
)
def test_a_mapping_column_gives_one_example_for_each_target(mapping: str) -> None:
    quoted = mapping.replace('"', '""')
    data = read(f"text,of\nA beats B,\"{quoted}\"\nC waits,{{'C': 'neutral'}}\n", label=None, targets="of")
    assert [(each.target, LABELS[each.label]) for each in data.examples] == [
        ("A", "positive"),
        ("B", "negative"),
        ("C", "neutral"),
    ]
    assert data.examples[0].line == data.examples[1].line == 2


def test_a_mapping_that_would_run_code_is_only_text() -> None:
    rows = "\n".join(f"{label} {n},{{'A': '{label}'}}" for n in range(3) for label in LABELS)
    data = read(f"text,of\n{rows}\nbad,__import__('os').getcwd()\n", label=None, targets="of")
    assert [(each.line, each.reason) for each in data.skipped] == [
        (11, "its labels are no mapping target -> label")
    ]


def test_lines_are_counted_as_an_editor_does_where_a_field_has_line_ends() -> None:
    body = PLAIN + '"two\nlines",positive\n' + "last,odd\n" + PLAIN.partition("\n")[2] * 2
    data = read(body)
    assert data.examples[3].line == 5
    assert [(each.line, each.reason) for each in data.skipped] == [
        (7, "its label 'odd' is none of negative, neutral, positive")
    ]


@pytest.mark.parametrize(
    ("body", "columns", "part"),
    [
        (PLAIN, {"text": "headline"}, "line 1: no column is named 'headline'; the file has text, label"),
        (PLAIN, {"map": {"0": "negative"}}, "3 of 3 lines cannot be used; line 2 its label 'positive'"),
        (PLAIN.replace("neutral", "positive"), {}, "no line is labelled neutral"),
        ("text,label\n", {}, "0 of 0 lines"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(body: str, columns: dict[str, object], part: str) -> None:
    with pytest.raises(TrainingDataError) as refused:
        read(body, **columns)
    assert "a.csv" in str(refused.value)
    assert part in str(refused.value)


def test_another_file_under_the_name_is_refused() -> None:
    with pytest.raises(TrainingDataError, match="it is another file"):
        read_labelled(PLAIN.encode() + b"more,positive\n", labelled(PLAIN))


def test_bytes_that_are_no_utf8_are_refused_with_their_line() -> None:
    body = PLAIN.encode() + b"caf\xe9,positive\n"
    file = labelled(PLAIN).model_copy(update={"sha256": hashlib.sha256(body).hexdigest()})
    with pytest.raises(TrainingDataError, match="line 5: not UTF-8"):
        read_labelled(body, file)


@pytest.mark.parametrize(
    "columns", [{"label": None}, {"targets": "of"}, {"label": None, "target": "a", "targets": "b"}]
)
def test_a_file_has_one_way_to_its_labels(columns: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="either a label column"):
        labelled(PLAIN, **columns)
