"""Canonical JSON: byte for byte, and error for error, what rfc8785 writes."""

from __future__ import annotations

import sys
from enum import IntEnum, StrEnum
from itertools import chain

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.canonical_json import MAX_INTEGER, _is_plain, dumps_canonical

any_text = st.text(st.characters())
"""Texts of all characters, lone surrogates included."""

scalars = st.none() | st.booleans() | st.integers() | st.floats() | any_text
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(any_text | st.integers(0, 3), inner, max_size=4)
    ),
    max_leaves=12,
)


class Colour(StrEnum):
    RED = "r\ned"


class Level(IntEnum):
    HIGH = 3


def outcome(dumps: object, value: object) -> object:
    """Return the bytes, or the type and message of the error."""
    try:
        return dumps(value)  # type: ignore[operator]
    except Exception as error:  # noqa: BLE001 - errors are compared
        return type(error), str(error)


@given(values)
@example({"\ue000": 1, "\U00010000": 2})  # in code points the other way round than in UTF-16
@example({"a\uffff": 1, "a\U0001f600": 2, "a": 3})
@example({1: "a"})
@example({1: "a", "b": 2})
@example({None: "a"})
@example("\ud800")
@example({"\udfff": 1})
@example([MAX_INTEGER, -MAX_INTEGER])
@example([MAX_INTEGER + 1])
@example({"deep": [{"number": -MAX_INTEGER - 1}]})
@example([1.0, -0.0, 1e21, 1e-7, 5e-324])
@example([float("nan")])
@example({"": {}, "b": [], "a": ()})
def test_it_is_what_rfc8785_writes(value: object) -> None:
    assert outcome(dumps_canonical, value) == outcome(rfc8785.dumps, value)


@pytest.mark.parametrize(
    "value", [Colour.RED, Level.HIGH, {Colour.RED: Level.HIGH}, True, {1, 2}, b"bytes", [object]]
)
def test_other_types_are_treated_as_rfc8785_treats_them(value: object) -> None:
    first, second = outcome(dumps_canonical, value), outcome(rfc8785.dumps, value)
    assert first == second


def test_every_character_is_written_as_rfc8785_writes_it() -> None:
    characters = map(chr, chain(range(0xD800), range(0xE000, sys.maxunicode + 1)))
    every = "".join(characters)
    assert dumps_canonical(every) == rfc8785.dumps(every)


def test_plain_values_do_not_need_rfc8785(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise, each job would pay for it."""
    monkeypatch.delattr(rfc8785, "dumps")
    plain = '{"a":{},"b":["é\U0001f600",1,null,true]}'
    assert dumps_canonical({"b": ["é\U0001f600", 1, None, True], "a": {}}) == plain.encode()


@pytest.mark.parametrize("value", [0.5, {"a": [1.5]}, {"\U00010000": 1}, 2**53, {1: 2}, Level.HIGH])
def test_values_that_the_encoders_treat_differently_are_not_plain(value: object) -> None:
    assert not _is_plain(value)
