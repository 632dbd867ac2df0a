"""Blocks of lines: each line has an outcome of its own, whatever happens to the others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import EngineError, InputError
from jobs.inference import (
    Completion,
    Embedding,
    LabelProbabilities,
    ModelTaskError,
    Prompt,
    RawPrompt,
    Sampling,
    TextPair,
)
from kinds.prompt.openai.blocks import BLOCK_TEXTS, BlockMaker, LineOutcome, read_outcomes, run_block
from kinds.prompt.openai.lines import EMBEDDINGS, BlockLine, Failure, LineRequest, RefusedLine, compact_json
from kinds.prompt.openai.responses import decoded_vector
from kinds.prompt.payload import PromptPayload

MAX_CHARACTERS = 50


class CountedLetters:
    """An encoder whose vectors have the length of the text and the name of the model in them."""

    def __init__(self, *, fails_with: Exception | None = None) -> None:
        self.calls: list[tuple[str | None, int]] = []
        self.fails_with = fails_with

    def embeddings(self, texts: Sequence[str], *, model: str | None = None) -> tuple[Embedding, ...]:
        self.calls.append((model, len(texts)))
        if self.fails_with is not None:
            raise self.fails_with
        if any("bomb" in text for text in texts):
            raise InputError("the text explodes", code="text_explosive")
        return tuple(
            Embedding(
                vector=(math.inf if text == "endless" else float(len(text)), float(len(model or ""))),
                num_tokens=min(len(text), MAX_CHARACTERS),
                is_truncated=len(text) > MAX_CHARACTERS,
            )
            for text in texts
        )

    def embed(self, texts: Sequence[str], *, model: str | None = None) -> tuple[tuple[float, ...], ...]:
        raise NotImplementedError

    def generate(
        self, prompt: Prompt | RawPrompt, sampling: Sampling, *, model: str | None = None
    ) -> Completion:
        raise NotImplementedError

    def classify(
        self, pairs: Sequence[TextPair], *, model: str | None = None, calibrated: bool = True
    ) -> tuple[LabelProbabilities, ...]:
        raise NotImplementedError

    def model_sha256(self, *, model: str | None = None) -> str:
        raise NotImplementedError


def line(custom_id: str, *texts: str, model: str = "vectors", **members: object) -> LineRequest:
    body = {"model": "theirs", "input": list(texts), **members}
    return LineRequest(custom_id=custom_id, url=EMBEDDINGS, model=model, body=compact_json(body))


def outcomes_of(*lines: BlockLine, encoder: CountedLetters | None = None) -> list[LineOutcome]:
    result = run_block(lines, encoder or CountedLetters())
    return list(read_outcomes(result.artifacts[0].body))


def vectors_of(outcome: LineOutcome) -> list[list[float]]:
    return [decoded_vector(vector) for vector in outcome.vectors]


def test_each_line_gets_its_own_embeddings_in_order() -> None:
    first, second = outcomes_of(line("a", "bread", "oven"), line("b", "rye"))
    assert (first.custom_id, vectors_of(first), first.num_tokens) == ("a", [[5, 7], [4, 7]], 9)
    assert (second.custom_id, vectors_of(second)) == ("b", [[3, 7]])


def test_lines_for_different_models_are_embedded_by_their_own() -> None:
    encoder = CountedLetters()
    outcomes = outcomes_of(line("a", "rye"), line("b", "oat", model="m"), line("c", "rye"), encoder=encoder)
    assert [vectors_of(each) for each in outcomes] == [[[3, 7]], [[3, 1]], [[3, 7]]]
    assert encoder.calls == [("vectors", 2), ("m", 1)]


@pytest.mark.parametrize(
    ("bad", "code", "parameter"),
    [
        (line("x", "rye", "a bomb"), "text_explosive", "input.1"),
        (line("x", "y" * 51), "prompt_too_long", "input"),
        (line("x", "rye", dimensions=3), "invalid_value", "dimensions"),
        (line("x", "endless"), "answer_not_finite", "input"),
        (RefusedLine(custom_id="x", failure=Failure("no", "No.", "model")), "no", "model"),
    ],
)
def test_a_text_that_cannot_be_embedded_fails_its_own_line_alone(
    bad: BlockLine, code: str, parameter: str
) -> None:
    before, failed, after = outcomes_of(line("a", "rye"), bad, line("b", "bread"))
    assert failed.failure is not None
    assert (failed.failure.code, failed.failure.parameter) == (code, parameter)
    assert (vectors_of(before), vectors_of(after)) == ([[3, 7]], [[5, 7]])


def test_the_number_of_dimensions_that_the_model_has_is_served() -> None:
    (outcome,) = outcomes_of(line("a", "rye", dimensions=2))
    assert outcome.failure is None


@pytest.mark.parametrize("error", [EngineError("the device is lost"), ModelTaskError("it cannot embed")])
def test_an_error_that_is_not_of_a_text_fails_the_job(error: Exception) -> None:
    with pytest.raises(type(error)):
        outcomes_of(line("a", "rye"), encoder=CountedLetters(fails_with=error))


def test_a_block_of_refused_lines_asks_no_model() -> None:
    encoder = CountedLetters()
    result = run_block([RefusedLine(custom_id="a", failure=Failure("no", "No."))] * 3, encoder)
    assert encoder.calls == []
    assert result.metrics == {"num_lines": 3, "num_failed": 3}


def test_a_block_is_full_at_its_number_of_texts() -> None:
    maker = BlockMaker()
    for number in range(BLOCK_TEXTS // 2):
        assert not maker.is_full
        maker.add(line(str(number), "rye", "oat"))
    assert maker.is_full
    assert len(maker.take()) == BLOCK_TEXTS // 2
    assert not maker.is_full


failures = st.builds(Failure, st.text(), st.text(), st.none() | st.text(), is_refused=st.booleans())
block_lines = st.builds(
    lambda custom_id, texts: line(custom_id, *texts),
    st.text(min_size=1),
    st.lists(st.text(min_size=1), min_size=1),
) | st.builds(RefusedLine, custom_id=st.text(min_size=1), failure=failures)


@given(st.lists(block_lines, min_size=1, max_size=5))
def test_a_block_is_the_same_after_it_was_stored(lines: list[BlockLine]) -> None:
    payload = PromptPayload(block=tuple(lines))
    assert PromptPayload.model_validate(payload.stored()) == payload


@given(st.builds(LineOutcome, custom_id=st.text(min_size=1), failure=st.none() | failures))
def test_an_outcome_is_the_same_after_it_was_stored(outcome: LineOutcome) -> None:
    assert list(read_outcomes(outcome.model_dump_json(exclude_defaults=True).encode() + b"\n")) == [outcome]


@pytest.mark.parametrize(("form", "expected"), [("base64", "AACAPwAAAL8="), ("float", [1.0, -0.5])])
def test_the_body_has_the_format_that_the_line_requests(form: str, expected: object) -> None:
    outcome = LineOutcome.model_validate(
        {
            "custom_id": "a",
            "model": "m",
            "encoding_format": form,
            "vectors": ["AACAPwAAAL8="],
            "num_tokens": 3,
        }
    )
    body = outcome.body()
    assert body["data"] == [{"object": "embedding", "index": 0, "embedding": expected}]
