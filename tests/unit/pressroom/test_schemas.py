"""What a payload type says of its columns, and the example file that is made from it."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from jobs.intake.payloads import Accepted, read_lines
from jobs.kind import ROWS, Artifact, Context, Kind, Result
from jobs.registry import kind_names, load_kind
from pressroom.schemas import ExampleFormat, NoExampleError, example_file, field_schemas


class Payload(BaseModel):
    """A payload of this test."""

    model_config = ConfigDict(extra="forbid")


def kind_of(payload: type[BaseModel]) -> Kind[Any]:
    class SomeKind(Kind[BaseModel]):
        name = "some"
        payload_type = payload

        def run(self, payload: BaseModel, context: Context) -> Result:
            return Result(artifacts=(Artifact(name="a.txt", media_type="text/plain", body=b"a"),))

    return SomeKind()


class Words(Payload):
    text: Annotated[str, Field(min_length=50, max_length=60)]
    short: Annotated[str, Field(max_length=3)]
    mood: Literal["good", "bad"]
    only: Literal["this"]


class Numbers(Payload):
    at_least: Annotated[int, Field(ge=7)]
    above: Annotated[float, Field(gt=0, lt=1)]
    below: Annotated[float, Field(le=0.25)]
    even: Annotated[int, Field(multiple_of=4)]
    is_it: bool
    maybe: int | None = None


class Formats(Payload):
    day: date
    words: Annotated[list[Annotated[str, Field(min_length=2)]], Field(min_length=2)]
    code: Annotated[str, Field(pattern="[A-Z]{3}", examples=["ABC", "XYZ"])]
    other: Annotated[str, Field(pattern="[A-Z]{3}")] | None = None


class Nested(Payload):
    class Inner(BaseModel):
        number: int
        word: str

    inner: Inner


class OneOf(Payload):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}
    )
    a: str | None = None
    b: str | None = None


def accepted_lines(kind: Kind[Any], format_: ExampleFormat, folder: Path) -> list[Accepted[Any]]:
    """What intake makes of the example; nothing of it may be refused."""
    path = folder / f"example.{format_}"
    path.write_text(example_file(kind, format_))
    lines = list(read_lines(path, kind))
    assert all(isinstance(line, Accepted) for line in lines), lines
    return [line for line in lines if isinstance(line, Accepted)]


@pytest.mark.parametrize("format_", ExampleFormat)
@pytest.mark.parametrize("payload", [Words, Numbers, Formats, OneOf])
def test_example_of_a_payload_type_is_accepted_by_intake(
    payload: type[BaseModel], format_: ExampleFormat, tmp_path: Path
) -> None:
    assert len(accepted_lines(kind_of(payload), format_, tmp_path)) == 3


@pytest.mark.parametrize("format_", ExampleFormat)
@pytest.mark.parametrize("name", [name for name in kind_names() if load_kind(name).intake is ROWS])
def test_example_of_an_installed_kind_is_accepted_by_intake(
    name: str, format_: ExampleFormat, tmp_path: Path
) -> None:
    assert len(accepted_lines(load_kind(name), format_, tmp_path)) == 3


def test_objects_are_in_the_jsonl_example_and_the_optional_column_that_fits_nothing_is_left_out(
    tmp_path: Path,
) -> None:
    lines = accepted_lines(kind_of(Nested), ExampleFormat.JSONL, tmp_path)
    assert lines[0].payload.inner.word == "word 1"
    assert "other" not in example_file(kind_of(Formats), ExampleFormat.CSV)


def test_payload_type_without_an_example_says_what_to_give() -> None:
    class Coded(Payload):
        code: Annotated[str, Field(pattern="[A-Z]{3}")]

    with pytest.raises(NoExampleError, match=r"column 'code'.*`examples`"):
        example_file(kind_of(Coded), ExampleFormat.CSV)


def test_fields_are_described_in_words() -> None:
    fields = {field.name: field for field in field_schemas(Numbers)}
    assert fields["maybe"].type == "integer or null"
    assert not fields["maybe"].required
    assert fields["is_it"].required
    assert str(next(field_schemas(Words))) == "text (string, required)"
    assert {field.name: field.type for field in field_schemas(Words)}["mood"] == "'good' or 'bad'"
    assert {field.name: field.type for field in field_schemas(Formats)}["words"] == "list of string"
