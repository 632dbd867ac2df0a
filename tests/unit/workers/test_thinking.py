"""The switches of chat templates, and stop strings and limits that are for the answer alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.text.thoughts import find_marks
from tests.tiny_bigram import TEMPLATE, write_bigram_model
from tests.unit.workers.engines.test_text import ByteTokenizer
from workers.engines.text import TextStream
from workers.thinking import ThoughtPlan
from workers.tokenizer import ChatTokenizer, load_tokenizer

MARKS = find_marks("<think>", ())
QWEN = (
    "{% if enable_thinking is defined and enable_thinking is false %}<think> </think> {% endif %}"
    "{{ keep_past_thinking }}{{ clear_thinking }}"
)


def tokenizer_of(folder: Path, template: str, *, is_requested: bool = False) -> ChatTokenizer:
    write_bigram_model(folder, ["assistant", "<think>", "plan", "</think>"], template=template)
    return load_tokenizer(folder, is_thinking_requested=is_requested)


@pytest.mark.parametrize(
    ("template", "off", "on"),
    [
        (QWEN, {"enable_thinking": False}, {"enable_thinking": True}),
        (
            "{% if not thinking is defined %}{% set thinking = false %}{% endif %}{{ thinking }}",
            {"thinking": False},
            {"thinking": True},
        ),
        ("{% set thinking_budget = thinking_budget | default(-1) %}", {"thinking_budget": 0}, {}),
        ("Reasoning: {{ reasoning_effort | default('medium') }}", {"reasoning_effort": "low"}, {}),
        ("{% if reasoning_effort in ['low', 'minimal'] %}{% endif %}", {"reasoning_effort": "minimal"}, {}),
        ("{% if reasoning_effort == 'none' %}{% endif %}", {"reasoning_effort": "none"}, {}),
        ("{% if thinking_mode == 'disabled' %}{% endif %}", {"thinking_mode": "disabled"}, {}),
        ("If thinking_mode is enabled: {{ messages }}", {}, {}),
        (TEMPLATE, {}, {}),
    ],
)
def test_template_that_knows_the_switch_is_told(
    tmp_path: Path, template: str, off: dict[str, object], on: dict[str, object]
) -> None:
    assert dict(tokenizer_of(tmp_path, template).template_settings) == off
    assert dict(tokenizer_of(tmp_path, template, is_requested=True).template_settings) == on


def test_switch_reaches_the_prompt(tmp_path: Path) -> None:
    messages = (("user", "assistant"),)
    tokenizer = tokenizer_of(tmp_path, TEMPLATE + " " + QWEN)
    plan = tokenizer.plan_thoughts(tokenizer.encode_chat(messages), 10)
    assert plan is not None
    assert not plan.is_inside
    assert tokenizer.decode(tokenizer.encode_chat(messages)).endswith("<think> </think>")
    asked = tokenizer_of(tmp_path, TEMPLATE + " " + QWEN, is_requested=True)
    assert asked.decode(asked.encode_chat(messages)).endswith("assistant")


def test_prompt_that_begins_a_thought_is_seen(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path, TEMPLATE + " <think>\n")
    plan = tokenizer.plan_thoughts(tokenizer.encode_chat((("user", "plan"),)), 10)
    assert plan is not None
    assert plan.is_inside


def test_special_tokens_that_mark_a_thought_are_decoded_for_its_reader(tmp_path: Path) -> None:
    words = ["assistant", "[THINK]", "plan", "[/THINK]", "Text"]
    write_bigram_model(tmp_path, words, special=["[THINK]", "[/THINK]"])
    tokenizer = load_tokenizer(tmp_path)
    ids = (4, 5, 6, 7, 2)
    assert tokenizer.decode(ids) == "plan Text"
    assert tokenizer.thought_marks.answer(tokenizer.decode_thoughts(ids)) == ("Text", False)


def stream(text: str, *stop: str, is_inside: bool = False, max_tokens: int = 100) -> TextStream:
    tokenizer = ByteTokenizer()
    made = TextStream(tokenizer, stop, ThoughtPlan(MARKS, is_inside, max_tokens, tokenizer.decode))
    for byte in text.encode():
        if made.push(byte) is not None:
            break
    made.finish()
    return made


def test_stop_string_within_a_thought_does_not_end_the_text() -> None:
    made = stream("<think>one\ntwo}</think>three}four", "\n", "}")
    assert (made.text, made.stop_string) == ("<think>one\ntwo}</think>three", "}")
    made = stream("one\ntwo</think>three\nfour", "\n", is_inside=True)
    assert (made.text, made.stop_string) == ("one\ntwo</think>three", "\n")


def test_tokens_of_a_thought_are_not_those_of_the_answer() -> None:
    thought = "<think>plan</think>"
    assert stream(thought + "Text").num_thought_tokens == len(thought)
    assert stream(thought + "Text", max_tokens=5).num_thought_tokens == 5
    assert stream("<think>plan").num_thought_tokens == 100
    assert stream("plan", is_inside=True).num_thought_tokens == 100
    assert stream("Text").num_thought_tokens == 0
