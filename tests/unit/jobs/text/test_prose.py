"""Sentences and words of prose, and measurement of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.text.prose import (
    is_complete,
    is_within_length,
    relative_length_error,
    seq_rep_n,
    split_sentences,
)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Mr. Bean met J. R. Ewing. They left.", ["Mr. Bean met J. R. Ewing.", "They left."]),
        ("Wait... what? “Yes.” He went.", ["Wait... what?", "“Yes.”", "He went."]),
        ("Pi is 3.14 e.g. here. Done", ["Pi is 3.14 e.g. here.", "Done"]),
        ("1. Mix it. 2. Bake it.", ["1. Mix it.", "2. Bake it."]),
        ("今日は。明日も。", ["今日は。", "明日も。"]),
        ("", []),
    ],
)
def test_sentences_end_where_readers_see_them_end(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_splitting_loses_no_character_but_space(text: str) -> None:
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


@pytest.mark.parametrize(("text", "expected"), [("So.", True), ("So.”", True), ("So*", False), ("So", False)])
def test_completeness_is_a_closing_mark(text: str, expected: bool) -> None:
    assert is_complete(text) is expected


def test_repetition_is_the_share_of_repeated_4_grams() -> None:
    assert seq_rep_n(["a", "b", "c", "d", "e", "f", "g"]) == 0
    assert seq_rep_n(["a", "b", "c", "d", "a", "b", "c", "d"]) == pytest.approx(1 / 5)
    assert seq_rep_n(["x", "x", "x", "x", "x", "x"]) == pytest.approx(2 / 3)
    assert seq_rep_n(["a"]) == 0


@given(st.lists(st.sampled_from("abc")), st.integers(1, 5))
def test_repetition_is_a_share(tokens: list[str], n: int) -> None:
    assert 0 <= seq_rep_n(tokens, n) < 1


def test_length_bound_is_40_percent_either_way() -> None:
    assert [is_within_length(n, 100) for n in (59, 60, 100, 140, 141)] == [False, True, True, True, False]
    with pytest.raises(ValueError, match="requested_words is 0"):
        relative_length_error(10, 0)
