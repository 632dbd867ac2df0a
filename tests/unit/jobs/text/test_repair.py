"""Repair of what a model wrote."""

from __future__ import annotations

import random
import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.text.prose import (
    words,
)
from jobs.text.repair import (
    MAX_RESEMBLANCE,
    MIN_WORDS_TO_COMPARE,
    as_markdown,
    clean,
    strip_html,
    without_repeats,
)

BREAD = "Bread needs flour and time."


@pytest.mark.parametrize(
    "noise",
    [
        "Sure! ",
        "Certainly, ",
        "Sure! Here is the article you asked for:\n\n",
        "Here's a short article about bread for beginners:\n",
        "Below is an example paragraph:\n\n",
        "Answer: ",
        "**Introduction:** ",
    ],
)
def test_opening_chat_noise_is_removed(noise: str) -> None:
    assert clean(noise + BREAD).blocks == (BREAD,)


@pytest.mark.parametrize(
    "noise",
    [
        "I hope this helps!",
        "Let me know if you need more.",
        "Feel free to ask.",
        "Note: this is about 100 words.",
        "(120 words)",
        "Best regards, [Your Name].",
        "Signed by [Insert name here].",
        "I made these changes to the tone.",
        "In a warm tone, explain how bread is made.",
        "This paragraph explains the bread.",
    ],
)
def test_sentence_that_speaks_to_the_asker_is_removed_and_counted(noise: str) -> None:
    piece = clean(f"{BREAD} {noise}")
    assert piece.blocks == (BREAD,)
    assert piece.num_noise >= 1


def test_ordinary_sentence_with_a_suspicious_word_stays() -> None:
    text = "Sure signs of a good loaf are few. Below the crust lies the crumb. Note the smell."
    assert clean(text).blocks == (text,)


def test_heading_is_taken_out_and_markdown_is_normalised() -> None:
    piece = clean(
        "**The Bread**\n\nFirst line\nsecond line.\n* one;\n• two.\n\n### Crust ##\n2) Bake it.\n***\nEnd."
    )
    assert piece.heading == "The Bread"
    assert piece.blocks == ("First line second line.", "- one;", "- two.", "## Crust", "2. Bake it.", "End.")
    assert as_markdown(piece.blocks) == (
        "First line second line.\n\n- one;\n- two.\n\n## Crust\n\n2. Bake it.\n\nEnd."
    )


def test_title_label_is_a_heading() -> None:
    piece = clean(f'Title: "Daily Bread"\n\n{BREAD}')
    assert (piece.heading, piece.blocks) == ("Daily Bread", (BREAD,))


def test_cut_ending_is_mended_to_the_last_whole_sentence() -> None:
    piece = clean(f"{BREAD} It rises for Dr. Lee in 3.5 hours. And then it")
    assert piece.blocks == (f"{BREAD} It rises for Dr. Lee in 3.5 hours.",)
    assert piece.cut_sentence == "And then it"
    assert clean(BREAD).cut_sentence is None


def test_heading_without_text_below_it_is_dropped() -> None:
    assert clean(f"{BREAD}\n\n## More").blocks == (BREAD,)


def test_links_become_their_text() -> None:
    text = clean("See [the guide](javascript:alert(1)) and ![a loaf](http://example.com/x.png) today.").blocks
    assert "javascript" not in text[0]
    assert "http" not in text[0]
    assert "the guide" in text[0]


@pytest.mark.parametrize(
    "dirty",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "&lt;script&gt;alert(1)&lt;/script&gt;<b>",
        "&amp;amp;amp;amp;lt;script&amp;amp;amp;amp;gt;<i>",
        "<scr<script>ipt>alert(1)</scr</script>ipt>",
        "<svg/onload=alert(1)",
        "<!-- x --><iframe src=//x>",
    ],
)
def test_no_tag_survives(dirty: str) -> None:
    text, was_sanitised = strip_html(f"Salt & water, 1 < 2. {dirty} End.")
    assert was_sanitised
    assert "<script" not in text
    assert strip_html(text) == (text, False)
    assert "Salt & water" in text


@given(st.text(st.sampled_from("<>&;/! abltgscript=\"'"), max_size=80))
def test_stripped_text_has_no_tag_whatever_the_input(text: str) -> None:
    stripped, _ = strip_html(text)
    assert strip_html(stripped) == (stripped, False)


def test_repeated_and_nearly_repeated_sentences_go() -> None:
    blocks = [
        "The slow rise makes the bread taste good and light.",
        "The slow rise makes the bread taste good and very light. A dark crust keeps it fresh. It works.",
        "It works.",
    ]
    kept, num_removed = without_repeats(blocks)
    assert kept == [blocks[0], "A dark crust keeps it fresh. It works."]
    assert num_removed == 2


def _num_steps(blocks: list[str]) -> int:
    """Lines and calls of Python that the search for repeats takes."""
    steps = 0

    def count(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal steps
        if frame.f_globals.get("__name__") != without_repeats.__module__:
            return None
        steps += 1
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        without_repeats(blocks)
    finally:
        sys.settrace(before)
    return steps


@pytest.mark.attack("many sentences to compare")
@pytest.mark.parametrize(
    ("num_common", "num_own", "num_sentences"),
    [(6, 4, 300), (2, 1, 300), (20, 20, 100), (0, 1, 300)],
    ids=["alike in part", "short", "long", "tiny"],
)
def test_search_for_repeats_takes_steps_as_the_text_grows(
    num_common: int, num_own: int, num_sentences: int
) -> None:
    def sentence(number: int) -> str:
        own = [f"own{number}x{each}" for each in range(num_own)]
        return " ".join(["The", *(f"common{each}" for each in range(num_common)), *own]) + "."

    sentences = [sentence(number) for number in range(4 * num_sentences)]
    assert without_repeats(sentences) == (sentences, 0)
    assert _num_steps(sentences) < 5 * _num_steps(sentences[:num_sentences])


@pytest.mark.attack("many sentences to compare")
def test_search_for_repeats_is_bounded_where_all_sentences_share_their_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jobs.text.repair.MAX_COMPARED", 20)
    draw = random.Random(1)
    vocabulary = [f"word{each}" for each in range(30)]
    sentences = [" ".join(["The", *draw.sample(vocabulary, 12)]) + "." for _ in range(400)]
    early, middle, late = (_num_steps(sentences[:size]) for size in (200, 300, 400))
    assert late - middle < 1.1 * (middle - early)


@given(st.lists(st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=14), max_size=30))
def test_repeats_are_those_that_a_comparison_with_every_sentence_finds(sentences: list[list[str]]) -> None:
    kept: list[str] = []
    for letters in sentences:
        key = set(letters)
        if not any(
            len(key & other) > MAX_RESEMBLANCE * len(key | other)
            if min(len(key), len(other)) >= MIN_WORDS_TO_COMPARE
            else key == other
            for other in (set(words(each)) for each in kept)
        ):
            kept.append(" ".join(letters))
    assert without_repeats(" ".join(each) for each in sentences) == (kept, len(sentences) - len(kept))


@given(st.lists(st.text(st.sampled_from('ab .!?\n"'), max_size=40), max_size=6))
def test_repeats_are_removed_once_and_for_all(blocks: list[str]) -> None:
    kept, _ = without_repeats(blocks)
    assert without_repeats(kept) == (kept, 0)
