"""Faults that pydantic finds are described in Pressroom's words, and not in pydantic's."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from jobs.validation import describe_first


class Point(BaseModel):
    x: int


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int = Field(default=1, ge=1, le=9)
    names: tuple[str, ...] = Field(default=("a",), min_length=1)
    is_loud: bool = False
    points: list[Point] = []
    folder: Path = Path()
    at: AwareDatetime | None = None
    phrase: str = ""

    @field_validator("phrase")
    @classmethod
    def _is_polite(cls, phrase: str) -> str:
        if phrase == "damn":
            raise ValueError(f"{phrase!r} is not polite: use another word")
        return phrase


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"colour": "red"}, "colour is not a setting: correct it"),
        ({"size": 0}, "size must be at least 1: correct it"),
        ({"size": 10}, "size must be at most 9: correct it"),
        ({"size": "ten"}, "size must be an integer: correct it"),
        ({"size": 1.5}, "size must be an integer, without a fractional part: correct it"),
        ({"names": []}, "names must have at least 1 item, not 0: correct it"),
        ({"names": "a"}, "names must be a list: correct it"),
        ({"is_loud": "perhaps"}, "is_loud must be true or false: correct it"),
        ({"points": [{"x": 1}, {}]}, "points.1.x is missing: correct it"),
        ({"points": [3]}, "points.0 must be a mapping of names to values: correct it"),
        ({"folder": 3}, "folder must be a path: correct it"),
        ({"at": datetime(2026, 1, 1)}, "at must have a time zone: correct it"),  # noqa: DTZ001 - the fault
        ({"phrase": "damn"}, "phrase: 'damn' is not polite: use another word"),
    ],
)
def test_a_fault_is_described_with_its_place_and_what_to_do(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Options.model_validate(values)
    assert describe_first(caught.value, noun="setting", advice="correct it") == sentence
