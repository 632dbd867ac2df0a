"""Finds first requests that cannot be served, before jobs are made, if the batch's model is installed.

A prompt may be too long for the model, and a constraint may be one that engines do not support.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

from jobs.errors import InputError, PromptTooLongError
from jobs.inference import Constraint, RawPrompt, RequestSize, Role, TemplateArguments
from jobs.kind import Kind
from jobs.rejection import Refusal, apart, attempt
from workers.engines.batching import sampling_problem
from workers.engines.constraints import Grammars, is_installed
from workers.models.manifest import ModelNotInstalledError, check_engine, model_folder, read_manifest
from workers.settings import Settings
from workers.tokenizer import ChatTokenizer, load_tokenizer

_MAX_FRAMES = 1000
"""Maximum number of frames whose sizes are remembered; rows may have template arguments of their own."""


@dataclass(frozen=True, slots=True)
class _LongPrompt:
    """A rendered prompt that may be too long."""

    text: str
    num_added_tokens: int
    """Number of tokens that the tokenizer adds to the text."""
    max_new_tokens: int


class PromptCheck:
    """Checks whether the first prompt of each payload fits the model's context length, and its constraint.

    Call it with a sequence of payloads. A machine for intake may lack the library that compiles constraints
    (it is part of the extra `engine`). A constraint that is not supported then fails its jobs, with the same
    error.
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
        self._grammars = Grammars(self._tokenizer, self._tokenizer.num_tokens) if is_installed() else None
        self._frame_tokens = lru_cache(_MAX_FRAMES)(self._count_frame_tokens)
        self.control_tokens = self._tokenizer.control_tokens
        """Tokens with which a text could end its chat turn and begin another."""

    @property
    def tokenizer(self) -> ChatTokenizer:
        """The tokenizer of the batch's model."""
        return self._tokenizer

    @property
    def max_context_tokens(self) -> int:
        """Maximum number of tokens of a prompt and its text together."""
        return self._max_context_tokens

    def check_constraint(self, constraint: Constraint | None) -> None:
        """Raise ConstraintUnsupportedError. Constraints that were checked before cost nothing."""
        if constraint is not None and self._grammars is not None:
            self._grammars.compile(constraint)

    def _count_frame_tokens(self, roles: tuple[Role, ...] | None, arguments: TemplateArguments) -> int:
        """Return the number of tokens that the chat template, or the tokenizer, puts around the contents."""
        if roles is None:
            return len(self._tokenizer.encode_text(""))
        return len(self._tokenizer.encode_chat(tuple((role, "") for role in roles), arguments))

    def __call__(self, payloads: Sequence[Any]) -> list[InputError | Refusal | None]:
        """Return for each payload the error in its prompt, such as PromptTooLongError, or None."""
        results = [attempt(self._unmeasured, payload) for payload in payloads]
        prompts = [result for result in results if isinstance(result, _LongPrompt)]
        lengths = iter(apart([prompt.text for prompt in prompts], self._tokenizer.count_tokens))
        return [
            self._verdict(result, next(lengths)) if isinstance(result, _LongPrompt) else result
            for result in results
        ]

    def _unmeasured(self, payload: Any) -> _LongPrompt | InputError | None:
        """Return a payload's prompt if its tokens must be counted, the error if it has none, or else None."""
        try:
            # Nearly every prompt is accepted without being rendered, or at least without being tokenised.
            size = self._kind.first_request_size(payload, self._kind_settings)
            if size is not None:
                self.check_constraint(size.constraint)
                if self._fits(size):
                    return None
            request = self._kind.first_request(payload, self._kind_settings)
            if request is None:
                return None
            problem = sampling_problem(request[1], self._tokenizer.num_tokens)
            if problem is not None:
                return InputError(problem, code="sampling_invalid")
            size = RequestSize.of(*request)
            self.check_constraint(size.constraint)
            if self._fits(size):
                return None
            prompt, sampling = request
            if isinstance(prompt, RawPrompt):
                return _LongPrompt(prompt.text, self._frame_tokens(None, ()), sampling.max_new_tokens)
            messages = tuple((message.role, message.content) for message in prompt.messages)
            text = self._tokenizer.render_chat(messages, prompt.template_arguments)
            return _LongPrompt(text, 0, sampling.max_new_tokens)
        except InputError as error:
            return error

    def _verdict(self, prompt: _LongPrompt, length: int | Refusal) -> InputError | Refusal | None:
        if isinstance(length, Refusal):
            return length
        num_tokens = length + prompt.num_added_tokens
        if num_tokens + prompt.max_new_tokens <= self._max_context_tokens:
            return None
        return PromptTooLongError(num_tokens, prompt.max_new_tokens, self._max_context_tokens)

    def _fits(self, size: RequestSize) -> bool:
        """Return whether a request of this size fits even if each of its bytes is a token."""
        num_frame_tokens = self._frame_tokens(size.roles, size.template_arguments)
        return num_frame_tokens + size.num_bytes + size.max_new_tokens <= self._max_context_tokens


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
