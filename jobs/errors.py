"""Base classes of the errors that Pressroom raises on purpose. They decide whether a job is retried."""

from __future__ import annotations

import traceback
from pathlib import Path


class PressroomError(Exception):
    """Base class of the errors that Pressroom raises on purpose.

    The message says what is wrong, where, and what to do. `code` is stable, so that scripts can rely on it.
    """

    code = "pressroom_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class PermanentError(PressroomError):
    """An error that a retry cannot resolve, so the job fails at once."""

    code = "permanent"


class TransientError(PressroomError):
    """An error that a retry may resolve. The job is retried with backoff until its attempts are used up."""

    code = "transient"


class ConfigurationError(PressroomError):
    """The settings, the installation or the machine do not allow what was requested."""

    code = "configuration"


class DiskFullError(ConfigurationError):
    """There is too little free space for the data to be written."""

    code = "disk_full"


class InputError(PermanentError):
    """A line, a field or a file from the user cannot be used."""

    code = "input_invalid"


class PromptTooLongError(InputError):
    """The prompt and the requested new tokens do not fit into the model's context window."""

    code = "prompt_too_long"

    def __init__(self, num_prompt_tokens: int, max_new_tokens: int, max_context_tokens: int) -> None:
        super().__init__(
            f"the prompt has {num_prompt_tokens} tokens and asks for {max_new_tokens} new ones, but the "
            f"model's context holds {max_context_tokens}: shorten the input, or ask for a shorter text"
        )
        self.num_prompt_tokens = num_prompt_tokens
        self.num_excess_tokens = num_prompt_tokens + max_new_tokens - max_context_tokens


class DeadlineError(PermanentError):
    """The work was not finished by its deadline."""

    code = "deadline_exceeded"


class EngineError(TransientError):
    """A step of the engine failed for this request."""

    code = "engine_failed"


class EngineLostError(EngineError):
    """The engine was closed or lost its device during the request. The attempt does not count as failed."""

    code = "engine_lost"


def place_of(error: BaseException) -> str:
    """Return where an error was raised, such as " (kind.py, line 12)", or "" if that is unknown.

    The error's message is left out, because it may contain text of a payload.
    """
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
