"""Descriptions of a kind's pydantic models for users: columns, settings and an example file."""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from jobs.errors import ConfigurationError
from jobs.intake.columns import ID_COLUMN, Columns
from jobs.intake.payloads import read_lines
from jobs.kind import ROWS, Kind
from jobs.rejection import FileRejectedError, Rejected
from jobs.shown import json_text

NUM_EXAMPLE_LINES = 3

_FORMATS: Mapping[str, str] = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00",
    "duration": "PT1H",
    "uri": "https://example.com/",
    "email": "someone@example.com",
    "uuid": "5f0c7a52-6c8e-4f0e-9d0b-3f1f0f6f8b11",
}
"""An example text for each format of JSON Schema."""


class ExampleFormat(StrEnum):
    """Format of an example file."""

    CSV = "csv"
    JSONL = "jsonl"


class NoExampleError(ConfigurationError):
    """No line that intake accepts can be derived from a payload type."""

    code = "example_unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSchema:
    """One field of a payload or of settings."""

    name: str
    type: str
    """Type in words: "string", "integer or null", "'a' or 'b'"."""
    required: bool
    default: object
    """Default value; None if the field is required."""
    description: str

    def __str__(self) -> str:
        state = "required" if self.required else f"default {json_text(self.default)}"
        return f"{self.name} ({self.type}, {state})" + (f": {self.description}" if self.description else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputInfo:
    """An input of a kind: a file, or rows in memory."""

    name: str
    required: bool
    description: str

    def __str__(self) -> str:
        return f"{self.name} ({'required' if self.required else 'optional'}): {self.description}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KindInfo:
    """An installed kind: its inputs, and the settings that a batch of it may have."""

    name: str
    version: str
    summary: str
    """First paragraph of the docstring of the kind's class, as one line."""
    inputs: tuple[InputInfo, ...]
    """Inputs that batches are made from; empty if only the kind's own commands make batches."""
    default_model: str | None
    columns: tuple[FieldSchema, ...]
    """Columns of a table whose rows are jobs; empty for a kind that reads its inputs in a different way."""
    settings: tuple[FieldSchema, ...]
    """Settings that a submission may contain."""

    @classmethod
    def of(cls, kind: Kind[Any]) -> KindInfo:
        """Describe a kind."""
        intake = kind.intake
        return cls(
            name=kind.name,
            version=kind.version,
            summary=summary_of(kind),
            inputs=tuple(
                InputInfo(name=each.name, required=each.is_required, description=each.help.rstrip(";"))
                for each in (intake.inputs if intake else ())
            ),
            default_model=kind.default_model,
            columns=tuple(field_schemas(kind.payload_type)) if intake is ROWS else (),
            settings=tuple(field_schemas((intake and intake.options_type) or kind.settings_type)),
        )


def summary_of(kind: Kind[Any]) -> str:
    """Return the first paragraph of the docstring of a kind's class as one line."""
    paragraph, _, _ = (type(kind).__doc__ or "").strip().partition("\n\n")
    return " ".join(paragraph.split())


def field_schemas(model: type[BaseModel]) -> Iterator[FieldSchema]:
    """Yield the fields of a payload or settings type from its JSON Schema; there are none for a union of
    types."""
    schema = model.model_json_schema()
    for name, field in schema.get("properties", {}).items():
        yield FieldSchema(
            name=name,
            type=_type_words(field, schema),
            required=name in schema.get("required", ()),
            default=_default(model, name, field),
            description=str(field.get("description", "")),
        )


def _default(model: type[BaseModel], name: str, field: Mapping[str, Any]) -> object:
    """Return a field's default as JSON, or None if it has none; a default factory, which the schema omits, is
    called."""
    if "default" in field:
        return field["default"]
    for attribute, info in model.model_fields.items():
        if name in (attribute, info.alias) and info.default_factory is not None:
            return to_jsonable_python(info.get_default(call_default_factory=True, validated_data={}))
    return None


def _type_words(field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    field = _resolved(field, schema)
    choices = field.get("anyOf") or field.get("oneOf")
    if choices:
        return " or ".join(dict.fromkeys(_type_words(choice, schema) for choice in choices))
    if "enum" in field:
        return " or ".join(map(repr, field["enum"]))
    if "const" in field:
        return repr(field["const"])
    if field.get("type") == "array":
        return f"list of {_type_words(field.get('items', {}), schema)}"
    return str(field.get("format") or field.get("type") or "any value")


def _resolved(field: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the field merged with the definition that it refers to, resolving one level of reference."""
    reference = field.get("$ref")
    if reference is None and len(field.get("allOf", ())) == 1:
        reference = field["allOf"][0].get("$ref")
    if reference is None:
        return field
    return {**schema["$defs"][str(reference).rpartition("/")[2]], **field}


def example_file(kind: Kind[Any], format_: ExampleFormat) -> str:
    """Return a small example file that intake accepts, with as many columns as possible.

    The `examples` of a field are used if it has them. Raises NoExampleError, also for a kind whose jobs
    are not the rows of a table.
    """
    if kind.intake is not ROWS:
        raise NoExampleError(
            f"kind {kind.name} does not make its jobs from the rows of a table: `pressroom kinds show "
            f"{kind.name}` lists its inputs and commands"
        )
    schema = kind.payload_type.model_json_schema()
    needed = set(schema.get("required", ()))
    values = {
        name: [_example(field, schema, name, number) for number in range(NUM_EXAMPLE_LINES)]
        for name, field in schema.get("properties", {}).items()
    }
    while True:
        text = _rendered(values, Columns.of(kind.payload_type), format_)
        rejected = _rejected(kind, text, format_)
        if rejected is None:
            return text
        unfit = rejected.column
        if unfit not in values or unfit in needed:
            raise NoExampleError(
                f"no example of kind {kind.name} can be derived from its payload type: {rejected}. Give the "
                "fields `examples` that are valid together"
            )
        del values[unfit]


def _rejected(kind: Kind[Any], text: str, format_: ExampleFormat) -> Rejected | None:
    """Return the first line of an example that intake refuses, or None if it accepts all of them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"example.{format_}"
        path.write_text(text, encoding="utf-8")
        try:
            return next((line for line in read_lines(path, kind) if isinstance(line, Rejected)), None)
        except FileRejectedError as error:
            return error.rejected


def _rendered(values: Mapping[str, Sequence[object]], columns: Columns, format_: ExampleFormat) -> str:
    ids = [f"example-{number}" for number in range(1, NUM_EXAMPLE_LINES + 1)]
    lines = [
        {ID_COLUMN: id_, **{name: each[number] for name, each in values.items()}}
        for number, id_ in enumerate(ids)
    ]
    if format_ is ExampleFormat.JSONL:
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(lines[0])
    table.writerows([_cell(value, name in columns.lists) for name, value in line.items()] for line in lines)
    return file.getvalue()


def _cell(value: object, is_list: bool) -> object:
    if is_list and isinstance(value, list):
        return "; ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


def _example(field: Mapping[str, Any], schema: Mapping[str, Any], name: str, number: int) -> object:
    """Return a value of the field for a line; one of the schema's own examples if the field has any."""
    field = _resolved(field, schema)
    if examples := field.get("examples"):
        return examples[number % len(examples)]
    choices = field.get("anyOf") or field.get("oneOf")
    if choices:
        fitting = [choice for choice in choices if choice.get("type") != "null"]
        return _example(fitting[0], schema, name, number)
    if "enum" in field:
        return field["enum"][number % len(field["enum"])]
    if "const" in field:
        return field["const"]
    if field.get("default") not in (None, [], {}, ""):
        return field["default"]
    match field.get("type"):
        case "integer" | "number":
            return _number(field)
        case "boolean":
            return number % 2 == 0
        case "array":
            least = max(int(field.get("minItems", 1)), 1)
            return [_example(field.get("items", {}), schema, name, n) for n in range(least)]
        case "object":
            return {
                key: _example(each, schema, key, number) for key, each in field.get("properties", {}).items()
            }
    return _text(field, name, number)


def _number(field: Mapping[str, Any]) -> object:
    """Return an example number within the field's bounds, near the lower one.

    Without a lower bound, it is the field's `multipleOf` (1 if unset), or the upper bound if that is smaller.
    """
    step = field.get("multipleOf") or 1
    lower, upper = field.get("exclusiveMinimum"), field.get("maximum", field.get("exclusiveMaximum"))
    if "minimum" in field:
        return field["minimum"]
    if lower is not None:
        return lower + step if upper is None or lower + step < upper else (lower + upper) / 2
    return step if upper is None else min(step, upper)


def _text(field: Mapping[str, Any], name: str, number: int) -> str:
    if known := _FORMATS.get(str(field.get("format"))):
        return known
    text = f"{re.sub(r'[_-]+', ' ', name)} {number + 1}"
    least = int(field.get("minLength", 1))
    if len(text) < least:
        text = (f"{text}, " * (least // len(text) + 1))[:least]
    return text[: int(field.get("maxLength", len(text)))]
