"""Checks of a request before it may reach the device: a bad one fails alone, with a reason."""

from __future__ import annotations

import math
import time

from jobs.errors import DeadlineError, InputError, PressroomError, PromptTooLongError
from jobs.inference import Sampling
from workers.engine import Request

_MIN_SEED, _MAX_SEED = -(2**63), 2**64 - 1
"""The range that torch.Generator.manual_seed accepts."""


def find_error(request: Request, *, num_tokens: int, max_context_tokens: int) -> PressroomError | None:
    """Return why the request cannot run, or None. num_tokens is the model's number of token ids."""
    prompt_ids, sampling = request.prompt_ids, request.sampling
    if not prompt_ids:
        return InputError(f"request {request.request_id}: the prompt is empty; it needs at least one token")
    if min(prompt_ids) < 0 or max(prompt_ids) >= num_tokens:
        bad = next(token for token in prompt_ids if not 0 <= token < num_tokens)
        return InputError(
            f"request {request.request_id}: token id {bad} is not below {num_tokens}; "
            "was the prompt encoded with another model's tokenizer?"
        )
    problem = sampling_problem(sampling)
    if problem is not None:
        return InputError(f"request {request.request_id}: {problem}")
    if len(prompt_ids) + request.max_new_tokens > max_context_tokens:
        return PromptTooLongError(len(prompt_ids), request.max_new_tokens, max_context_tokens)
    if request.deadline_at is not None and request.deadline_at <= time.monotonic():
        return deadline_error(request)
    return None


def sampling_problem(sampling: Sampling) -> str | None:
    """Return what is wrong with the sampling parameters, or None.

    >>> sampling_problem(Sampling(max_new_tokens=0))
    'max_new_tokens is 0; it must be at least 1'
    """
    checks = (
        (sampling.max_new_tokens >= 1, "max_new_tokens", sampling.max_new_tokens, "at least 1"),
        (sampling.temperature >= 0, "temperature", sampling.temperature, "0 or above"),
        (math.isfinite(sampling.temperature), "temperature", sampling.temperature, "finite"),
        (0 < sampling.top_p <= 1, "top_p", sampling.top_p, "above 0 and at most 1"),
        (sampling.top_k >= 0, "top_k", sampling.top_k, "0 or above"),
        (sampling.repetition_penalty > 0, "repetition_penalty", sampling.repetition_penalty, "above 0"),
        (math.isfinite(sampling.repetition_penalty), "repetition_penalty", "infinite", "finite"),
        (_MIN_SEED <= sampling.seed <= _MAX_SEED, "seed", sampling.seed, "a 64-bit integer"),
        (all(sampling.stop), "stop", sampling.stop, "without empty strings"),
    )
    return next(
        (f"{name} is {value}; it must be {wanted}" for ok, name, value, wanted in checks if not ok), None
    )


def deadline_error(request: Request) -> DeadlineError:
    """Return the error of a request whose deadline has passed."""
    return DeadlineError(
        f"request {request.request_id} was not finished by its deadline; allow more time or fewer tokens"
    )
