"""Every error that Pressroom raises on purpose, and what a retry may do about it."""

from __future__ import annotations

import traceback
from pathlib import Path


class PressroomError(Exception):
    """Base class of the errors that Pressroom raises on purpose.

    The message says what, where and what to do. `code` is stable: scripts and tests match on it.
    """

    code = "pressroom_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class PermanentError(PressroomError):
    """Trying again cannot help: the job fails at once."""

    code = "permanent"


class TransientError(PressroomError):
    """Trying again may help: the job is retried with backoff until its attempts are used up."""

    code = "transient"


class ConfigurationError(PressroomError):
    """The settings, the installation or the machine do not allow what was requested."""

    code = "configuration"


class DiskFullError(ConfigurationError):
    """There is too little free space for what was about to be written."""

    code = "disk_full"


class InputError(PermanentError):
    """A line, a field or a file that the user gave cannot be used."""

    code = "input_invalid"


class PromptTooLongError(InputError):
    """The prompt and the requested new tokens do not fit into the model's context window."""

    code = "prompt_too_long"

    def __init__(self, num_prompt_tokens: int, max_new_tokens: int, max_context_tokens: int) -> None:
        super().__init__(
            f"the prompt has {num_prompt_tokens} tokens and asks for {max_new_tokens} new ones, but the "
            f"model's context holds {max_context_tokens}: shorten the outline and the facts, or ask for a "
            "shorter text"
        )


class DeadlineError(PermanentError):
    """The work was not finished by its deadline."""

    code = "deadline_exceeded"


class EngineError(TransientError):
    """A step of the engine failed for this request."""

    code = "engine_failed"


class EngineLostError(EngineError):
    """The engine was closed or lost its device under the request, which is not charged for it."""

    code = "engine_lost"


def place_of(error: BaseException) -> str:
    """Return where an error was raised, such as " (kind.py, line 12)", or nothing if that is unknown.

    The text of the error is left out, because it may be that of a payload, which only logs may contain.
    """
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
