"""The parts of an answer are read, however the answer wraps them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinds.recommendation.texts.prompt import read_answer

PARTS = ("headline", "blurb", "reason")
WANTED = {"headline": "Trail Tent", "blurb": "It's green.", "reason": "For you."}


@pytest.mark.parametrize(
    "answer",
    [
        '{"headline": "Trail Tent", "blurb": "It\'s green.", "reason": "For you."}',
        '```json\n{"headline": "Trail Tent",\n "blurb": "It\'s green.",\n "reason": "For you.",}\n```',
        'Here is the JSON: {"headline": "Trail Tent", "blurb": "It\'s green.", "reason": "For you."} Enjoy!',
        '{"headline": "Trail Tent", "blurb": "It\'s green.", "reason": "For you."',
        '{headline: "Trail Tent", blurb: "It\'s green.", reason: "For you."}',
        '[{"Headline": "Trail Tent", "BLURB": "It\'s green.", "reason": "For you."}]',
        "Headline: Trail Tent\nBlurb: It's green.\n**Reason**: For you.",
        '{"headline": "Trail Tent", "blurb": "It\'s green.", "reason": "For you.", "price": 3, "x": null}',
    ],
)
def test_wrapped_and_broken_json_is_read(answer: str) -> None:
    assert read_answer(answer, PARTS) == WANTED


def test_plain_sentence_is_the_part_if_one_was_requested() -> None:
    assert read_answer("Here is a blurb: Trail Tent.", ("blurb",)) == {"blurb": "Trail Tent."}
    assert read_answer("Trail Tent.", PARTS) == {}


@pytest.mark.parametrize(
    "answer", ["", "{", "}", '{"a":' * 5000, "[" * 9000, '{"headline": {"x": []}}', "null"]
)
def test_hopeless_answer_has_no_parts(answer: str) -> None:
    assert read_answer(answer, PARTS) == {}


@given(st.text(alphabet='{}[]":,\\ abheadlinerso\n', max_size=80))
def test_any_answer_gives_single_lines(answer: str) -> None:
    assert all("\n" not in line and line for line in read_answer(answer, PARTS).values())
