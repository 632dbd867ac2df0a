"""A row in, its texts or fields out."""

from __future__ import annotations

import json
from typing import cast

import pytest

from jobs.errors import PromptTooLongError
from jobs.inference import (
    Completion,
    FinishReason,
    Inference,
    Prompt,
    Sampling,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from jobs.kind import Context, Result
from kinds.prompt.answer import AnswerCutError
from kinds.prompt.kind import PromptKind
from kinds.prompt.payload import PromptOutput, PromptPayload
from kinds.prompt.schema import AnswerInvalidError
from tests.unit.jobs.replies import JobContext, Replies

SCHEMA = json.dumps({"type": "object", "properties": {"colour": {"type": "string"}}})


def run(model: object, row: dict[str, object], **settings: object) -> Result:
    context = JobContext(cast("Inference", model), settings={"template": "About {{ name }}.", **settings})
    payload = PromptPayload.model_validate({"row": row})
    return PromptKind().run(payload, cast("Context", context))


class Model:
    """Gives the same completion again and again, if the prompt has at most `max_words` words."""

    def __init__(self, completion: Completion, max_words: int = 1_000) -> None:
        self.completion = completion
        self.max_words = max_words
        self.prompts: list[str] = []

    def generate(self, prompt: Prompt, sampling: Sampling) -> Completion:
        text = prompt.messages[-1].content
        self.prompts.append(text)
        num_words = len(text.split())
        if num_words > self.max_words:
            raise PromptTooLongError(
                num_words, sampling.max_new_tokens, self.max_words + sampling.max_new_tokens
            )
        return self.completion


def completion(text: str, **fields: object) -> Completion:
    values: dict[str, object] = {
        "text": text,
        "token_ids": (),
        "finish_reason": FinishReason.STOP,
        "usage": Usage(new_tokens=9),
        **fields,
    }
    return Completion(**values)  # type: ignore[arg-type]


def test_text_of_a_row_is_its_only_artifact() -> None:
    model = Replies(["  A lamp. \n"])
    result = run(model, {"name": "lamps"})
    assert model.questions == ["About lamps."]
    assert [(each.name, each.body) for each in result.artifacts] == [("text.txt", b"A lamp.\n")]
    assert result.output == PromptOutput(finish_reasons=(FinishReason.STOP,))
    assert result.template is not None


def test_texts_of_a_row_differ_in_their_seeds() -> None:
    model = Replies(["a", "b", "c"])
    result = run(model, {"name": "lamps"}, n=3, temperature=1, seed=5)
    assert [sampling.seed for _, sampling in model.asked] == [5, 6, 7]
    assert [each.name for each in result.artifacts] == ["text.txt", "answers.json"]
    assert json.loads(result.artifacts[1].body) == [{"text": "a"}, {"text": "b"}, {"text": "c"}]


def test_fields_of_a_schema_are_the_artifact() -> None:
    result = run(Replies(['{"colour": "red"}']), {"name": "lamps"}, json_schema=SCHEMA)
    assert [(each.name, json.loads(each.body)) for each in result.artifacts] == [
        ("output.json", {"colour": "red"})
    ]
    assert [parent.role for parent in result.parents] == ["schema"]


def test_fields_that_are_cut_are_an_error_with_what_there_was() -> None:
    cut = Model(completion('{"colour": "re', finish_reason=FinishReason.LENGTH))
    with pytest.raises(AnswerCutError, match=r"cut after 9 tokens.*begins with '\{\"colour"):
        run(cut, {"name": "lamps"}, json_schema=SCHEMA)


@pytest.mark.parametrize("constraint", [{"choice": ["red wine", "blue"]}, {"regex": "(red|blue) wine"}])
def test_choice_or_pattern_that_is_cut_is_an_error(constraint: dict[str, object]) -> None:
    cut = Model(completion("red", finish_reason=FinishReason.LENGTH))
    with pytest.raises(AnswerCutError, match="begins with 'red'"):
        run(cut, {"name": "lamps"}, **constraint)


def test_free_text_that_is_cut_is_a_result() -> None:
    result = run(Model(completion("A la", finish_reason=FinishReason.LENGTH)), {"name": "lamps"})
    assert result.output == PromptOutput(finish_reasons=(FinishReason.LENGTH,))


@pytest.mark.parametrize("constraint", [{"choice": [" red", "blue"]}, {"regex": " [a-z]+"}])
def test_white_space_of_a_choice_or_pattern_is_kept(constraint: dict[str, object]) -> None:
    result = run(Model(completion(" red")), {"name": "lamps"}, **constraint)
    assert [each.body for each in result.artifacts] == [b" red\n"]


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "-Infinity", "9" * 5_000])
def test_number_that_no_double_holds_is_an_error_of_its_own(number: str) -> None:
    with pytest.raises(AnswerInvalidError, match="a number that is too large or not finite: '"):
        run(Model(completion(f'{{"colour": [{number}]}}')), {"name": "lamps"}, json_schema=SCHEMA)


def test_long_numbers_that_doubles_hold_are_kept() -> None:
    text = '{"colour": [' + "9" * 300 + ", 0.1, -1e-999, 1.7e308]}"
    (artifact,) = run(Model(completion(text)), {"name": "lamps"}, json_schema=SCHEMA).artifacts
    assert json.loads(artifact.body) == {"colour": [int("9" * 300), 0.1, 0.0, 1.7e308]}


@pytest.mark.parametrize("text", ["no JSON", "[1]", ""])
def test_answer_that_is_no_object_is_an_error(text: str) -> None:
    with pytest.raises(AnswerInvalidError):
        run(Model(completion(text)), {"name": "lamps"}, json_schema=SCHEMA)


def test_reasoning_and_probabilities_are_kept() -> None:
    token = TokenLogprob(1, "A", b"A", -0.25, (TopLogprob(1, "A", b"A", -0.25),))
    model = Model(completion("A", reasoning="Let me see.", logprobs=(token,)))
    result = run(model, {"name": "lamps"}, logprobs=1)
    (answer,) = json.loads(result.artifacts[1].body)
    assert answer == {
        "text": "A",
        "reasoning": "Let me see.",
        "logprobs": [{"token": "A", "logprob": -0.25, "top": [["A", -0.25]]}],
    }


def test_row_that_is_too_long_is_cut_at_the_end_and_says_so() -> None:
    model = Model(completion("A lamp."), max_words=20)
    result = run(model, {"name": "lamp " * 1_000}, truncate="end")
    assert model.prompts[-1].startswith("About lamp lamp")
    assert 10 < len(model.prompts[-1].split()) <= 20
    (answer,) = json.loads(result.artifacts[1].body)
    assert answer["truncated"].startswith("name: ")
    assert answer["truncated"].endswith(" of 5,000 characters")


def test_named_column_is_cut_and_the_longest_is_kept() -> None:
    model = Model(completion("A lamp."), max_words=20)
    row: dict[str, object] = {"name": "lamp " * 10, "note": "x " * 9}
    run(model, row, template="{{ name }}\n{{ note }}", truncate="end", truncate_column="note")
    run(model, row, template="{{ name }}\n{{ note }}" + " y" * 3, truncate="end", truncate_column="note")
    assert model.prompts[0] == "lamp " * 10 + "\n" + "x " * 8 + "x"
    assert model.prompts[-1].startswith("lamp " * 10 + "\n")
    assert model.prompts[-1].count("lamp") == 10


def test_row_that_is_too_long_even_without_the_column_is_an_error() -> None:
    with pytest.raises(PromptTooLongError):
        run(Model(completion("A"), max_words=1), {"name": "lamp " * 9}, truncate="end")


def test_row_that_is_too_long_is_an_error_without_that_choice() -> None:
    with pytest.raises(PromptTooLongError):
        run(Model(completion("A"), max_words=5), {"name": "lamp " * 9})
