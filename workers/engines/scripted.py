"""A deterministic engine without a model, for tests: real threads, slots and batches, made-up tokens.

It repeats the prompt, from a position that prompt and seed determine, so that texts are readable. A script
can hold or slow it, and make a marked prompt fail, hang, or kill the process.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

from workers.engine import Engine, EngineInfo, EngineOptions, Tokenizer
from workers.engines.batching import BatchingEngine
from workers.engines.executor import NextToken
from workers.engines.script import Script, play, script_of_environment
from workers.scheduler import Generation, PrefillRow, PrefixSave, SlotMove

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
    """Start the engine in this process; gate is called before each batch, on the engine's thread."""
    return BatchingEngine(ScriptedExecutor(tokenizer, options, script, gate), tokenizer, options)


class ScriptedExecutor:
    """Implements workers.engines.executor.Executor without arithmetic; checks the correct use of slots."""

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
        """Return the next token by what the slot holds: a scheduling error would change the text."""
        num_prompt = len(generation.prompt_ids)
        prompt_ids, position = self._slots[slot][:num_prompt], len(self._slots[slot]) - num_prompt
        sampling = generation.request.sampling
        seed = sampling.seed if sampling.temperature > 0 else 0
        digest = zlib.crc32(array("q", prompt_ids).tobytes() + repr(seed).encode())
        ends = self._end_of_text_ids
        if position >= _MIN_LENGTH + digest % (_MAX_LENGTH - _MIN_LENGTH) and not sampling.ignore_end_of_text:
            return NextToken(min(ends))
        words = [token_id for token_id in prompt_ids if token_id not in ends] or [prompt_ids[0]]
        return NextToken(words[(digest + position) % len(words)])

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
