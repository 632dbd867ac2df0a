"""Output and error lines, read back with the types of the official `openai` package."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion as TextCompletion
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion

from jobs.inference import Completion, FinishReason, TokenLogprob, TopLogprob, Usage
from jobs.job import JobStatus
from kinds.prompt.openai.lines import Failure
from kinds.prompt.openai.responses import (
    chat_response,
    completion_response,
    decoded_vector,
    embedding_response,
    encoded_vector,
    ended_line,
    failure_line,
    job_failure,
    output_line,
)

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def token(text: str, logprob: float = -0.5, *, utf8: bytes | None = None, top: int = 0) -> TokenLogprob:
    likeliest = tuple(TopLogprob(n, f"{text}{n}", f"{text}{n}".encode(), -0.1 * (n + 1)) for n in range(top))
    return TokenLogprob(1, text, text.encode() if utf8 is None else utf8, logprob, likeliest)


def completion(
    text: str = "Bread.",
    *,
    tokens: tuple[TokenLogprob, ...] | None = None,
    reason: FinishReason = FinishReason.STOP,
    reasoning: str | None = None,
) -> Completion:
    return Completion(
        text=text,
        token_ids=(1, 2, 3),
        finish_reason=reason,
        usage=Usage(prompt_tokens=10, cached_tokens=4, new_tokens=3),
        logprobs=tokens,
        reasoning=reasoning,
    )


def body_of(line: dict[str, object]) -> dict[str, object]:
    """Return the body of a line that has all members of a line that was answered, and no others."""
    line = json.loads(json.dumps(line))
    assert line.keys() == {"id", "custom_id", "response", "error"}
    assert line["error"] is None
    response = line["response"]
    assert isinstance(response, dict)
    assert response.keys() == {"status_code", "request_id", "body"}
    body = response["body"]
    assert isinstance(body, dict)
    return body


def chat_of(*completions: Completion) -> ChatCompletion:
    line = output_line("k1", "a", chat_response("small", completions), AT)
    return ChatCompletion.model_validate(body_of(line), strict=True)


def text_of(*completions: Completion, n: int = 1) -> TextCompletion:
    line = output_line("k1", "a", completion_response("small", completions, n=n), AT)
    return TextCompletion.model_validate(body_of(line), strict=True)


def test_a_chat_is_read_by_the_official_type() -> None:
    chat = chat_of(completion(), completion("Rolls", reason=FinishReason.LENGTH))
    assert (chat.id, chat.created, chat.model) == ("chatcmpl-k1", int(AT.timestamp()), "small")
    assert [choice.index for choice in chat.choices] == [0, 1]
    assert [choice.message.content for choice in chat.choices] == ["Bread.", "Rolls"]
    assert [choice.finish_reason for choice in chat.choices] == ["stop", "length"]
    assert chat.choices[0].logprobs is None
    assert not chat.model_extra


def test_usage_counts_a_prompt_once_however_many_texts_it_has() -> None:
    usage = chat_of(completion(), completion(), completion()).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (10, 9, 19)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 4
    two_prompts = text_of(*[completion()] * 6, n=3).usage
    assert two_prompts is not None
    assert (two_prompts.prompt_tokens, two_prompts.completion_tokens) == (20, 18)


def test_log_probabilities_of_a_chat_have_bytes_and_the_likeliest_tokens() -> None:
    chat = chat_of(completion("Ö!", tokens=(token("Ö", top=2), token("!"), token("<|im_end|>"))))
    logprobs = chat.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    first, second = logprobs.content
    assert (first.token, first.bytes, first.logprob) == ("Ö", [195, 150], -0.5)
    assert [(top.token, top.logprob) for top in first.top_logprobs] == [("Ö0", -0.1), ("Ö1", -0.2)]
    assert (second.token, second.top_logprobs) == ("!", [])


def test_tokens_of_thoughts_and_of_a_stop_string_have_no_log_probabilities() -> None:
    tokens = tuple(map(token, ("<think>", "Rye", "</think>", "Ry", "e", "\n", "END")))
    chat = chat_of(completion("Rye", tokens=tokens, reasoning="Rye"))
    logprobs = chat.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [each.token for each in logprobs.content] == ["Ry", "e"]
    assert chat.choices[0].message.model_extra == {"reasoning_content": "Rye"}


def test_log_probabilities_of_completions_count_characters_not_bytes() -> None:
    halves = (token("\ufffd", utf8=b"\xc3"), token("\ufffd", utf8=b"\x96"))
    text = text_of(completion("Öl, ja", tokens=(*halves, token("l,", top=2), token(" ja"))))
    logprobs = text.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == ["\ufffd", "\ufffd", "l,", " ja"]
    assert logprobs.text_offset == [0, 0, 1, 3]
    assert logprobs.token_logprobs == [-0.5] * 4
    assert logprobs.top_logprobs is not None
    assert logprobs.top_logprobs[2] == {"l,0": -0.1, "l,1": -0.2, "l,": -0.5}


def test_embeddings_are_read_by_the_official_type() -> None:
    body = embedding_response("vectors", [(0.25, -1.0), (0.5, 0.5)], 9)
    line = output_line("k1", "a", body, AT)
    response = CreateEmbeddingResponse.model_validate(body_of(line), strict=True)
    assert [each.embedding for each in response.data] == [[0.25, -1.0], [0.5, 0.5]]
    assert [each.index for each in response.data] == [0, 1]
    assert (response.usage.prompt_tokens, response.usage.total_tokens) == (9, 9)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_a_vector_in_base64_is_decoded_as_the_official_client_does(vector: list[float]) -> None:
    encoded = encoded_vector(vector)
    assert np.frombuffer(base64.b64decode(encoded), dtype="float32").tolist() == vector
    assert decoded_vector(encoded) == vector


def test_a_refused_line_is_a_response_with_status_400() -> None:
    failure = Failure("unsupported_parameter", "tools is not served", "tools")
    line = failure_line("k1", "a", failure)
    assert body_of(line) == {
        "error": {
            "message": "tools is not served",
            "type": "invalid_request_error",
            "param": "tools",
            "code": "unsupported_parameter",
        }
    }
    assert line["response"] == {"status_code": 400, "request_id": "req_k1", "body": body_of(line)}


@pytest.mark.parametrize(
    ("code", "status", "shown"),
    [
        ("prompt_too_long", 400, "context_length_exceeded"),
        ("input_control_token", 400, "input_control_token"),
        ("engine_failed", 500, "engine_failed"),
        (None, 500, "job_failed"),
    ],
)
def test_a_failed_job_is_the_fault_of_its_line_or_of_the_server(
    code: str | None, status: int, shown: str
) -> None:
    line = json.loads(json.dumps(failure_line("k1", "a", job_failure(code, "It failed."))))
    assert line["response"]["status_code"] == status
    assert line["response"]["body"]["error"]["code"] == shown


@pytest.mark.parametrize(
    ("status", "code"), [(JobStatus.EXPIRED, "batch_expired"), (JobStatus.CANCELLED, "batch_cancelled")]
)
def test_a_request_that_was_not_run_has_no_response(status: JobStatus, code: str) -> None:
    line = json.loads(json.dumps(ended_line("k1", "a", status)))
    assert line.keys() == {"id", "custom_id", "response", "error"}
    assert line["response"] is None
    assert line["error"]["code"] == code


texts = st.text(max_size=20)


@given(pieces=st.lists(texts, max_size=6), cut=st.integers(0, 6))
def test_the_offsets_of_tokens_are_the_places_of_their_texts(pieces: list[str], cut: int) -> None:
    text = "".join(pieces[:cut])
    result = text_of(completion(text, tokens=tuple(map(token, pieces))))
    logprobs = result.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.text_offset is not None
    assert "".join(logprobs.tokens).startswith(text)
    for each, offset in zip(logprobs.tokens, logprobs.text_offset, strict=True):
        assert text.startswith(each[: len(text) - offset], offset)
