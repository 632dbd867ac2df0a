"""Writes the results of lines in the shape of OpenAI's batch output and error files.

Members are those of the official `openai` package (types/chat/chat_completion.py, types/completion.py and
types/create_embedding_response.py, version 3.57). Jobs store bodies without ids and times, which the export
adds, so that equal results are equal bytes.
"""

from __future__ import annotations

import base64
import codecs
import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from jobs.inference import Completion, TokenLogprob, TopLogprob, Usage
from jobs.job import JobStatus
from kinds.prompt.openai.lines import CHAT, COMPLETIONS, EMBEDDINGS, Failure

JsonObject = dict[str, object]

OK = 200
BAD_REQUEST = 400
SERVER_ERROR = 500

_OBJECTS = {CHAT: "chat.completion", COMPLETIONS: "text_completion", EMBEDDINGS: "list"}

_ID_PREFIXES = {"chat.completion": "chatcmpl-", "text_completion": "cmpl-"}
"""Beginning of a response's id by its object; a list of embeddings has no id."""

_REFUSED_CODES = frozenset(
    {
        "prompt_too_long",
        "input_invalid",
        "input_control_token",
        "text_invalid_unicode",
        "chat_template_refused",
        "constraint_unsupported",
        "number_out_of_range",
        "model_task_mismatch",
    }
)
"""Codes of errors that are the fault of a line although they were noticed only by its worker."""

_THEIR_CODES = {"prompt_too_long": "context_length_exceeded"}
"""OpenAI's codes, for which clients look, by Pressroom's."""

ENDED = {
    JobStatus.EXPIRED: ("batch_expired", "The request was not run before the deadline of its batch."),
    JobStatus.CANCELLED: ("batch_cancelled", "The request was not run because its batch was cancelled."),
}
"""Codes and messages of requests that were not run."""


def job_failure(code: str | None, message: str | None) -> Failure:
    """Return the failure of a line whose job failed with this error."""
    code = code or "job_failed"
    return Failure(code, message or "The job failed.", is_refused=code in _REFUSED_CODES)


def _error_body(failure: Failure) -> JsonObject:
    return {
        "error": {
            "message": failure.message,
            "type": "invalid_request_error" if failure.is_refused else "server_error",
            "param": failure.parameter,
            "code": _THEIR_CODES.get(failure.code, failure.code),
        }
    }


def chat_response(model: str, completions: Sequence[Completion]) -> JsonObject:
    """Return the body of a response to a chat, with a choice for each completion."""
    choices: list[JsonObject] = []
    for index, completion in enumerate(completions):
        message: JsonObject = {"role": "assistant", "content": completion.text, "refusal": None}
        if completion.reasoning is not None:
            message["reasoning_content"] = completion.reasoning  # as servers of thinking models name it
        choices.append(
            {
                "index": index,
                "message": message,
                "logprobs": _chat_logprobs(completion),
                "finish_reason": completion.finish_reason.value,
            }
        )
    return _response(CHAT, model, choices, completions, num_choices=len(completions))


def completion_response(model: str, completions: Sequence[Completion], *, n: int) -> JsonObject:
    """Return the body of a response to prompts without a chat template.

    `completions` has `n` texts for each prompt, prompt by prompt, as OpenAI numbers them.
    """
    choices: list[JsonObject] = [
        {
            "index": index,
            "text": completion.text,
            "logprobs": _completion_logprobs(completion),
            "finish_reason": completion.finish_reason.value,
        }
        for index, completion in enumerate(completions)
    ]
    return _response(COMPLETIONS, model, choices, completions, num_choices=n)


def embedding_response(
    model: str, vectors: Sequence[Sequence[float]] | Sequence[str], num_tokens: int
) -> JsonObject:
    """Return the body of a response with embeddings, each as numbers or in Base64 (see `encoded_vector`)."""
    return {
        "object": _OBJECTS[EMBEDDINGS],
        "data": [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
    }


def encoded_vector(vector: Sequence[float]) -> str:
    """Return a vector as 32-bit floats, the least significant byte first, in Base64, as OpenAI encodes it.

    >>> encoded_vector((1.0, -0.5))
    'AACAPwAAAL8='
    """
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def decoded_vector(text: str) -> list[float]:
    """Return the vector that `encoded_vector` wrote.

    >>> decoded_vector("AACAPwAAAL8=")
    [1.0, -0.5]
    """
    body = base64.b64decode(text)
    return list(struct.unpack(f"<{len(body) // 4}f", body))


def output_line(key: str, custom_id: str, body: Mapping[str, object], created_at: datetime) -> JsonObject:
    """Return the output line of a request that succeeded. `key` identifies the request."""
    return _answered(key, custom_id, OK, _completed(body, key, created_at))


def failure_line(key: str, custom_id: str, failure: Failure) -> JsonObject:
    """Return the error line of a request that was refused, or that failed."""
    return _answered(
        key, custom_id, BAD_REQUEST if failure.is_refused else SERVER_ERROR, _error_body(failure)
    )


def ended_line(key: str, custom_id: str, status: JobStatus) -> JsonObject:
    """Return the error line of a request that was not run, because its batch expired or was cancelled."""
    code, message = ENDED[status]
    return {**_line(key, custom_id), "response": None, "error": {"code": code, "message": message}}


def _answered(key: str, custom_id: str, status_code: int, body: JsonObject) -> JsonObject:
    response = {"status_code": status_code, "request_id": f"req_{key}", "body": body}
    return {**_line(key, custom_id), "response": response, "error": None}


def _line(key: str, custom_id: str) -> JsonObject:
    return {"id": f"batch_req_{key}", "custom_id": custom_id}


def _completed(body: Mapping[str, object], key: str, created_at: datetime) -> JsonObject:
    """Return the body with the members that the export adds."""
    prefix = _ID_PREFIXES.get(str(body["object"]))
    if prefix is None:
        return dict(body)
    return {"id": f"{prefix}{key}", "created": int(created_at.timestamp()), **body}


def _response(
    url: str,
    model: str,
    choices: Sequence[JsonObject],
    completions: Sequence[Completion],
    *,
    num_choices: int,
) -> JsonObject:
    """Return a body whose usage counts each prompt once; each has `num_choices` successive completions."""
    generated = sum((completion.usage for completion in completions), Usage())
    prompts = sum((completion.usage for completion in completions[::num_choices]), Usage())
    return {
        "object": _OBJECTS[url],
        "model": model,
        "choices": list(choices),
        "usage": {
            "prompt_tokens": prompts.prompt_tokens,
            "completion_tokens": generated.new_tokens,
            "total_tokens": prompts.prompt_tokens + generated.new_tokens,
            "prompt_tokens_details": {"cached_tokens": prompts.cached_tokens},
        },
    }


def _chat_logprobs(completion: Completion) -> JsonObject | None:
    tokens = _tokens_of_text(completion)
    if tokens is None:
        return None
    content = [
        {**_logprob(token), "top_logprobs": [_logprob(other) for other in token.top]} for token in tokens
    ]
    return {"content": content, "refusal": None}


def _logprob(token: TokenLogprob | TopLogprob) -> JsonObject:
    return {"token": token.token, "logprob": token.logprob, "bytes": list(token.utf8)}


def _completion_logprobs(completion: Completion) -> JsonObject | None:
    """Return the older form of log-probabilities. Offsets are characters of the choice's own text."""
    tokens = _tokens_of_text(completion)
    if tokens is None:
        return None
    tops: list[dict[str, float]] = []
    for token in tokens:
        # Several tokens may have the same text, such as parts of characters: the most likely one counts.
        likeliest = {other.token: other.logprob for other in reversed(token.top)}
        tops.append({**likeliest, token.token: token.logprob})
    return {
        "tokens": [token.token for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": tops,
        "text_offset": list(_offsets(tokens)),
    }


def _offsets(tokens: Sequence[TokenLogprob]) -> Iterator[int]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character may consist of several tokens
    num_characters = 0
    for token in tokens:
        yield num_characters
        num_characters += len(decoder.decode(token.utf8))


def _tokens_of_text(completion: Completion) -> Sequence[TokenLogprob] | None:
    """Return the log-probabilities of the tokens of the text; None if none were requested.

    The tokens of thoughts, of the stop string and of the end of the text are left out, as in OpenAI's
    answers. All tokens are returned if the text cannot be found in them.
    """
    tokens = completion.logprobs
    if tokens is None:
        return None
    whole, text = b"".join(token.utf8 for token in tokens), completion.text.encode()
    start = whole.find(text) if completion.reasoning is None else whole.rfind(text)
    if start < 0:
        return tokens
    kept: list[TokenLogprob] = []
    place = 0
    for token in tokens:
        if place < start + len(text) and place + len(token.utf8) > start:
            kept.append(token)
        place += len(token.utf8)
    return kept
