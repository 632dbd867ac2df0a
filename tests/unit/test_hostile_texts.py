"""Any text is read in time that grows as it does, by every pattern and every function that meets it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import feedparser
import pytest

from jobs.documents.feed import feed_records
from jobs.guards import find_secret, is_injection_suspected
from jobs.instants import parse_date_order, parse_instant
from jobs.intake.dialect import Dialect, _with_comma_numbers
from jobs.rejection import attempt, snippet
from jobs.text.plain import clean_text, normalise
from jobs.text.prose import is_complete, split_sentences, words
from jobs.text.repair import strip_html
from jobs.text.thoughts import DEFAULT_MARKS
from kinds.recommendation.catalogue.event_batches import _quoted_cell
from kinds.recommendation.texts.facts import has_word
from kinds.recommendation.texts.prompt import _loose
from kinds.sentiment.report.claims import Point, _ratio_fault, _without_names
from tests.unit.hostile_texts import built_patterns, growth, hostile_texts, patterns

QUADRATIC = 9.0
"""Times that a text of four times the size may take: linear work takes 4, quadratic 16."""

AT_ONE_PLACE = {
    "kinds.recommendation.texts.checks.COUNTED",
    "kinds.recommendation.texts.checks._ARTICLES",
    "kinds.sentiment.report.claims._COUNTS",
    "kinds.sentiment.report.claims._COUNTS_PAST",
    "workers.models.catalogue._PACKAGE",
    "workers.models.preparation._GGUF_PART",
    "kinds.article.export._LISTED",
}
"""Patterns that are only matched where another pattern ended, or against a whole name."""

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


BUILT: Mapping[str, Callable[[str], object] | None] = {
    "jobs.intake.dialect._with_comma_numbers": lambda text: _with_comma_numbers(
        Dialect("\t"), text.replace("\n", " ") * 2, is_given=False
    ),
    "jobs.instants.parse_date_order": lambda text: attempt(parse_date_order, text),
    "jobs.text.thoughts._occurrences": DEFAULT_MARKS.answer,
    "kinds.recommendation.catalogue.event_batches._quoted_cell": lambda text: _quoted_cell(",").sub(
        b"", text.encode()
    ),
    "kinds.recommendation.texts.prompt._loose": lambda text: _loose(text, ("headline", "text")),
    "kinds.recommendation.texts.facts.has_word": lambda text: has_word(text, ("a", "a b", "...")),
    "kinds.sentiment.report.claims._ratio_fault": lambda text: _ratio_fault(
        text, Point(name="", variables={})
    ),
    "kinds.sentiment.report.claims._without_names": lambda text: _without_names(text, ("a", "a b", "...")),
    "jobs.intake.dialect.sniff_dialect": None,
    "jobs.instants._form": None,
    "kinds.recommendation.texts.checks.__init__": None,
    "workers.models.install._named_by": None,
}
"""Functions that build a pattern from values; None where it is a constant of the module, or literal text."""


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


def test_every_function_that_builds_a_pattern_is_known() -> None:
    """So that a new one is tried with hostile texts, or is written as a constant of its module."""
    assert built_patterns() == set(BUILT)


@pytest.mark.attack("backtracking regular expression")
@pytest.mark.parametrize("name", [name for name, work in BUILT.items() if work is not None])
def test_a_pattern_that_is_built_takes_time_as_its_text_grows(name: str) -> None:
    work = BUILT[name]
    assert work is not None
    for unit in (*UNITS, "headline", "headline*", "a b", "%", "d", "twice ", "<think>"):
        for end in ("", "x", "\x01"):
            times = growth(work, lambda size, unit=unit, end=end: unit * (size // len(unit)) + end, 6_000)  # type: ignore[misc]
            assert times < QUADRATIC, (unit, end)


@pytest.mark.attack("backtracking regular expression")
@pytest.mark.parametrize(
    "element", ["author", "managingEditor", "dc:creator", "itunes:author", "dc:publisher"]
)
def test_author_of_a_feed_is_cut_before_an_address_is_looked_for(element: str) -> None:
    assert hasattr(feedparser.mixin._FeedParserMixin, "_sync_author_detail"), (
        "feedparser has no _sync_author_detail any more: if its search for an address takes time as the "
        "author grows, take the bound out of jobs/documents/feed.py; else cut the author elsewhere"
    )

    def feed(size: int) -> str:
        author = f"<{element}>{'a.' * (size // 2)}</{element}>"
        return (
            '<rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/" '
            'xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"><channel><title>t</title>'
            f"<item>{author}<title>t</title></item></channel></rss>"
        )

    assert growth(lambda text: list(feed_records("feed", text.encode())), feed, 6_000) < QUADRATIC


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
