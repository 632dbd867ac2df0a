"""Finds prompts that are too long for the batch's model, before jobs are made, if the model is installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel

from jobs.errors import InputError, PromptTooLongError
from jobs.inference import RequestSize, Role
from jobs.kind import Kind
from jobs.rejection import Refusal, apart, attempt
from workers.models.manifest import ModelNotInstalledError, check_engine, model_folder, read_manifest
from workers.settings import Settings
from workers.tokenizer import load_tokenizer


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A rendered prompt that may be too long."""

    text: str
    max_new_tokens: int


class PromptCheck:
    """Checks whether the first prompt of each payload fits the model's context length.

    Call it with a sequence of payloads.
    """

    def __init__(self, kind: Kind[Any], kind_settings: BaseModel, model: str, settings: Settings) -> None:
        """Load the model's tokenizer.

        Raises ModelNotInstalledError, or ModelUnsupportedError if the engine cannot run the model.
        """
        folder = model_folder(settings.models_folder, model)
        manifest = read_manifest(folder)
        check_engine(manifest, settings.engine)
        self._kind = kind
        self._kind_settings = kind_settings
        self._max_context_tokens = min(settings.max_context_tokens, manifest.max_context_tokens)
        self._tokenizer = load_tokenizer(folder, is_thinking_requested=settings.thinking)
        self._frame_tokens = cache(self._count_frame_tokens)
        self.control_tokens = self._tokenizer.control_tokens
        """Tokens with which a text could end its chat turn and begin another."""

    def _count_frame_tokens(self, roles: tuple[Role, ...]) -> int:
        """Return the number of tokens that the chat template puts around the contents."""
        return len(self._tokenizer.encode_chat(tuple((role, "") for role in roles)))

    def __call__(self, payloads: Sequence[Any]) -> list[InputError | Refusal | None]:
        """Return for each payload the error in its prompt, such as PromptTooLongError, or None."""
        results = [attempt(self._unmeasured, payload) for payload in payloads]
        prompts = [result for result in results if isinstance(result, _Prompt)]
        lengths = iter(apart([prompt.text for prompt in prompts], self._tokenizer.count_tokens))
        return [
            self._verdict(result, next(lengths)) if isinstance(result, _Prompt) else result
            for result in results
        ]

    def _unmeasured(self, payload: Any) -> _Prompt | InputError | None:
        """Return a payload's prompt if its tokens must be counted, the error if it has none, or else None."""
        try:
            # Nearly every prompt is accepted without being rendered, or at least without being tokenised.
            size = self._kind.first_request_size(payload, self._kind_settings)
            if size is not None and self._fits(size):
                return None
            request = self._kind.first_request(payload, self._kind_settings)
            if request is None or self._fits(RequestSize.of(*request)):
                return None
            prompt, sampling = request
            messages = tuple((message.role, message.content) for message in prompt.messages)
            return _Prompt(self._tokenizer.render_chat(messages), sampling.max_new_tokens)
        except InputError as error:
            return error

    def _verdict(self, prompt: _Prompt, length: int | Refusal) -> InputError | Refusal | None:
        if isinstance(length, Refusal):
            return length
        if length + prompt.max_new_tokens <= self._max_context_tokens:
            return None
        return PromptTooLongError(length, prompt.max_new_tokens, self._max_context_tokens)

    def _fits(self, size: RequestSize) -> bool:
        """Return whether a request of this size fits even if each of its bytes is a token."""
        at_most = self._frame_tokens(size.roles) + size.num_bytes + size.max_new_tokens
        return at_most <= self._max_context_tokens


def prompt_check(
    kind: Kind[Any], kind_settings: BaseModel, model: str, settings: Settings
) -> PromptCheck | None:
    """Return the check for a batch, or None without a model.

    None is also returned if the model is not installed here; then a prompt that is too long fails its job.
    """
    if not model:
        return None
    try:
        return PromptCheck(kind, kind_settings, model, settings)
    except ModelNotInstalledError:
        return None
