"""Marks of thoughts, by families of models: what a template says, what is read out of an answer."""

from __future__ import annotations

import pytest

from jobs.text.repair import clean
from jobs.text.thoughts import CHANNEL_MARKS, DEFAULT_MARKS, find_marks

HARMONY = (
    "<|channel|>analysis<|message|>The user wants bread.<|end|>"
    "<|start|>assistant<|channel|>final<|message|>Bread needs time.<|return|>"
)

FAMILIES = {
    "deepseek r1": ("{{'<｜Assistant｜><think>\\n'}}", (), "plan</think>\n\nText"),
    "qwen 3": ("{{ '<think>\\n\\n</think>\\n\\n' }}", ("<think>", "</think>"), "<think>plan</think>\n\nText"),
    "magistral": ("", ("[THINK]", "[/THINK]"), "[THINK]plan[/THINK]Text"),
    "command a": (
        "",
        ("<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"),
        "<|START_THINKING|>plan<|END_THINKING|><|START_RESPONSE|>Text<|END_RESPONSE|>",
    ),
    "kimi": ("", ("◁think▷", "◁/think▷"), "◁think▷plan◁/think▷Text"),
    "seed-oss": (
        "{%- set think_begin_token = '<seed:think>' -%}{%- set budget = '<seed:cot_budget_reflect>' -%}",
        (),
        "<seed:think>plan<seed:cot_budget_reflect>9</seed:cot_budget_reflect>more</seed:think>Text",
    ),
    "exaone deep": ("[|assistant|]<thought>\\n", (), "plan</thought>\n\nText"),
    "hunyuan": ("<think>", (), "<think>\nplan\n</think>\n<answer>\nText\n</answer>"),
    "granite 3.3": (
        "<think></think><response></response>",
        (),
        "<think>plan</think><response>Text</response>",
    ),
    "granite 3.2": (
        "Write your thoughts after 'Here is my thought process:'",
        (),
        "Here is my thought process: plan Here is my response: Text",
    ),
    "apertus": ("", ("<|inner_prefix|>", "<|inner_suffix|>"), "<|inner_prefix|>plan<|inner_suffix|>Text"),
    "openthinker": (
        "<|begin_of_thought|> {thought} <|end_of_thought|> <|begin_of_solution|> <|end_of_solution|>",
        (),
        "<|begin_of_thought|>plan<|end_of_thought|><|begin_of_solution|>Text<|end_of_solution|>",
    ),
    "gemma 4": ("<|channel>thought\\n<channel|>", (), "<|channel>thought\nplan<channel|>Text"),
    "gpt-oss": (
        "",
        CHANNEL_MARKS,
        "<|channel|>analysis<|message|>plan<|end|><|start|>assistant<|channel|>final<|message|>Text<|return|>",
    ),
    "a family of tomorrow": ("<mm:reasoning>", (), "<mm:reasoning>plan</mm:reasoning>Text"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_thought_of_a_family_is_taken_out_by_the_marks_of_its_template(family: str) -> None:
    template, tokens, text = FAMILIES[family]
    marks = find_marks(template, tokens)
    assert marks.is_own
    assert marks.answer(text) == ("Text", False)
    reasoning = marks.reasoning(text)
    assert reasoning is not None
    assert reasoning.startswith("plan")
    assert reasoning == "plan" or family == "seed-oss"


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("deepseek r1", "exaone deep")])
def test_thought_that_the_length_cut_off_is_open(family: str) -> None:
    template, tokens, text = FAMILIES[family]
    cut = text[: text.index("plan") + 4]
    assert find_marks(template, tokens).answer(cut) == ("", True)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("plan</think>Text", ("Text", False)),
        ("plan", ("", True)),
        ("a<think>b</think>c</think>Text", ("Text", False)),
        ("</think>Text", ("Text", False)),
    ],
)
def test_thought_that_the_prompt_began_ends_at_its_mark(text: str, answer: tuple[str, bool]) -> None:
    marks = find_marks("<think>\\n", ())
    assert marks.opens("<|im_start|>assistant\n<think>\n")
    assert not marks.opens("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert marks.answer(text, is_inside=True) == answer


@pytest.mark.parametrize(
    ("text", "is_inside", "reasoning"),
    [
        ("plan</think>Text", True, "plan"),
        ("plan</think>Text", False, "plan"),
        ("a<think>b</think>c</think>Text", True, "a\n\nb\n\nc"),
        ("a<think>b</think>c</think>Text", False, "a\n\nb\n\nc"),
        ("<think>a</think>Text<think>b</think>More", False, "a\n\nb"),
        ("<think>\n\n</think>\n\nText", False, None),
        ("<think>half a plan", False, "half a plan"),
        ("half a plan", True, "half a plan"),
        ("Text", False, None),
        ("", False, None),
    ],
)
def test_reasoning_is_what_is_not_the_answer(text: str, is_inside: bool, reasoning: str | None) -> None:
    assert find_marks("<think>", ()).reasoning(text, is_inside=is_inside) == reasoning


def test_only_the_final_channel_is_an_answer() -> None:
    marks = find_marks("", CHANNEL_MARKS)
    assert marks.reasoning(HARMONY) == "The user wants bread."
    assert marks.reasoning("The user<|end|>", is_inside=True) == "The user"
    assert marks.answer(HARMONY) == ("Bread needs time.", False)
    assert marks.answer(HARMONY[: HARMONY.index("final") + 3]) == ("", True)
    assert marks.answer("<|channel|>commentary to=x<|message|>{}<|call|>") == ("", False)
    assert marks.opens("<|start|>assistant<|channel|>analysis<|message|>")
    assert not marks.opens("<|start|>assistant<|channel|>final<|message|>")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>plan</think>Text", ("Text", False)),
        ("Sure!\n<think>plan</think>\nText", ("Sure!\n\nText", False)),
        ("plan</think>\nText", ("Text", False)),
        (HARMONY, ("Bread needs time.", False)),
        ("<think>plan", ("", True)),
        ("The tag <think> begins a thought.", ("The tag <think> begins a thought.", False)),
        ("Use `<think>` and `</think>`.", ("Use `<think>` and `</think>`.", False)),
        ("  I think, therefore I am.\n", ("  I think, therefore I am.\n", False)),
    ],
)
def test_model_that_says_nothing_of_thoughts_may_speak_of_their_tags(
    text: str, answer: tuple[str, bool]
) -> None:
    marks = find_marks("{{ '<|im_start|>assistant' }}", ("<|im_start|>", "<|im_end|>"))
    assert marks is DEFAULT_MARKS
    assert marks.answer(text) == answer


def test_tools_and_budgets_are_no_thoughts() -> None:
    template = "<tool_call></tool_call><tool_response><reasoning_effort><seed:cot_budget_reflect>[INST]"
    assert find_marks(template, ()) is DEFAULT_MARKS


def test_thought_is_not_repaired_into_a_text() -> None:
    assert clean("<think>plan</think>Bread needs time.").blocks == ("Bread needs time.",)
    assert clean("<think>The plan is to write of bread.").blocks == ()


@pytest.mark.parametrize(
    "text",
    [
        "<THINK>plan</THINK>Text",
        "<Think>\nplan\n</think>\nText",
        "<thoughts>plan</thoughts>Text",
        "<reflection>plan</reflection>Text",
        "<|think|>plan<|/think|>Text",
    ],
)
def test_thought_is_taken_out_whatever_the_case_and_the_usual_word_of_its_marks(text: str) -> None:
    assert DEFAULT_MARKS.answer(text) == ("Text", False)
    assert DEFAULT_MARKS.answer(text[: text.index("plan")]) == ("", True)


def test_end_that_a_template_does_not_name_is_the_usual_one_of_its_beginning() -> None:
    marks = find_marks("{{ '<|begin_of_thought|>' }}", [])
    assert marks.answer("<|begin_of_thought|>plan<|end_of_thought|>Text") == ("Text", False)
