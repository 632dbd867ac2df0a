"""Labelled texts of a CSV or JSONL file, one in memory at a time; each bad line is refused on its own."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import InputError
from jobs.guards import invalid_unicode_at
from jobs.intake_csv import DELIMITERS, read_csv_records
from jobs.intake_file import Line, read_physical_lines, refuse_file
from jobs.intake_json import JsonRefusedError, parse
from jobs.intake_records import JSON_SUFFIXES, Record
from jobs.rejection import Rejected
from jobs.training import LABELS, Label

MAX_TARGETS = 200
"""Of one text: a mapping that has more is no list of labels."""

MAX_MAPPING_CHARACTERS = 100_000

MAX_SHOWN = 40
"""Characters of a label that is refused."""


class LabelMapError(InputError):
    """`--map` does not say which label of the file is which class."""

    code = "label_map_invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelColumns:
    """Which column of the file is what."""

    text: str
    label: str | None = None
    target: str | None = None
    """What the label is about; None: the text as a whole."""
    targets: str | None = None
    """In place of label and target: a mapping target -> label, as JSON or a Python literal."""
    classes: Mapping[str, Label] | None = None
    """Label in the file -> class; None: the file says negative, neutral and positive, in any case."""


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text with the right answer."""

    id: str
    """`LINE`, or `LINE.NUMBER` where a line has several targets."""
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
    """`negative=0,neutral=2,positive=1` -> label in the file -> class. Raises LabelMapError.

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
    """Stream the labelled texts. Raises FileRejectedError for what makes the whole file unusable."""
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
        raise refuse_file(path, "file_empty", "holds no labelled text", "write one line for each text")


def _records(path: Path, columns: LabelColumns) -> Iterator[Record | Rejected]:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    is_json = bool(suffixes) and suffixes[-1] in JSON_SUFFIXES
    lines = read_physical_lines(path)
    return _json_records(path, lines) if is_json else _csv_records(path, lines, columns)


def _json_records(path: Path, lines: Iterator[Line]) -> Iterator[Record | Rejected]:
    for line in lines:
        record = Record(str(path), line.number, {})
        if line.is_too_large:
            yield record.reject("body_too_large", "is too long", "shorten the text")
        elif text := line.text.strip():
            try:
                value = parse(text)
            except JsonRefusedError as error:
                yield record.reject(error.code, error.reason, "write one JSON object a line", text=text)
                continue
            if isinstance(value, dict):
                yield Record(str(path), line.number, value)
            else:
                yield record.reject("json_invalid", "is not a JSON object", "write one object a line")


def _csv_records(path: Path, lines: Iterator[Line], columns: LabelColumns) -> Iterator[Record | Rejected]:
    header: list[str] | None = None
    for row in read_csv_records(lines):
        if not row.code and not any(cell.strip() for cell in row.cells):
            continue
        record = Record(str(path), row.line, {})
        if header is None:
            if row.code:
                raise refuse_file(path, row.code, f"the header {row.reason}", "write a line of column names")
            header = [cell.strip() for cell in row.cells]
            _check_header(path, header, columns)
        elif row.code:
            yield record.reject(row.code, row.reason, 'double each quote inside a quoted cell: ""')
        elif len(row.cells) != len(header):
            code = "csv_extra_cell" if len(row.cells) > len(header) else "csv_missing_cell"
            reason = f"has {len(row.cells)} cells, the header names {len(header)}"
            yield record.reject(code, reason, "quote cells that hold commas; leave absent ones empty")
        else:
            yield Record(str(path), row.line, dict(zip(header, row.cells, strict=True)))


def _check_header(path: Path, header: list[str], columns: LabelColumns) -> None:
    for column in (columns.text, columns.label, columns.target, columns.targets):
        if column is not None and column not in header:
            found = next((name for mark, name in DELIMITERS.items() if mark in header[0]), None)
            hint = f"; it seems to be separated by {found}" if found and len(header) == 1 else ""
            raise refuse_file(
                path,
                "missing_column",
                f"no column is named {column!r}: there are {', '.join(header)}{hint}",
                "name the columns with --text, --label and --target",
            )


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
    if isinstance(value, int) and not isinstance(value, bool):  # labels are often numbers in JSON
        return str(value)
    if not isinstance(value, str):
        raise _RefusedError("missing_column", "has no text there", "give it, or remove the line", column)
    if (at := invalid_unicode_at(value)) is not None:
        reason = f"holds what is no UTF-8 at character {at + 1}"
        raise _RefusedError("text_invalid_unicode", reason, "save the file as UTF-8", column)
    return value


def _mapping(value: object, columns: LabelColumns) -> list[tuple[str, str]]:
    """`{"Acme": "positive"}` as an object, as JSON or as a Python literal; nothing of it is executed."""
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
            "label_unknown", f"{text[:MAX_SHOWN]!r} is none of {known}", "give --map", column, text
        )
    return label
