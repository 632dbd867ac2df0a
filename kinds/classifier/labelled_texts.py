"""Reads labelled texts from a file, one line in memory at a time; unusable lines are refused individually."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from jobs.errors import InputError
from jobs.guards import invalid_unicode_at
from jobs.intake.columns import require_named, with_names
from jobs.intake.dialect import AS_FOUND, FileOptions
from jobs.intake.files import Opener, open_file, open_input
from jobs.intake.records import Record, invalid_unicode, opened_records, parsed
from jobs.intake.values import as_text
from jobs.rejection import FileRejectedError, Rejected, quoted, refuse_file

Label = Literal["negative", "neutral", "positive"]

LABELS: tuple[Label, ...] = ("negative", "neutral", "positive")
"""Labels in the order of a trained model's outputs."""

MAX_TARGETS = 200
"""Maximum number of targets of one text; a larger mapping is assumed not to contain labels."""

MAX_MAPPING_CHARACTERS = 100_000

FILE_EMPTY = "file_empty"
"""Code of the error about a file without records."""

_ADVICE = "name the columns with --text, --label, --target or --targets"


class LabelMapError(InputError):
    """The value of `--map` does not map labels of the file to classes."""

    code = "label_map_invalid"


class LabelColumns(BaseModel):
    """The meaning of a labelled file's columns."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    text: str
    """Column with the text."""
    label: str | None = None
    """Column with the label; None if `targets` has the labels."""
    target: str | None = None
    """Column with the entity that the label is about; None if the label is about the text as a whole."""
    targets: str | None = None
    """Column with a mapping target -> label as JSON or a Python literal; each pair is one example."""
    map: Mapping[str, Label] = Field(default_factory=dict)
    """Mapping from a label in the file to its class; empty if the labels are negative, neutral and positive,
    in upper or lower case."""

    @model_validator(mode="after")
    def _one_way_to_label(self) -> LabelColumns:
        if (self.label is None) == (self.targets is None) or (self.target and self.targets):
            raise ValueError(
                "name either a label column, with or without a target column, or a targets column"
            )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledInput:
    """A labelled file with its columns and format, as given on a command line."""

    path: Path
    columns: LabelColumns
    options: FileOptions = AS_FOUND

    def texts(self) -> Iterator[LabelledText | Rejected]:
        """Stream the labelled texts and the refused lines. Raises FileRejectedError."""
        return read_labelled_texts(self.path, self.columns, self.options)


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text with its true label."""

    id: str
    """The line number, or `LINE.NUMBER` if the targets come from a mapping, with NUMBER counted from 0."""
    text: str
    target: str
    """Entity that the label is about; empty if the label is about the text as a whole."""
    label: Label

    @property
    def line(self) -> int:
        """Return the number of the record's first line; texts of one record share it."""
        return int(self.id.partition(".")[0])


class _RefusedError(Exception):
    def __init__(
        self, code: str, reason: str, advice: str, column: str | None = None, text: str = ""
    ) -> None:
        super().__init__(reason)
        self.code, self.reason, self.advice, self.column, self.text = code, reason, advice, column, text


def parse_label_map(text: str) -> dict[str, Label]:
    """Parse `negative=0,neutral=2,positive=1` into a mapping from label to class. Raises LabelMapError.

    Several labels can belong to one class.

    >>> parse_label_map("negative=0, neutral=2, positive=1")
    {'0': 'negative', '2': 'neutral', '1': 'positive'}
    """
    classes: dict[str, Label] = {}
    for part in text.split(","):
        name, equals, value = (each.strip() for each in part.partition("="))
        label = _class_of(name)
        if label is None or not equals or not value:
            raise LabelMapError(
                f"{part.strip()!r} is not of the form CLASS=LABEL, where CLASS is one of "
                f"{', '.join(LABELS)}: write for example negative=0,neutral=2,positive=1"
            )
        if value in classes:
            raise LabelMapError(
                f"{part.strip()!r} is not a valid CLASS=LABEL, because the label {value!r} already belongs "
                f"to {classes[value]}: give each label once"
            )
        classes[value] = label
    return classes


def read_labelled_texts(
    path: Path, columns: LabelColumns, options: FileOptions = AS_FOUND, opener: Opener = open_input
) -> Iterator[LabelledText | Rejected]:
    """Stream the labelled texts and the refused lines.

    `opener` opens the file; apart from that, only the name of `path` is used. Raises FileRejectedError if the
    whole file is unusable.
    """
    num_records = 0
    for record in _records(path, columns, options, opener):
        num_records += 1
        if isinstance(record, Rejected):
            yield record
            continue
        try:
            texts = list(_texts(record, columns))
        except _RefusedError as error:
            yield record.reject(error.code, error.reason, error.advice, error.column, error.text or None)
            continue
        yield from texts
    if not num_records:
        raise _empty(path)


def _records(
    path: Path, columns: LabelColumns, options: FileOptions, opener: Opener
) -> Iterator[Record | Rejected]:
    named = (columns.text, columns.label, columns.target, columns.targets)
    required = [column for column in named if column is not None]
    try:
        with open_file(path, options, opener) as file:
            for unparsed in opened_records(file, lambda names: require_named(names, required, _ADVICE)):
                record = unparsed if isinstance(unparsed, Rejected) else parsed(str(path), unparsed)
                if isinstance(record, Rejected):
                    yield record
                else:
                    line, fields = record
                    yield Record(str(path), line, with_names(fields, required))
    except FileRejectedError as error:
        if error.code != "file_header_only":
            raise
        raise _empty(path) from error


def _empty(path: Path) -> FileRejectedError:
    return refuse_file(path, FILE_EMPTY, "has no labelled texts", "write one line for each text")


def _texts(record: Record, columns: LabelColumns) -> Iterator[LabelledText]:
    text = _string(record, columns.text)
    if not text.strip():
        raise _RefusedError("text_empty", "has no text", "write one, or remove the line", columns.text)
    if columns.targets is None:
        label = _label(_string(record, columns.label or ""), columns, columns.label)
        target = _string(record, columns.target) if columns.target else ""
        yield LabelledText(str(record.line), text, target, label)
        return
    labels = _labels_of_targets(record.fields.get(columns.targets), columns.targets)
    for number, (target, label_text) in enumerate(labels):
        yield LabelledText(
            f"{record.line}.{number}", text, target, _label(label_text, columns, columns.targets)
        )


def _string(record: Record, column: str) -> str:
    value = record.fields.get(column)
    if isinstance(value, int | float) and not isinstance(value, bool):  # labels are often numbers
        value = as_text(value)
    if not isinstance(value, str):
        raise _RefusedError(
            "missing_column", "has no text in this column", "add it, or remove the line", column
        )
    if (at := invalid_unicode_at(value)) is not None:
        reason, advice = invalid_unicode(value, at)
        raise _RefusedError("text_invalid_unicode", reason, advice, column)
    return value


def _labels_of_targets(value: object, column: str) -> list[tuple[str, str]]:
    """Return the pairs of a mapping such as `{"Acme": "positive"}`.

    The value can be an object, JSON text, or a Python literal, which is parsed but not executed.
    """
    if isinstance(value, str):
        value = _literal(value)
    if not isinstance(value, dict) or not 0 < len(value) <= MAX_TARGETS:
        reason = f"is not a mapping of 1 to {MAX_TARGETS} targets to labels"
        raise _RefusedError("targets_invalid", reason, 'write {"Acme": "positive"}', column)
    return [(str(target), str(label)) for target, label in value.items()]


def _literal(text: str) -> object:
    if len(text) > MAX_MAPPING_CHARACTERS:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None


def _class_of(text: str) -> Label | None:
    return next((label for label in LABELS if label == text.lower()), None)


def _label(text: str, columns: LabelColumns, column: str | None) -> Label:
    text = text.strip()
    label = columns.map.get(text) if columns.map else _class_of(text)
    if label is None:
        known = ", ".join(columns.map or LABELS)
        reason = f"{quoted(text)} is none of {known}"
        raise _RefusedError(
            "label_unknown", reason, "map the labels of the file to classes with --map", column, text
        )
    return label
