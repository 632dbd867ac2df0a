"""The JSON schema of a batch: the new columns that it describes, and the fields of an answer."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from types import NoneType

from pydantic import JsonValue

from jobs.errors import InputError, PermanentError
from jobs.inference import Constraint
from jobs.intake.values import JsonRefusedError, parse
from jobs.rejection import quoted


class SchemaInvalidError(InputError):
    """The schema is no JSON schema of an object with properties."""

    code = "schema_invalid"


class AnswerInvalidError(PermanentError):
    """The model's answer is not a JSON object, or it contains a number that no double holds."""

    code = "answer_invalid"


_TYPES: dict[str, tuple[type, ...]] = {
    "null": (NoneType,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}
"""Python's types of the values that JSON schema calls by these names; a Boolean is no number in JSON."""


@dataclass(frozen=True, slots=True)
class SchemaField:
    """A property of a schema, as far as values can be compared with it without a grammar."""

    name: str
    types: tuple[str, ...]
    """Names of the types that the schema lists; empty if it lists none."""
    choices: tuple[object, ...] | None
    """Values of which the field has one; None if the schema lists none."""
    is_required: bool

    def allows(self, value: object) -> bool:
        """Return whether a value has one of the types and is one of the choices.

        >>> SchemaField("stars", ("integer",), None, True).allows("5")
        False
        """
        if self.choices is not None and not any(_is_same(value, choice) for choice in self.choices):
            return False
        return not self.types or any(_is_of_type(value, name) for name in self.types)


def _is_same(value: object, other: object) -> bool:
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _is_of_type(value: object, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES.get(name, (object,)))


@lru_cache(maxsize=64)
def schema_fields(source: str) -> tuple[SchemaField, ...]:
    """Return the properties of a schema, in their order. Raises SchemaInvalidError."""
    required = _parsed(source).get("required")
    return tuple(
        _field(name, schema, is_required=isinstance(required, list) and name in required)
        for name, schema in _properties(source).items()
    )


def _field(name: str, schema: object, *, is_required: bool) -> SchemaField:
    own = schema if isinstance(schema, dict) else {}
    types, choices = own.get("type"), own.get("enum")
    listed = [types] if isinstance(types, str) else types if isinstance(types, list) else []
    return SchemaField(
        name,
        tuple(each for each in listed if isinstance(each, str)),
        tuple(choices) if isinstance(choices, list) else None,
        is_required,
    )


@lru_cache(maxsize=64)
def schema_columns(source: str) -> tuple[str, ...]:
    """Return the names of the properties of a schema, in their order. Raises SchemaInvalidError.

    >>> schema_columns('{"type": "object", "properties": {"name": {}, "price": {}}}')
    ('name', 'price')
    """
    return tuple(_properties(source))


def _properties(source: str) -> dict[str, object]:
    schema = _parsed(source)
    properties = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(properties, dict):
        raise SchemaInvalidError(
            'the schema must describe an object: write {"type": "object", "properties": {...}}'
        )
    if not properties:
        raise SchemaInvalidError("the schema has no properties: name each new column as a property")
    return properties


@lru_cache(maxsize=64)
def schema_constraint(source: str) -> Constraint:
    """Return the constraint to a schema. Raises SchemaInvalidError."""
    return Constraint.of_schema(_parsed(source))


def _parsed(source: str) -> dict[str, object]:
    try:
        schema = parse(source)
    except JsonRefusedError as error:
        raise SchemaInvalidError(f"the schema is not JSON: {error} ({error.advice})") from error
    if not isinstance(schema, dict):
        raise SchemaInvalidError("the schema is not a JSON object")
    return schema


def answer_fields(text: str) -> dict[str, JsonValue]:
    """Return the fields of an answer. Raises AnswerInvalidError, which quotes the beginning of the text."""
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise AnswerInvalidError(f"the answer is not JSON; it begins with {quoted(text)}") from error
    if not isinstance(value, dict):
        raise AnswerInvalidError(f"the answer is not a JSON object; it begins with {quoted(text)}")
    return value


def _finite(literal: str) -> float:
    """Return the number of a literal, which JSON can represent again. Raises AnswerInvalidError."""
    number = float(literal)
    if not math.isfinite(number):
        raise AnswerInvalidError(
            f"the answer contains a number that is too large or not finite: {quoted(literal)} (give the "
            "property a minimum and a maximum in the schema)"
        )
    return number


def _integer(literal: str) -> int:
    _finite(literal)  # checked first, because int() raises another error for thousands of digits
    return int(literal)
