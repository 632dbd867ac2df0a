"""Reads labelled files into examples; each unusable line is reported with its number and reason."""

from __future__ import annotations

import ast
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import InputError
from jobs.guards import invalid_unicode_at
from jobs.intake.columns import require_named, with_names
from jobs.intake.dialect import FileOptions
from jobs.intake.files import open_file
from jobs.intake.records import opened_records, parsed
from jobs.intake.values import as_text
from jobs.rejection import FileRejectedError, Rejected
from jobs.text.plain import normalise
from kinds.classifier.order import LABELS, Label, LabelledFile

MAX_MAPPING_CHARACTERS = 100_000
MAX_TARGETS = 200
"""Maximum number of targets of one text; a mapping with more is not a list of labels."""

_ADVICE = "name the columns with --text, --label, --target or --targets"


class TrainingDataError(InputError):
    """A labelled file cannot be used for training."""

    code = "training_data_invalid"


@dataclass(frozen=True, slots=True)
class Example:
    """A text with its target and its true label."""

    file: int
    """Index of the file in the order, from 0."""
    line: int
    """Number of the record's first line; examples of one record share it."""
    text: str
    """Text, normalised by jobs.text.plain."""
    target: str
    """What the label is about; empty: the text as a whole."""
    label: int
    """Index of the label in LABELS."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A line that was left out."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class LabelledData:
    """Content of a labelled file."""

    examples: tuple[Example, ...]
    skipped: tuple[Skipped, ...]


def read_labelled(body: bytes, file: LabelledFile, number: int = 0) -> LabelledData:
    """Return the examples of one file; lines without text or with an unmapped label are skipped.

    Raises TrainingDataError if the digest does not match, a column is missing, no line has one of the labels,
    or more lines are unusable than the file's entry in the order allows.
    """
    digest = hashlib.sha256(body).hexdigest()
    if digest != file.sha256:
        raise TrainingDataError(
            f"{file.name} has sha256 {digest}, the order names {file.sha256}: it is another file"
        )
    examples: list[Example] = []
    skipped: list[Skipped] = []
    for line, row in _rows(body, file):
        try:
            if isinstance(row, Rejected):
                raise TrainingDataError(row.reason)
            text = normalise(_text(row, file.text))
            if not text:
                raise TrainingDataError("has no text")
            labels = _labels(row, file)
        except TrainingDataError as error:
            skipped.append(Skipped(line, str(error)))
            continue
        examples += [Example(number, line, text, target, LABELS.index(label)) for target, label in labels]
    _check(file, examples, skipped)
    return LabelledData(tuple(examples), tuple(skipped))


def _rows(body: bytes, file: LabelledFile) -> Iterator[tuple[int, Mapping[str, object] | Rejected]]:
    """Yield each record with the number of its first line."""
    options = FileOptions(delimiter=file.delimiter, encoding=file.encoding)
    wanted = [each for each in (file.text, file.label, file.target, file.targets) if each is not None]
    try:
        with open_file(Path(file.name), options, lambda _: io.BufferedReader(io.BytesIO(body))) as opened:
            for unparsed in opened_records(opened, lambda names: require_named(names, wanted, _ADVICE)):
                record = unparsed if isinstance(unparsed, Rejected) else parsed(file.name, unparsed)
                if isinstance(record, Rejected):
                    yield record.line, record
                else:
                    yield record[0], with_names(record[1], wanted)
    except FileRejectedError as error:
        if error.code == "file_header_only":
            return
        refused = error.rejected
        reason = f"{refused.reason.removeprefix('is ')} ({refused.advice})"
        raise TrainingDataError(f"{file.name}, line {refused.line}: {reason}") from error


def _text(row: Mapping[str, object], column: str | None) -> str:
    """Return the value of a column as text; numbers of JSON and Parquet are converted.

    Raises TrainingDataError if it is not a text or not valid Unicode.
    """
    text = as_text(row.get(column or ""))
    at = None if text is None else invalid_unicode_at(text)
    if text is None:
        raise TrainingDataError(f"its {column} is no text")
    if at is not None:
        raise TrainingDataError(f"is no UTF-8 at character {at + 1}")
    return text


def _labels(row: Mapping[str, object], file: LabelledFile) -> list[tuple[str, Label]]:
    if file.targets is not None:
        given = row.get(file.targets)
        pairs = _checked(given) if isinstance(given, dict) else _mapping(_text(row, file.targets))
        return [(normalise(target), _label(label, file)) for target, label in pairs.items()]
    target = normalise(_text(row, file.target)) if file.target is not None else ""
    return [(target, _label(_text(row, file.label), file))]


def _mapping(text: str) -> dict[str, str]:
    """Parse a mapping such as `{"Acme": "positive"}` from JSON or a Python literal, executing none of it."""
    if len(text) > MAX_MAPPING_CHARACTERS:
        raise TrainingDataError(f"has {len(text)} characters of labels")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise TrainingDataError("its labels are no mapping target -> label") from error
    return _checked(value)


def _checked(value: object) -> dict[str, str]:
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
    if len(skipped) > file.max_dropped_share * num_lines or not examples:
        first = f"; line {skipped[0].line} {skipped[0].reason}" if skipped else ""
        raise TrainingDataError(
            f"{file.name}: {len(skipped)} of {num_lines} lines cannot be used{first}: correct the columns or "
            "the map, or allow it with max_dropped_share in the plan"
        )
    absent = [label for place, label in enumerate(LABELS) if all(each.label != place for each in examples)]
    if absent:
        raise TrainingDataError(
            f"{file.name}: no line is labelled {' or '.join(absent)}: a classifier of three classes needs all"
        )
