"""Labelled CSV files -> examples; each line that cannot be used is named with its number and reason."""

from __future__ import annotations

import ast
import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jobs.errors import InputError
from jobs.text.normalise import normalise
from jobs.training import LABELS, Label, LabelledFile

MAX_FIELD_CHARACTERS = 1_000_000
"""Python's csv has 131,072, and a document may be longer."""
MAX_TARGETS = 200
"""Of one text: a mapping that has more is no list of labels."""
MAX_SKIPPED_SHARE = 0.2
"""A file with more unusable lines was given with wrong columns or a wrong map."""


class TrainingDataError(InputError):
    """A labelled file cannot be trained on."""

    code = "training_data_invalid"


@dataclass(frozen=True, slots=True)
class Example:
    """A text, what it is about, and the right answer."""

    file: int
    """Which file of the order, from 0."""
    line: int
    """Of its record's first line; examples of one record share it."""
    text: str
    """As jobs.text.normalise leaves it."""
    target: str
    """Empty: the label is about the text as a whole."""
    label: int
    """Place in LABELS."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A line that was left out."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class LabelledData:
    """What a file held."""

    examples: tuple[Example, ...]
    skipped: tuple[Skipped, ...]


def read_labelled(body: bytes, file: LabelledFile, number: int = 0) -> LabelledData:
    """The examples of one CSV file; lines without text or with a label that the map lacks are skipped.

    Raises TrainingDataError if the digest is another, a column is missing, a label is in none of the lines,
    or more than MAX_SKIPPED_SHARE of the lines cannot be used.
    """
    digest = hashlib.sha256(body).hexdigest()
    if digest != file.sha256:
        raise TrainingDataError(
            f"{file.name} has sha256 {digest}, the order names {file.sha256}: it is another file"
        )
    examples: list[Example] = []
    skipped: list[Skipped] = []
    for line, row in _rows(body, file):
        text = normalise(row[file.text] or "")
        try:
            if not text:
                raise TrainingDataError("has no text")
            labels = _labels(row, file)
        except TrainingDataError as error:
            skipped.append(Skipped(line, str(error)))
            continue
        examples += [Example(number, line, text, target, LABELS.index(label)) for target, label in labels]
    _check(file, examples, skipped)
    return LabelledData(tuple(examples), tuple(skipped))


def _rows(body: bytes, file: LabelledFile) -> Iterator[tuple[int, Mapping[str, str | None]]]:
    """Each record with the number of its first line."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise TrainingDataError(f"{file.name}, line {line}: not UTF-8: save the file as UTF-8") from error
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="")
    columns = tuple(reader.fieldnames or ())
    for column in (file.text, file.label, file.target, file.targets):
        if column is not None and column not in columns:
            raise TrainingDataError(
                f"{file.name}, line 1: no column is named {column!r}: there are {', '.join(columns)}"
            )
    line = reader.line_num
    try:
        for row in reader:
            yield line + 1, row
            line = reader.line_num
    except csv.Error as error:
        raise TrainingDataError(f"{file.name}, line {line + 1}: {error}") from error


def _labels(row: Mapping[str, str | None], file: LabelledFile) -> list[tuple[str, Label]]:
    if file.targets is not None:
        pairs = _mapping(row[file.targets] or "")
        return [(normalise(target), _label(label, file)) for target, label in pairs.items()]
    target = normalise(row[file.target] or "") if file.target is not None else ""
    return [(target, _label(row[file.label or ""] or "", file))]


def _mapping(text: str) -> dict[str, str]:
    """`{"Acme": "positive"}` as JSON or as a Python literal; nothing of it is executed."""
    if len(text) > MAX_FIELD_CHARACTERS // 10:
        raise TrainingDataError(f"has {len(text)} characters of labels")
    try:
        value = json.loads(text)
    except ValueError:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise TrainingDataError("its labels are no mapping target -> label") from error
    if not isinstance(value, dict) or not 0 < len(value) <= MAX_TARGETS:
        raise TrainingDataError(f"its labels are no mapping of 1 to {MAX_TARGETS} targets")
    return {str(target): str(label) for target, label in value.items()}


def _label(text: str, file: LabelledFile) -> Label:
    given = text.strip()
    if file.map:
        if given in file.map:
            return file.map[given]
    elif (lower := given.lower()) in LABELS:
        return next(label for label in LABELS if label == lower)
    known = ", ".join(file.map or LABELS)
    raise TrainingDataError(f"its label {given[:40]!r} is none of {known}")


def _check(file: LabelledFile, examples: list[Example], skipped: list[Skipped]) -> None:
    num_lines = len({example.line for example in examples}) + len(skipped)
    if len(skipped) > MAX_SKIPPED_SHARE * num_lines or not examples:
        first = f"; line {skipped[0].line} {skipped[0].reason}" if skipped else ""
        raise TrainingDataError(
            f"{file.name}: {len(skipped)} of {num_lines} lines cannot be used{first}: correct the columns or "
            "the map"
        )
    absent = [label for place, label in enumerate(LABELS) if all(each.label != place for each in examples)]
    if absent:
        raise TrainingDataError(
            f"{file.name}: no line is labelled {' or '.join(absent)}: a classifier of three classes needs all"
        )
