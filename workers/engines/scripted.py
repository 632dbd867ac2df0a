"""A deterministic engine without a model, for tests: with real threads, slots and batches, but made-up
tokens.

It repeats the prompt, from a position that prompt and seed determine, so that texts are readable. Sampling
parameters that change probabilities have no effect, because there are none; log-probabilities are made up. A
script
can pause or slow the engine, and make a marked prompt fail, hang, or kill the process. The scripted encoder
uses the same script.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import time
import zlib
from array import array
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.errors import ConfigurationError
from jobs.validation import describe_first
from workers.engine import Engine, EngineInfo, EngineOptions, Tokenizer
from workers.engines.batching import BatchingEngine, NextToken, TokenScores
from workers.engines.constraints import Matcher
from workers.scheduler import Generation, PrefillRow, PrefixSave, SlotMove

SCRIPT_VARIABLE = "PRESSROOM_SCRIPT"
"""Environment variable with the path of a script, a JSON object with the fields of Script."""

_POLL_SECONDS = 0.01


class Script(BaseModel):
    """The behaviour of a scripted engine. Its texts are searched for in the decoded prompt or row."""

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
    """A batch with this text in a prompt never returns, and stops all other threads of the process."""

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
        reason = describe_first(error) if isinstance(error, ValidationError) else str(error)
        raise ConfigurationError(f"{SCRIPT_VARIABLE} names {path}, which cannot be used: {reason}") from error


def play(script: Script, texts: Sequence[str], *, marked: Sequence[str]) -> None:
    """Apply the script to a batch of these texts; `marked` are those that may kill the process."""
    while script.hold_file is not None and script.hold_file.exists():
        time.sleep(_POLL_SECONDS)
    if script.step_seconds:
        time.sleep(script.step_seconds)
    if script.max_rows is not None and len(texts) > script.max_rows:
        raise MemoryError(f"the script allows {script.max_rows} rows, but the batch has {len(texts)}")
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


__all__ = ["ScriptedExecutor", "open_engine", "scripted_engine"]

_DEFAULT_SLOTS = 8
_DEFAULT_PREFILL_TOKENS = 512
_MIN_LENGTH, _MAX_LENGTH = 24, 400
"""Minimum and maximum length of a text, in tokens; prompt and seed determine the actual length."""


def open_engine(model_folder: Path, tokenizer: Tokenizer, options: EngineOptions) -> Engine:  # noqa: ARG001
    """Start the engine with the script that PRESSROOM_SCRIPT names, if any; raises ConfigurationError."""
    return scripted_engine(tokenizer, options, script_of_environment())


def scripted_engine(
    tokenizer: Tokenizer, options: EngineOptions, script: Script, gate: Callable[[], None] | None = None
) -> BatchingEngine:
    """Start the engine in this process; `gate` is called before each batch, in the engine's thread."""
    return BatchingEngine(ScriptedExecutor(tokenizer, options, script, gate), tokenizer, options)


class ScriptedExecutor:
    """Implements workers.engines.batching.Executor without arithmetic; checks the correct use of slots."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        options: EngineOptions,
        script: Script,
        gate: Callable[[], None] | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._end_of_text_ids = tokenizer.end_of_text_ids
        self._script = script
        self._gate = gate
        self._max_prefill_tokens = options.max_prefill_tokens or _DEFAULT_PREFILL_TOKENS
        num_slots = options.num_slots or _DEFAULT_SLOTS
        self._slots: list[tuple[int, ...]] = [()] * (num_slots + 1)
        """Token ids whose keys and values a real cache would hold, by slot."""
        self._prefixes: dict[int, tuple[int, ...]] = {}
        self._info = EngineInfo(
            name="scripted",
            versions=(),
            dtype="none",
            device="none",
            attention="none",
            num_slots=num_slots,
            max_context_tokens=options.max_context_tokens,
        )

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def num_tokens(self) -> int:
        return self._tokenizer.num_tokens

    @property
    def max_prefill_tokens(self) -> int:
        return self._max_prefill_tokens

    def prefill(self, rows: Sequence[PrefillRow]) -> list[NextToken]:
        self._play([row.generation for row in rows])
        for row in rows:
            if row.prefix_key is not None:
                self._slots[row.slot] = self._prefixes[row.prefix_key][: row.start]
            kept = self._slots[row.slot][: row.start] if row.start else ()
            self._slots[row.slot] = kept + row.generation.prompt_ids[row.start : row.stop]
        return [self._next(row.slot, row.generation) for row in rows]

    def decode(self, rows: Sequence[Generation]) -> list[NextToken]:
        self._play(rows)
        for row in rows:
            self._slots[row.slot] = (*self._slots[row.slot][: row.num_tokens - 1], row.output_ids[-1])
        return [self._next(row.slot, row) for row in rows]

    def move(self, move: SlotMove) -> None:
        self._slots[move.target] = self._slots[move.source][: move.num_tokens]

    def clear(self, slot: int) -> None:
        self._slots[slot] = ()

    def save_prefix(self, save: PrefixSave) -> None:
        self._prefixes[save.key] = self._slots[save.slot][: save.num_tokens]

    def drop_prefix(self, key: int) -> None:
        self._prefixes.pop(key, None)

    def close(self) -> None:
        self._slots.clear()

    def _next(self, slot: int, generation: Generation) -> NextToken:
        """Derive the next token from the slot's content, so that a scheduling error would change the text."""
        num_prompt = len(generation.prompt_ids)
        prompt_ids, position = self._slots[slot][:num_prompt], len(self._slots[slot]) - num_prompt
        sampling = generation.request.sampling
        seed = sampling.seed if sampling.temperature > 0 else 0
        digest = zlib.crc32(array("q", prompt_ids).tobytes() + repr(seed).encode())
        ends = self._end_of_text_ids
        if generation.matcher is not None:
            token_id = self._shortest(generation.matcher)
            return NextToken(token_id, scores=_scores(token_id, sampling.num_logprobs, self.num_tokens))
        is_long = position >= _MIN_LENGTH + digest % (_MAX_LENGTH - _MIN_LENGTH)
        if is_long and not sampling.ignore_end_of_text and not generation.barred_ids:
            token_id = min(ends)
        else:
            avoided = {*ends, *generation.barred_ids}
            words = [token_id for token_id in prompt_ids if token_id not in avoided] or [prompt_ids[0]]
            token_id = words[(digest + position) % len(words)]
        return NextToken(token_id, scores=_scores(token_id, sampling.num_logprobs, self.num_tokens))

    def _shortest(self, matcher: Matcher) -> int:
        """Return a token that the constraint allows, and that brings the text to its end if there is one.

        That is the end itself, or else whatever closes a JSON string, object or list.
        """
        mask = np.zeros(-(-self.num_tokens // 32), dtype=np.uint32)
        matcher.fill(mask)
        allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
        closing = [token_id for token_id in self._closing_ids if token_id in allowed]
        return int((closing or allowed)[0])

    @cached_property
    def _closing_ids(self) -> tuple[int, ...]:
        tokens = {self._tokenizer.token_bytes(token_id): token_id for token_id in range(self.num_tokens)}
        closing = (tokens.get(mark) for mark in (b'"', b"}", b"]"))
        return (*sorted(self._end_of_text_ids), *(token_id for token_id in closing if token_id is not None))

    def _play(self, generations: Sequence[Generation]) -> None:
        """Apply the script to the batch."""
        if self._gate is not None:
            self._gate()
        marked = [row for row in generations if len(row.output_ids) >= self._script.kill_after_tokens]
        play(self._script, self._texts(generations), marked=self._texts(marked))

    def _texts(self, generations: Sequence[Generation]) -> list[str]:
        if not self._script.looks_at_texts:
            return [""] * len(generations)
        return [self._tokenizer.decode(row.prompt_ids) for row in generations]


def _scores(token_id: int, num_logprobs: int | None, num_tokens: int) -> TokenScores | None:
    """Return probabilities of 1/2 for the chosen token, and 1/4, 1/8 and so on for those after it."""
    if num_logprobs is None:
        return None
    places = range(min(num_logprobs, num_tokens))
    top = tuple(((token_id + place) % num_tokens, -(place + 1) * math.log(2)) for place in places)
    return TokenScores(-math.log(2), top)
