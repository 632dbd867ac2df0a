"""Labelled files become examples, and examples are split in whole groups of near-duplicates."""

from __future__ import annotations

import hashlib

import pytest
from pydantic import ValidationError

from kinds.classifier.labelled_texts import LABELS
from kinds.classifier.training.data import (
    MIN_PART,
    Example,
    LabelledData,
    Split,
    SplitError,
    TrainingDataError,
    near_duplicate_groups,
    read_labelled,
    split_examples,
)
from kinds.classifier.training_spec import LabelledFile

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
        (11, "column 'of': is not a mapping of 1 to 200 targets to labels")
    ]


def test_lines_are_counted_as_an_editor_does_where_a_field_has_line_ends() -> None:
    body = PLAIN + '"two\nlines",positive\n' + "last,odd\n" + PLAIN.partition("\n")[2] * 2
    data = read(body)
    assert data.examples[3].line == 5
    assert [(each.line, each.reason) for each in data.skipped] == [
        (7, "column 'label': 'odd' is none of negative, neutral, positive")
    ]


@pytest.mark.parametrize(
    ("body", "columns", "part"),
    [
        (PLAIN, {"text": "headline"}, "line 1: no column is named 'headline'; the file has 'text', 'label'"),
        (
            PLAIN,
            {"map": {"0": "negative"}},
            "3 of 3 lines cannot be used (the first is line 2, column 'label': 'positive'",
        ),
        (PLAIN.replace("neutral", "positive"), {}, "no line is labelled neutral"),
        ("text,label\n", {}, "contains no labelled texts"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(body: str, columns: dict[str, object], part: str) -> None:
    with pytest.raises(TrainingDataError) as refused:
        read(body, **columns)
    assert "a.csv" in str(refused.value)
    assert part in str(refused.value)


def test_another_file_under_the_name_is_refused() -> None:
    with pytest.raises(TrainingDataError, match="or correct the plan"):
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


WORDS = (
    *("copper", "tin", "wheat", "maize", "cotton", "rubber", "sugar", "coffee", "cocoa", "silver"),
    *("bonds", "yields", "rupee", "dollar", "euro", "banks", "steel", "autos", "drugs", "hotels"),
    *("airlines", "retail", "cement", "power", "telecom", "insurance", "shipping", "mining"),
)


def examples(number: int = 600, *, file: int = 0, copies: int = 1) -> list[Example]:
    made = []
    for n in range(number):
        text = f"{WORDS[n % 28]} {WORDS[n * 5 % 27]} {WORDS[n * 11 % 25]} {n * 7919}"
        made += [Example(file, n * copies + copy, f"{text} {copy}", "", n % 3) for copy in range(copies)]
    return made


def split(given: list[Example], *, seed: int = 1) -> Split:
    return split_examples(given, seed=seed, dev_share=0.1, test_share=0.2)


def test_near_duplicates_are_never_on_two_sides() -> None:
    drawn = split(examples(300, copies=3))
    sides: dict[str, set[str]] = {}
    for name, part in (("train", drawn.train), ("dev", drawn.dev), ("test", drawn.test)):
        for each in part:
            sides.setdefault(each.text.rpartition(" ")[0], set()).add(name)
    assert len(sides) == 300
    assert all(len(names) == 1 for names in sides.values())


def test_every_example_is_in_one_part_and_every_file_has_its_share() -> None:
    given = [*examples(600, file=0), *examples(300, file=1)]
    drawn = split(given)
    parts = [*drawn.train, *drawn.dev, *drawn.test]
    assert sorted(parts, key=lambda each: (each.file, each.line)) == given
    for file, number in ((0, 600), (1, 300)):
        tested = sum(each.file == file for each in drawn.test)
        assert 0.15 * number < tested < 0.3 * number


def test_examples_of_one_text_stay_together() -> None:
    given = [Example(0, n, each.text, target, n % 3) for n, each in enumerate(examples()) for target in "AB"]
    drawn = split(given)
    lines = [{each.line for each in part} for part in (drawn.train, drawn.dev, drawn.test)]
    assert not (lines[0] & lines[1])
    assert not (lines[0] & lines[2])
    assert not (lines[1] & lines[2])


def test_the_seed_alone_decides() -> None:
    assert split(examples()) == split(examples())
    assert split(examples()).test != split(examples(), seed=2).test


def test_too_few_texts_are_refused() -> None:
    with pytest.raises(SplitError, match=f"each part needs {MIN_PART}"):
        split(examples(100))


def test_similar_texts_are_connected_through_others() -> None:
    texts = [
        "Acme Steel profit rises 12 percent in the third quarter",
        "Acme Steel profit rises 14 percent in the third quarter",
        "Rains delay the sowing of winter wheat in the north",
        "Acme Steel profit rises 14 percent in the fourth quarter",
    ]
    assert near_duplicate_groups(texts) == [[0, 1, 3], [2]]
