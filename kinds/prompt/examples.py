"""Examples: rows with known answers, some of which are put into the prompt of each row before its own turn.

All examples of a batch are stored once, as a resource with their rendered turns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress

from pydantic import BaseModel, ConfigDict, TypeAdapter

from jobs.errors import InputError
from jobs.inference import Message
from jobs.intake.values import JsonRefusedError, parse
from jobs.kind import Parent
from jobs.provenance import payload_digest
from jobs.rejection import quoted
from kinds.prompt.payload import PromptSettings
from kinds.prompt.row import template_of
from kinds.prompt.schema import SchemaField, schema_columns, schema_fields

MAX_EXAMPLES = 5_000
"""Maximum number of examples. A worker embeds so many in about a minute on two cores, and more examples than
that call for a classifier of one's own."""

MAX_EXAMPLES_CHARACTERS = 2**24
"""Maximum length of all turns and answers together, because each worker process keeps them in memory."""

ROLE = "example"
"""Role of an example in the statement of a result."""


class ExampleInvalidError(InputError):
    """An example has no answer, or one that the settings of the batch do not allow."""

    code = "example_invalid"


class Example(BaseModel):
    """The user's turn of a row whose answer is known, and the answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Id of the row in the examples file, or `line-N` if it has none."""
    turn: str
    answer: str

    @classmethod
    def of(cls, name: str, row: Mapping[str, object], settings: PromptSettings) -> Example:
        """Return the example in a row with columns for the answer.

        Raises TemplateError, or ExampleInvalidError for an answer that is missing or not allowed.
        """
        turn = template_of(settings).messages(row)[-1].content
        return cls(name=name, turn=turn, answer=_answer(row, settings))

    def messages(self) -> tuple[Message, Message]:
        """Return the turns of the example."""
        return Message("user", self.turn), Message("assistant", self.answer)

    def parent(self) -> Parent:
        """Return the example as an input of a result."""
        return Parent(ROLE, self.name, payload_digest({"turn": self.turn, "answer": self.answer}))


class ExampleMetrics(BaseModel):
    """The examples in the prompt of a row, as the metrics of its job list them."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    examples: tuple[str, ...] = ()
    """Names of the examples, in their order in the prompt."""
    num_examples_left_out: int = 0
    """Number of near examples that did not fit into the model's context."""


_EXAMPLES = TypeAdapter(tuple[Example, ...])


def example_bytes(examples: Sequence[Example]) -> bytes:
    """Return the examples as JSON, for storing them."""
    return _EXAMPLES.dump_json(tuple(examples))


def read_examples(body: bytes) -> tuple[Example, ...]:
    """Return the examples that `example_bytes` wrote."""
    return _EXAMPLES.validate_json(body)


def answer_columns(settings: PromptSettings) -> tuple[str, ...]:
    """Return the columns in which examples have their answers."""
    return (settings.into,) if settings.json_schema is None else schema_columns(settings.json_schema)


def _answer(row: Mapping[str, object], settings: PromptSettings) -> str:
    """Return the answer as the model would write it: a text, or JSON with the fields of the schema."""
    if settings.json_schema is not None:
        fields = _fields(row, settings.json_schema)
        return json.dumps(fields, ensure_ascii=False)
    cell = row.get(settings.into)
    if isinstance(cell, list | dict):
        raise ExampleInvalidError(f"the answer in column {quoted(settings.into)} is no text")
    answer = "" if cell is None else str(cell).strip()
    if not answer:
        raise ExampleInvalidError(f"the answer in column {quoted(settings.into)} is empty")
    if settings.choice and answer not in settings.choice:
        raise ExampleInvalidError(
            f"the answer {quoted(answer)} in column {quoted(settings.into)} is none of the choices"
        )
    return answer


def _fields(row: Mapping[str, object], schema: str) -> dict[str, object]:
    """Return the fields of an answer, without optional ones whose cells are empty."""
    fields: dict[str, object] = {}
    for field in schema_fields(schema):
        value = _value(row.get(field.name), field)
        if value is not None or field.allows(None):
            fields[field.name] = value
        elif field.is_required:
            raise ExampleInvalidError(
                f"column {quoted(field.name)} is empty, but the schema requires this field"
            )
    if all(value is None for value in fields.values()):
        raise ExampleInvalidError("the columns with the answer are empty")
    return fields


def _value(cell: object, field: SchemaField) -> object:
    """Return the value of a cell, whose text is read as JSON if the schema allows no text; None if empty."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    value = cell
    if isinstance(cell, str) and not field.allows(cell):
        with suppress(JsonRefusedError):
            value = parse(cell.strip())
    if not field.allows(value):
        raise ExampleInvalidError(f"column {quoted(field.name)} has a value that the schema does not allow")
    return value
