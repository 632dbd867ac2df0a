"""Defines what scripted engines do besides answering: wait, fail, hang, or kill the process."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.errors import ConfigurationError

SCRIPT_VARIABLE = "PRESSROOM_SCRIPT"
"""Environment variable with the path of a script, a JSON object with the fields of Script."""

_POLL_SECONDS = 0.01


class Script(BaseModel):
    """The behaviour of a scripted engine. Texts are searched for in the decoded prompt or row."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    step_seconds: float = Field(default=0.0, ge=0, le=3600)
    """Minimum duration of every step."""
    hold_file: Path | None = None
    """Steps wait while this file exists."""
    max_rows: int | None = Field(default=None, ge=1, le=100_000)
    """Maximum rows of a batch; a larger one raises MemoryError."""
    fail_text: str | None = None
    """A batch with this text in a prompt fails."""
    hang_text: str | None = None
    """A batch with this text in a prompt never returns."""
    kill_text: str | None = None
    """Kill the process with kill_signal when a prompt with this text has kill_after_tokens tokens of output.
    """
    kill_signal: Literal["SIGKILL", "SIGSEGV", "SIGABRT"] = "SIGKILL"
    kill_after_tokens: int = Field(default=0, ge=0, le=1_000_000)
    kill_once_file: Path | None = None
    """File that is created just before the kill. While it exists nothing is killed, so that the next process
    survives."""
    stall_text: str | None = None
    """A batch with this text in a prompt never returns, and no other thread of the process runs any more."""

    @property
    def looks_at_texts(self) -> bool:
        return any((self.fail_text, self.hang_text, self.kill_text, self.stall_text))


def script_of_environment() -> Script:
    """Return the script that PRESSROOM_SCRIPT names, or an empty one; raises ConfigurationError."""
    path = os.environ.get(SCRIPT_VARIABLE)
    return Script() if path is None else load_script(Path(path))


def load_script(path: Path) -> Script:
    """Read a script file; raises ConfigurationError."""
    try:
        return Script.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigurationError(f"{SCRIPT_VARIABLE} names {path}, which cannot be used: {error}") from error


def play(script: Script, texts: Sequence[str], *, marked: Sequence[str]) -> None:
    """Apply the script to a batch of these texts; `marked` are those that may kill the process."""
    while script.hold_file is not None and script.hold_file.exists():
        time.sleep(_POLL_SECONDS)
    if script.step_seconds:
        time.sleep(script.step_seconds)
    if script.max_rows is not None and len(texts) > script.max_rows:
        raise MemoryError(f"the script allows {script.max_rows} rows, the batch has {len(texts)}")
    if _has(marked, script.kill_text):
        _kill_process(signal.Signals[script.kill_signal], script.kill_once_file)
    while _has(texts, script.stall_text):
        ctypes.PyDLL(None).sleep(60)  # a PyDLL call keeps the interpreter's lock
    while _has(texts, script.hang_text):
        time.sleep(_POLL_SECONDS)
    if _has(texts, script.fail_text):
        raise RuntimeError("the script makes this text fail")


def _has(texts: Sequence[str], text: str | None) -> bool:
    return text is not None and any(text in each for each in texts)


def _kill_process(number: signal.Signals, once_file: Path | None) -> None:
    if once_file is not None:
        try:
            once_file.touch(exist_ok=False)
        except FileExistsError:
            return
    os.kill(os.getpid(), number)
