"""The JSON schema of a batch: the new columns that it describes, and the fields of an answer."""

from __future__ import annotations

import json
from functools import lru_cache

from pydantic import JsonValue

from jobs.errors import InputError, PermanentError
from jobs.inference import Constraint
from jobs.intake.values import JsonRefusedError, parse
from jobs.rejection import quoted


class SchemaInvalidError(InputError):
    """The schema is no JSON schema of an object with properties."""

    code = "schema_invalid"


class AnswerInvalidError(PermanentError):
    """The model's answer is not a JSON object."""

    code = "answer_invalid"


@lru_cache(maxsize=64)
def schema_columns(source: str) -> tuple[str, ...]:
    """Return the names of the properties of a schema, in their order. Raises SchemaInvalidError.

    >>> schema_columns('{"type": "object", "properties": {"name": {}, "price": {}}}')
    ('name', 'price')
    """
    schema = _parsed(source)
    properties = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(properties, dict):
        raise SchemaInvalidError(
            'the schema must describe an object: write {"type": "object", "properties": {...}}'
        )
    if not properties:
        raise SchemaInvalidError("the schema has no properties: name each new column as a property")
    return tuple(properties)


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
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AnswerInvalidError(f"the answer is not JSON; it begins with {quoted(text)}") from error
    if not isinstance(value, dict):
        raise AnswerInvalidError(f"the answer is not a JSON object; it begins with {quoted(text)}")
    return value
