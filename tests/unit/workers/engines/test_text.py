"""Stop strings over tokens that are bytes: characters arrive in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.inference import TemplateArguments
from jobs.text.thoughts import ThoughtMarks
from workers.engines.text import TextStream
from workers.thinking import ThoughtPlan


class ByteTokenizer:
    """A token is a byte; what is not a whole character decodes to U+FFFD, as byte-level tokenizers do."""

    num_tokens = 256
    end_of_text_ids: frozenset[int] = frozenset()
    control_tokens: tuple[str, ...] = ()

    def encode_chat(
        self, messages: tuple[tuple[str, str], ...], arguments: TemplateArguments = ()
    ) -> tuple[int, ...]:
        return tuple("".join(content for _, content in messages).encode())

    def encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())

    def decode(self, token_ids: tuple[int, ...]) -> str:
        return bytes(token_ids).decode(errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id])


def stream(text: str, *stop: str) -> TextStream:
    """A stream that was given the text's bytes until it stopped."""
    made = TextStream(ByteTokenizer(), stop)
    for byte in text.encode():
        if made.push(byte) is not None:
            return made
    made.finish()
    return made


@pytest.mark.parametrize(
    ("text", "stop", "kept", "met"),
    [
        ("one two three", ("two",), "one ", "two"),
        ("one two three", ("tw", "two"), "one ", "tw"),
        ("naïve café — 東京 end", ("東京",), "naïve café — ", "東京"),
        ("naïve café — 東京 end", ("京 e",), "naïve café — 東", "京 e"),
        ("🙂🙃", ("🙃",), "🙂", "🙃"),
        ("nothing here", ("absent",), "nothing here", None),
    ],
)
def test_text_ends_before_the_first_stop_string(
    text: str, stop: tuple[str, ...], kept: str, met: str | None
) -> None:
    made = stream(text, *stop)
    assert (made.text, made.stop_string) == (kept, met)


def test_bytes_that_never_become_a_character_are_kept_as_they_decode() -> None:
    made = TextStream(ByteTokenizer(), ("stop",))
    for byte in "ab東".encode()[:-1]:
        assert made.push(byte) is None
    made.finish()
    assert made.text == "ab\N{REPLACEMENT CHARACTER}"


@given(
    st.text(alphabet="aböc東🙂", max_size=30),
    st.lists(st.text(alphabet="aböc東🙂", min_size=1, max_size=3), min_size=1),
)
def test_stream_agrees_with_a_search_in_the_whole_text(text: str, stop: list[str]) -> None:
    places = [place for place in map(text.find, stop) if place >= 0]
    made = stream(text, *stop)
    assert (made.stop_string is None) == (not places)
    if not places:
        assert made.text == text
    else:
        # It stops at the end of a stop string, so one that begins earlier but ends later is not seen yet.
        assert made.stop_string is not None
        assert made.text + made.stop_string in text
        assert not any(other in made.text for other in stop)


@pytest.mark.parametrize(
    ("min_tokens", "kept"),
    [(0, "a-"), (4, "a-"), (5, "a-ab-"), (7, "a-ab-"), (8, "a-ab-abc"), (9, "a-ab-abc")],
)
def test_stop_string_counts_from_the_minimum_number_of_tokens(min_tokens: int, kept: str) -> None:
    made = TextStream(ByteTokenizer(), ("ab",), min_tokens=min_tokens)
    for byte in b"a-ab-abc":
        if made.push(byte) is not None:
            break
    assert made.text == kept


def test_completed_stop_string_before_the_minimum_is_not_found_later() -> None:
    """Another stop string is longer than what lies between, so the text is searched further back for it."""
    made = TextStream(ByteTokenizer(), ("ab", "a long stop string"), min_tokens=3)
    assert [made.push(byte) for byte in b"ab, and on"] == [None] * 10


def thinking(text: str, *, is_inside: bool = True) -> TextStream:
    """A stream of a model that thinks, which was given the text's bytes as one token each."""
    tokenizer = ByteTokenizer()
    marks = ThoughtMarks((("<think>", "</think>"),), is_own=True)
    made = TextStream(tokenizer, (), ThoughtPlan(marks, is_inside, 100, tokenizer.decode))
    for byte in text.encode():
        made.push(byte)
    return made


@pytest.mark.parametrize(
    ("text", "is_inside", "has_answer"),
    [
        ("", True, False),
        ("a plan", True, False),
        ("a plan</think>", True, True),
        ("", False, True),
        ("<think>a", False, False),
        ("<think>a</think>\n", False, True),
    ],
)
def test_answer_begins_after_the_thought(text: str, is_inside: bool, has_answer: bool) -> None:
    assert thinking(text, is_inside=is_inside).has_answer == has_answer


def test_answer_may_begin_in_the_token_that_ends_the_thought() -> None:
    made = thinking('a plan</think>\n\n{"a": ')
    assert made.begin_answer() == '{"a": '
    assert (made.answer, made.thought) == ('{"a": ', "a plan</think>\n\n")


def test_mark_in_an_answer_that_has_begun_is_text() -> None:
    made = thinking("a plan</think>")
    made.begin_answer()
    for byte in b'"<think>"':
        made.push(byte)
    assert made.has_answer
    assert made.answer == '"<think>"'
