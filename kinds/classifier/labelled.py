"""Streams the labelled texts of a file, one in memory at a time; each bad line is refused individually."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import InputError
from jobs.guards import invalid_unicode_at
from jobs.intake.columns import require_named, with_names
from jobs.intake.dialect import AS_FOUND, FileOptions
from jobs.intake.records import Record, file_records
from jobs.intake.values import as_text
from jobs.rejection import FileRejectedError, Rejected, refuse_file, snippet
from kinds.classifier.order import LABELS, Label

MAX_TARGETS = 200
"""Maximum number of targets of one text; a mapping with more is not a list of labels."""

MAX_MAPPING_CHARACTERS = 100_000

MAX_SHOWN = 40
"""Maximum length of a refused label in a message, in characters."""

_ADVICE = "name the columns with --text, --label and --target"


class LabelMapError(InputError):
    """The value of `--map` does not map labels of the file to classes."""

    code = "label_map_invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelColumns:
    """The meaning of the file's columns."""

    text: str
    label: str | None = None
    target: str | None = None
    """Column with what the label is about; None: the text as a whole."""
    targets: str | None = None
    """Column that replaces label and target: a mapping target -> label, as JSON or a Python literal."""
    classes: Mapping[str, Label] | None = None
    """Mapping from a label in the file to its class; None: negative, neutral and positive, in upper or lower
    case."""
    file: FileOptions = AS_FOUND
    """Options for reading the file."""


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text with its true label."""

    id: str
    """`LINE`, or `LINE.NUMBER` if the targets come from a mapping."""
    text: str
    target: str
    label: Label


class _RefusedError(Exception):
    def __init__(
        self, code: str, reason: str, advice: str, column: str | None = None, text: str = ""
    ) -> None:
        super().__init__(reason)
        self.code, self.reason, self.advice, self.column, self.text = code, reason, advice, column, text


def parse_label_map(text: str) -> dict[str, Label]:
    """Parse `negative=0,neutral=2,positive=1` to a mapping from label to class. Raises LabelMapError.

    >>> parse_label_map("negative=0, neutral=2, positive=1")["2"]
    'neutral'
    """
    classes: dict[str, Label] = {}
    for part in text.split(","):
        name, equals, given = (each.strip() for each in part.partition("="))
        label = next((each for each in LABELS if each == name.lower()), None)
        if label is None or not equals or not given or given in classes:
            raise LabelMapError(
                f"{part.strip()!r} is not CLASS=LABEL: write for example negative=0,neutral=2,positive=1"
            )
        classes[given] = label
    return classes


def read_labelled_texts(path: Path, columns: LabelColumns) -> Iterator[LabelledText | Rejected]:
    """Stream the labelled texts and the refused lines. Raises FileRejectedError if the file is unusable."""
    num_records = 0
    for record in _records(path, columns):
        num_records += 1
        if isinstance(record, Rejected):
            yield record
            continue
        try:
            found = list(_texts(record, columns))
        except _RefusedError as error:
            yield record.reject(error.code, error.reason, error.advice, error.column, error.text or None)
            continue
        yield from found
    if not num_records:
        raise _empty(path)


def _records(path: Path, columns: LabelColumns) -> Iterator[Record | Rejected]:
    named = (columns.text, columns.label, columns.target, columns.targets)
    wanted = [column for column in named if column is not None]
    try:
        for record in file_records(path, lambda names: require_named(names, wanted, _ADVICE), columns.file):
            if isinstance(record, Rejected):
                yield record
            else:
                line, fields = record
                yield Record(str(path), line, with_names(fields, wanted))
    except FileRejectedError as error:
        if error.code != "file_header_only":
            raise
        raise _empty(path) from error


def _empty(path: Path) -> FileRejectedError:
    return refuse_file(path, "file_empty", "holds no labelled text", "write one line for each text")


def _texts(record: Record, columns: LabelColumns) -> Iterator[LabelledText]:
    text = _string(record, columns.text)
    if not text.strip():
        raise _RefusedError("text_empty", "has no text", "write one, or remove the line", columns.text)
    if columns.targets is None:
        label = _label(_string(record, columns.label or ""), columns, columns.label)
        target = _string(record, columns.target) if columns.target else ""
        yield LabelledText(str(record.line), text, target, label)
        return
    for number, (target, given) in enumerate(_mapping(record.fields.get(columns.targets), columns)):
        yield LabelledText(f"{record.line}.{number}", text, target, _label(given, columns, columns.targets))


def _string(record: Record, column: str) -> str:
    value = record.fields.get(column)
    if isinstance(value, int | float) and not isinstance(value, bool):  # labels are often numbers
        value = as_text(value)
    if not isinstance(value, str):
        raise _RefusedError("missing_column", "has no text there", "give it, or remove the line", column)
    if (at := invalid_unicode_at(value)) is not None:
        reason = f"holds what is no UTF-8 at character {at + 1}"
        raise _RefusedError("text_invalid_unicode", reason, "save the file as UTF-8", column)
    return value


def _mapping(value: object, columns: LabelColumns) -> list[tuple[str, str]]:
    """Return the pairs of a mapping such as `{"Acme": "positive"}`.

    The mapping is an object, JSON or a Python literal; none of it is executed.
    """
    if isinstance(value, str):
        value = _literal(value)
    if not isinstance(value, dict) or not 0 < len(value) <= MAX_TARGETS:
        reason = f"is no mapping of 1 to {MAX_TARGETS} targets to labels"
        raise _RefusedError("targets_invalid", reason, 'write {"Acme": "positive"}', columns.targets)
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


def _label(given: str, columns: LabelColumns, column: str | None) -> Label:
    text = given.strip()
    if columns.classes is not None:
        label = columns.classes.get(text)
    else:
        label = next((each for each in LABELS if each == text.lower()), None)
    if label is None:
        known = ", ".join(columns.classes or LABELS)
        raise _RefusedError(
            "label_unknown", f"{snippet(text)!r} is none of {known}", "give --map", column, text
        )
    return label
