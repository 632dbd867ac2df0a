"""An executor between an engine and its real one: a test can hold its batches, or make some of them fail."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from workers.engine import EngineInfo
from workers.engines.batching import Executor, NextToken
from workers.scheduler import Generation, PrefillRow, PrefixSave, SlotMove

BAD_TOKEN = 77
"""A batch with a prompt that begins with it fails, as long as `fails` is set."""


class Turnstile:
    """Everything passes to the real executor, when the gate is open."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Event()
        """A batch has come to the gate."""
        self.fails = False
        self.breaks_moves = False
        self.max_rows: int | None = None
        self.batches: list[tuple[str, ...]] = []
        """The request ids of every batch computed."""

    @property
    def info(self) -> EngineInfo:
        return self._executor.info

    @property
    def num_tokens(self) -> int:
        return self._executor.num_tokens

    @property
    def max_prefill_tokens(self) -> int:
        return self._executor.max_prefill_tokens

    def prefill(self, rows: Sequence[PrefillRow]) -> list[NextToken]:
        self._pass([row.generation for row in rows])
        return self._executor.prefill(rows)

    def decode(self, rows: Sequence[Generation]) -> list[NextToken]:
        self._pass(rows)
        return self._executor.decode(rows)

    def move(self, move: SlotMove) -> None:
        if self.breaks_moves:
            self.breaks_moves = False
            raise RuntimeError("the test breaks a move")
        self._executor.move(move)

    def clear(self, slot: int) -> None:
        self._executor.clear(slot)

    def save_prefix(self, save: PrefixSave) -> None:
        if self.fails:
            raise MemoryError("the test leaves no memory for prefixes")
        self._executor.save_prefix(save)

    def drop_prefix(self, key: int) -> None:
        self._executor.drop_prefix(key)

    def close(self) -> None:
        self._executor.close()

    def _pass(self, generations: Sequence[Generation]) -> None:
        self.reached.set()
        self.gate.wait()
        self.batches.append(tuple(row.request.request_id for row in generations))
        if self.max_rows is not None and len(generations) > self.max_rows:
            raise MemoryError("the test allows fewer rows")
        if self.fails and any(row.prompt_ids[0] == BAD_TOKEN for row in generations):
            raise RuntimeError("the test makes this prompt fail")
