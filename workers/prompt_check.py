"""Finds prompts that cannot fit the model's context before they become jobs, where the model is at hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from pydantic import BaseModel

from jobs.errors import PromptTooLongError
from jobs.kind import Kind
from workers.models.manifest import ModelNotInstalledError, model_folder, read_manifest
from workers.settings import Settings
from workers.tokenizer import load_tokenizer


def prompt_check(
    kind: Kind[Any], kind_settings: BaseModel, model: str, settings: Settings
) -> Callable[[Any], None] | None:
    """A check for intake, or None if the model is not installed on this machine: then the job finds it."""
    try:
        folder = model_folder(settings.models_folder, model)
    except ModelNotInstalledError:
        return None
    max_context_tokens = min(settings.max_context_tokens, read_manifest(folder).max_context_tokens)
    tokenizer = load_tokenizer(folder)

    @cache
    def frame(roles: tuple[str, ...]) -> int:
        """Tokens that the chat template puts around the contents."""
        return len(tokenizer.encode_chat(tuple((role, "") for role in roles)))

    def check(payload: Any) -> None:
        prompt, sampling = kind.first_request(payload, kind_settings)
        messages = tuple((message.role, message.content) for message in prompt.messages)
        num_bytes = sum(len(content.encode()) for _, content in messages)
        if (
            frame(tuple(role for role, _ in messages)) + num_bytes + sampling.max_new_tokens
            <= max_context_tokens
        ):
            return  # a byte-level token has a byte at least: nearly every prompt is short and not tokenised
        num_tokens = len(tokenizer.encode_chat(messages))
        if num_tokens + sampling.max_new_tokens > max_context_tokens:
            raise PromptTooLongError(num_tokens, sampling.max_new_tokens, max_context_tokens)

    return check
