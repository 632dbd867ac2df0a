"""Finds prompts that are too long for the batch's model, if that is installed, before they become jobs."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel

from jobs.errors import PromptTooLongError
from jobs.inference import RequestSize, Role
from jobs.kind import Kind
from workers.models.manifest import ModelNotInstalledError, check_engine, model_folder, read_manifest
from workers.settings import Settings
from workers.tokenizer import load_tokenizer


class PromptCheck:
    """Compares the first prompt of each payload with the model's context. Call it with a payload."""

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

    def __call__(self, payload: Any) -> None:
        """Raise PromptTooLongError with both lengths if the payload cannot fit."""
        # Nearly every prompt is accepted without being rendered, or at least without being tokenised.
        size = self._kind.first_request_size(payload, self._kind_settings)
        if size is not None and self._fits(size):
            return
        request = self._kind.first_request(payload, self._kind_settings)
        if request is None or self._fits(RequestSize.of(*request)):
            return
        prompt, sampling = request
        messages = tuple((message.role, message.content) for message in prompt.messages)
        num_tokens = len(self._tokenizer.encode_chat(messages))
        if num_tokens + sampling.max_new_tokens > self._max_context_tokens:
            raise PromptTooLongError(num_tokens, sampling.max_new_tokens, self._max_context_tokens)

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
