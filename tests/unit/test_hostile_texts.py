"""Any text is read in time that grows as it does, by every pattern and every function that meets it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from jobs.guards import find_secret, is_injection_suspected
from jobs.instants import parse_instant
from jobs.rejection import snippet
from jobs.text.clean import clean_text
from jobs.text.cleanup import strip_html
from jobs.text.normalise import normalise
from jobs.text.sentences import is_complete, split_sentences, words
from tests.unit.hostile_texts import growth, hostile_texts, patterns

QUADRATIC = 9.0
"""Times that a text of four times the size may take: linear work takes 4, quadratic 16."""

AT_ONE_PLACE = {
    "kinds.recommendation.texts.checks.COUNTED",
    "kinds.recommendation.texts.checks._ARTICLES",
    "kinds.sentiment.report.claims._COUNTS",
    "kinds.sentiment.report.claims._COUNTS_PAST",
}
"""Patterns that begin with white space and are only matched where another pattern ended."""

PATTERNS = sorted(patterns(), key=lambda named: named[0])
UNITS = (
    ".", "<", "<b>", "<a<", "<!--", "&", "&amp;", "[", "[a](", '"', "\n", "\n \n", " ",
    "sk-", "sk-a", "hf_",
    "-----BEGIN A ", "ignore previous ", "system ", "a@", "RT @a ", "www.", "a-", "1,", "{", "\\", "…", "。",
    "A",
)  # fmt: skip
FUNCTIONS: tuple[Callable[[str], object], ...] = (
    split_sentences, words, is_complete, normalise, clean_text, strip_html, find_secret,
    is_injection_suspected, snippet, parse_instant,
)  # fmt: skip


def _all(pattern: re.Pattern[Any], name: str) -> Callable[[str], object]:
    def work(text: str) -> object:
        subject: Any = text.encode() if isinstance(pattern.pattern, bytes) else text
        if name in AT_ONE_PLACE:
            return pattern.match(subject)
        return sum(1 for _ in pattern.finditer(subject))

    return work


@pytest.mark.attack("backtracking regular expression")
def test_every_pattern_takes_time_as_its_text_grows() -> None:
    assert len(PATTERNS) > 100
    for name, pattern in PATTERNS:
        work = _all(pattern, name)
        for text in hostile_texts(pattern, 1_000):
            unit, end = text[:-1], text[-1:]
            times = growth(work, lambda size, unit=unit, end=end: unit * (size // 1_000) + end, 1_000)  # type: ignore[misc]
            assert times < QUADRATIC, (name, text[:30], end)


@pytest.mark.attack("backtracking regular expression")
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_hostile_document_takes_time_as_it_grows(function: Callable[[str], object]) -> None:
    for unit in UNITS:
        for end in ("", "x", "\x01"):
            times = growth(function, lambda size, unit=unit, end=end: unit * (size // len(unit)) + end, 6_000)  # type: ignore[misc]
            assert times < QUADRATIC, (unit, end)


@pytest.mark.attack("backtracking regular expression")
def test_secrets_are_found_behind_any_number_of_their_beginnings() -> None:
    key = "sk-proj-" + "a1B2c3D4" * 4
    assert find_secret("sk-" * 30_000) is None
    assert find_secret("sk-" * 30_000 + " " + key) == "an API key"
    assert find_secret("sk-" + "word-" * 12) is None


def test_a_run_of_full_stops_ends_one_sentence_or_none() -> None:
    assert split_sentences("." * 100_000 + "x") == ["." * 100_000 + "x"]
    assert split_sentences("Well... it rained.. Yes?!") == ["Well... it rained..", "Yes?!"]


@pytest.mark.attack("backtracking regular expression")
@pytest.mark.parametrize("function", [clean_text, strip_html], ids=lambda function: function.__name__)
def test_elements_that_stay_open_take_time_as_they_grow(function: Callable[[str], object]) -> None:
    def attributes(num: int) -> str:
        return "".join(f"<b a={number}>" for number in range(num))

    for make in (
        attributes,
        lambda num: "<span>" * num + "<center>" * num,
        lambda num: "<svg>" * num + "</g>" * num,
    ):
        assert growth(function, make, 6_000) < QUADRATIC
