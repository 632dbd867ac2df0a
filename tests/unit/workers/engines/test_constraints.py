"""Grammars over a token for each byte: what may come next, what is refused, what is kept."""

from __future__ import annotations

import json
import threading
from datetime import date, datetime

import numpy as np
import pytest

from benchmarks.schemas import SCHEMAS
from jobs.inference import Constraint, ConstraintForm
from tests.fakes import FakeTokenizer
from workers.engines import constraints
from workers.engines.constraints import (
    ConstraintFailedError,
    ConstraintUnsupportedError,
    Grammars,
    Matcher,
)

END = 0
"""The end-of-text token of FakeTokenizer."""


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(FakeTokenizer(), 260)


def allowed(matcher: Matcher) -> set[int]:
    mask = np.zeros(9, dtype=np.uint32)
    matcher.fill(mask)
    return set(np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist())


def texts(matcher: Matcher) -> set[str]:
    return {chr(token_id) if token_id != END else "END" for token_id in allowed(matcher)}


def after(grammars: Grammars, constraint: Constraint, text: str) -> Matcher:
    matcher = grammars.compile(constraint).begin()
    for token_id in text.encode():
        matcher.accept(token_id)
    return matcher


def satisfies(grammars: Grammars, constraint: Constraint, text: str) -> bool:
    matcher = grammars.compile(constraint).begin()
    try:
        matcher.accept_text(text)
    except ConstraintFailedError:
        return False
    return matcher.is_satisfied


def test_choice_allows_the_next_letters_and_its_end(grammars: Grammars) -> None:
    choice = Constraint.of_choice(["a", "ab+", "b (é)"])
    assert texts(after(grammars, choice, "")) == {"a", "b"}
    assert texts(after(grammars, choice, "a")) == {"b", "END"}
    assert after(grammars, choice, "a").is_satisfied
    assert not after(grammars, choice, "a").is_finished
    assert texts(after(grammars, choice, "ab")) == {"+"}
    assert after(grammars, choice, "ab+").is_finished
    assert after(grammars, choice, "b (é)").is_finished


def test_regular_expression_matches_the_whole_text(grammars: Grammars) -> None:
    pattern = Constraint.of_regex("[0-9]{2}|x")
    assert satisfies(grammars, pattern, "42")
    assert satisfies(grammars, pattern, "x")
    assert not satisfies(grammars, pattern, "a42")
    assert not satisfies(grammars, pattern, "4")


def test_properties_are_written_in_the_order_of_the_schema(grammars: Grammars) -> None:
    properties = {"z": {"type": "integer"}, "a": {"type": "integer"}}
    schema = Constraint.of_schema({"type": "object", "properties": properties, "required": ["a", "z"]})
    assert satisfies(grammars, schema, '{"z": 1, "a": 2}')
    assert not satisfies(grammars, schema, '{"a": 2, "z": 1}')


def test_any_json_object_is_one(grammars: Grammars) -> None:
    anything = Constraint.of_json_object()
    assert satisfies(grammars, anything, json.dumps({"a": [1, {"b": None}], "é": "x\ny"}, ensure_ascii=False))
    assert not satisfies(grammars, anything, "[1]")


@pytest.mark.parametrize("text", [r'"\u0000"', r'"\ud800"', '"\x01"', '"a', "'a'", '"a" '])
def test_string_that_is_no_use_is_not_written(grammars: Grammars, text: str) -> None:
    assert not satisfies(grammars, Constraint.of_schema({"type": "string"}), text)


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_of_the_benchmark_compiles(grammars: Grammars, name: str) -> None:
    assert allowed(grammars.compile(Constraint.of_schema(SCHEMAS[name])).begin()) == {ord("{")}


@pytest.mark.parametrize(
    ("constraint", "reason"),
    [
        (Constraint.of_schema({"not": {}}), "the keyword 'not' at # is not supported"),
        (Constraint.of_schema({"type": "string", "format": "isbn"}), "Unknown format: isbn"),
        (Constraint.of_schema({"oneOf": [{"type": "integer"}, {"type": "number"}]}), "oneOf"),
        (Constraint.of_schema({"type": "integer", "minimum": 2, "maximum": 1}), "Unsatisfiable"),
        (Constraint.of_schema({"type": "strin"}), "Invalid type: strin"),
        (Constraint.of_schema({"$ref": "#/$defs/x"}), "does not exist"),
        (Constraint.of_schema({"type": "string", "pattern": "("}), "unclosed group"),
        (Constraint.of_schema({"enum": [f"value {i}" for i in range(200_000)]}), "more than 256 KB"),
        (Constraint.of_schema({"enum": ["é" * 140_000]}), "more than 256 KB"),
        (Constraint.of_choice(["é" * 140_000]), "or 256 KB"),
        (Constraint.of_regex("é" * 40_000), "more than 64 KB"),
        (Constraint.of_regex("(?=a)b"), "look-around"),
        (Constraint.of_regex(r"(a)\1"), "backreferences are not supported"),
        (Constraint.of_regex(""), "it is empty"),
        (Constraint.of_regex("(" * 10_000 + ")" * 10_000), "nested"),
        (Constraint.of_choice([]), "it is empty"),
        (Constraint.of_choice(["a", ""]), "a choice is empty"),
        (Constraint.of_choice([str(i) for i in range(10_001)]), "more than 10,000 choices"),
        (Constraint(ConstraintForm.JSON_SCHEMA, "{"), "the schema is not JSON"),
        (Constraint(ConstraintForm.CHOICE, '{"a": 1}'), "it is not a list of texts"),
        (Constraint(ConstraintForm.CHOICE, "["), "it is not a list of texts"),
    ],
)
def test_constraint_that_cannot_be_served_is_refused_with_the_reason(
    grammars: Grammars, constraint: Constraint, reason: str
) -> None:
    with pytest.raises(ConstraintUnsupportedError) as raised:
        grammars.compile(constraint)
    assert raised.value.code == "constraint_unsupported"
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


def test_token_out_of_the_grammar_is_an_error_without_the_text(grammars: Grammars) -> None:
    matcher = after(grammars, Constraint.of_regex("secret[0-9]"), "secret")
    with pytest.raises(ConstraintFailedError) as raised:
        matcher.accept(ord("x"))
    assert raised.value.code == "constraint_failed"
    assert "secret" not in str(raised.value)


def test_texts_of_one_grammar_are_apart(grammars: Grammars) -> None:
    grammar = grammars.compile(Constraint.of_choice(["ab", "cd"]))
    first, second = grammar.begin(), grammar.begin()
    first.accept(ord("a"))
    second.accept(ord("c"))
    assert (texts(first), texts(second)) == ({"b"}, {"d"})
    assert texts(first.begin()) == {"a", "c"}


def test_filling_a_mask_changes_nothing(grammars: Grammars) -> None:
    matcher = after(grammars, Constraint.of_schema(SCHEMAS["a title"]), '{"ti')
    assert allowed(matcher) == allowed(matcher)


def test_special_tokens_are_not_text(grammars: Grammars) -> None:
    """The last ids have no token; end-of-text is allowed only where the grammar ends."""
    assert END not in allowed(after(grammars, Constraint.of_regex("(?s)..+"), "a"))
    assert max(allowed(after(grammars, Constraint.of_regex("(?s).+"), "a"))) < 256


def test_constraint_is_compiled_once(grammars: Grammars) -> None:
    constraint = Constraint.of_regex("once[0-9]+")
    assert grammars.find(constraint) is grammars.find(constraint)


def test_only_so_many_grammars_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constraints, "MAX_GRAMMARS", 2)
    grammars = Grammars(FakeTokenizer(), 256)
    first = grammars.find(Constraint.of_choice(["0"]))
    for number in "123":
        grammars.compile(Constraint.of_choice([number]))
    assert grammars.find(Constraint.of_choice(["0"])) is not first
    assert grammars.compile(Constraint.of_choice(["0"])).begin() is not None


class SlowTokenizer(FakeTokenizer):
    """Its vocabulary is not ready before the test ends."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def token_bytes(self, token_id: int) -> bytes:
        self.gate.wait()
        return super().token_bytes(token_id)


def test_constraint_that_takes_too_long_is_refused_and_blocks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constraints, "MAX_COMPILE_SECONDS", 0.05)
    tokenizer = SlowTokenizer()
    future = Grammars(tokenizer, 256).find(Constraint.of_choice(["a"]))
    with pytest.raises(ConstraintUnsupportedError, match="seconds to compile"):
        future.result()
    tokenizer.gate.set()


def test_refusal_is_a_new_error_each_time(grammars: Grammars) -> None:
    """An error that is raised for each of many rows would otherwise keep all their frames."""
    errors = []
    for _ in range(2):
        with pytest.raises(ConstraintUnsupportedError) as raised:
            grammars.compile(Constraint.of_regex("("))
        errors.append(raised.value)
    assert errors[0] is not errors[1]
    assert str(errors[0]) == str(errors[1])


def is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


YEARS = ("0000", "0001", "0004", "0100", "0400", "1900", "2000", "2023", "2024", "2100", "9999")


@pytest.mark.parametrize("year", YEARS)
def test_dates_are_those_of_the_calendar(grammars: Grammars, year: str) -> None:
    schema = Constraint.of_schema({"type": "string", "format": "date"})
    for month in range(14):
        for day in (0, 1, 28, 29, 30, 31, 32):
            text = f"{year}-{month:02}-{day:02}"
            assert satisfies(grammars, schema, f'"{text}"') == is_date(text), text


@pytest.mark.parametrize(
    ("text", "is_valid"),
    [
        ("2024-02-29T23:59:59Z", True),
        ("2024-02-29T00:00:00.123456+14:00", True),
        ("2023-02-29T00:00:00Z", False),
        ("2024-02-29T24:00:00Z", False),
        ("2024-02-29T23:59:60Z", False),
        ("2024-02-29T00:00:00.1234567Z", False),
        ("2024-02-29T00:00:00", False),
        ("2024-02-29 00:00:00Z", False),
    ],
)
def test_times_are_those_that_every_parser_reads(grammars: Grammars, text: str, is_valid: bool) -> None:
    schema = Constraint.of_schema({"type": "string", "format": "date-time"})
    assert satisfies(grammars, schema, f'"{text}"') == is_valid
    if is_valid:
        assert datetime.fromisoformat(text)


def test_format_and_pattern_hold_together(grammars: Grammars) -> None:
    schema = Constraint.of_schema({"type": "string", "format": "date", "pattern": "^20"})
    assert satisfies(grammars, schema, '"2024-02-29"')
    assert not satisfies(grammars, schema, '"1999-12-31"')
    assert not satisfies(grammars, schema, '"2023-02-29"')


def test_word_format_in_a_constant_is_left_alone(grammars: Grammars) -> None:
    schema = Constraint.of_schema({"const": {"format": "date"}})
    assert satisfies(grammars, schema, '{"format": "date"}')
