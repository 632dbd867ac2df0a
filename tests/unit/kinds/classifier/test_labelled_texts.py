"""Labelled files: which lines are used, which are refused and why."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from jobs.rejection import FileRejectedError, Rejected
from kinds.classifier.labelled_texts import (
    LabelColumns,
    LabelledText,
    LabelMapError,
    parse_label_map,
    read_labelled_texts,
)

COLUMNS = LabelColumns(text="title", label="mood")


def read(path: Path, body: str | bytes, columns: LabelColumns = COLUMNS) -> list[LabelledText | Rejected]:
    path.write_bytes(body.encode() if isinstance(body, str) else body)
    return list(read_labelled_texts(path, columns))


def codes(found: list[LabelledText | Rejected]) -> list[tuple[int, str]]:
    return [(one.line, one.code) for one in found if isinstance(one, Rejected)]


def test_lines_of_csv_and_jsonl_give_the_same_texts(tmp_path: Path) -> None:
    csv = read(tmp_path / "a.csv", 'title,mood\n"Up, and away",Positive\nDown,negative\n')
    lines = [{"title": "Up, and away", "mood": "Positive"}, {"title": "Down", "mood": "negative"}]
    jsonl = read(tmp_path / "a.jsonl", "\n" + "\n".join(map(json.dumps, lines)))
    assert csv == jsonl
    assert [(one.id, one.text, one.label) for one in csv if isinstance(one, LabelledText)] == [
        ("2", "Up, and away", "positive"),
        ("3", "Down", "negative"),
    ]


def test_a_class_that_a_column_of_floats_holds_is_a_whole_number(tmp_path: Path) -> None:
    columns = LabelColumns(text="title", label="mood", map=parse_label_map("negative=0,neutral=2,positive=1"))
    body = '{"title": "Up", "mood": 1.0}\n{"title": "Down", "mood": 0}\n{"title": "Odd", "mood": 1.5}\n'
    texts = read(tmp_path / "a.jsonl", body, columns)
    assert [text.label for text in texts if isinstance(text, LabelledText)] == ["positive", "negative"]
    assert codes(texts) == [(3, "label_unknown")]


def test_gzip_is_read(tmp_path: Path) -> None:
    assert len(read(tmp_path / "a.csv.gz", gzip.compress(b"title,mood\nUp,positive\n"))) == 1


def test_bad_lines_are_refused_with_their_number_and_the_others_are_used(tmp_path: Path) -> None:
    body = "title,mood\nUp,positive\n,neutral\nDown,bearish\nFlat,neutral,extra\nFlat\n\nB\xad,negative\n"
    found = read(tmp_path / "a.csv", body.encode("latin-1"))
    assert codes(found) == [
        (3, "text_empty"),
        (4, "label_unknown"),
        (5, "csv_extra_cell"),
        (6, "csv_missing_cell"),
        (8, "text_invalid_unicode"),
    ]
    assert len(found) == 6


def test_bad_json_lines_are_refused_alone(tmp_path: Path) -> None:
    good = '{"title": "Up", "mood": 1}'
    lines = [
        "{",
        "[1]",
        '{"title": "Up"}',
        '{"title": null, "mood": 1}',
        '{"title": "Up", "mood": true}',
        good,
    ]
    columns = LabelColumns(text="title", label="mood", map=parse_label_map("positive=1,negative=0"))
    found = read(tmp_path / "a.jsonl", "\n".join(lines), columns)
    assert [line for line, _ in codes(found)] == [1, 2, 3, 4, 5]
    assert found[-1] == LabelledText("6", "Up", "", "positive")


def test_a_line_with_several_targets_is_several_texts(tmp_path: Path) -> None:
    columns = LabelColumns(text="title", targets="moods")
    body = "title,moods\nA up B down,\"{'A': 'positive', 'B': 'negative'}\"\nC,\"{1: __import__('os')}\"\n"
    found = read(tmp_path / "a.csv", body, columns)
    assert found[:2] == [
        LabelledText("2.0", "A up B down", "A", "positive"),
        LabelledText("2.1", "A up B down", "B", "negative"),
    ]
    assert codes(found) == [(3, "targets_invalid")]


@pytest.mark.parametrize(
    ("name", "body", "code"),
    [
        ("a.csv", "headline,mood\nUp,positive\n", "missing_column"),
        ("a.csv", "", "file_empty"),
        ("a.csv", "title,mood\n", "file_empty"),
        ("a.jsonl", "\n\n", "file_empty"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_whole(tmp_path: Path, name: str, body: str, code: str) -> None:
    with pytest.raises(FileRejectedError) as raised:
        read(tmp_path / name, body)
    assert raised.value.code == code


@pytest.mark.parametrize("text", ["", "negative", "negative=", "bad=0", "negative=0,neutral=0"])
def test_a_label_map_says_which_label_is_which_class(text: str) -> None:
    with pytest.raises(LabelMapError):
        parse_label_map(text)


def test_a_class_may_have_several_labels() -> None:
    assert parse_label_map("negative=0,negative=1") == {"0": "negative", "1": "negative"}
