"""What a device must do for the batching engine: compute rows of slots. Only the engine's thread calls it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from workers.engine import EngineInfo
from workers.scheduler import Generation, PrefillRow, PrefixSave, SlotMove


@dataclass(frozen=True, slots=True)
class NextToken:
    """The token that follows a row."""

    token_id: int
    is_near_tie: bool = False
    """A greedy choice between logits closer than the arithmetic can be trusted for."""
    is_finite: bool = True
    """False if the row's logits held no finite maximum: its token means nothing."""


class Executor(Protocol):
    """Computes batches of slots. Slots of one call are neighbours, in order.

    A call may be repeated with a part of its rows after an error: it must not depend on what the failed call
    left in these slots. MemoryError means that fewer rows may fit; any other error is taken for a row's, or
    for the device's if every one of several rows has it.
    """

    @property
    def info(self) -> EngineInfo: ...

    @property
    def num_tokens(self) -> int:
        """Prompt ids must be below this."""
        ...

    @property
    def max_prefill_tokens(self) -> int:
        """Prompt tokens in one step, padding included."""
        ...

    def prefill(self, rows: Sequence[PrefillRow]) -> list[NextToken]:
        """Compute prompt tokens; the token of a row that is not the last chunk of its prompt is ignored."""
        ...

    def decode(self, rows: Sequence[Generation]) -> list[NextToken]:
        """Compute each row's last token and choose the next one."""
        ...

    def move(self, move: SlotMove) -> None:
        """Copy a slot's state to another slot."""
        ...

    def clear(self, slot: int) -> None:
        """Make a slot's old content harmless: it held something that is not finite."""
        ...

    def save_prefix(self, save: PrefixSave) -> None:
        """Keep a copy of a slot's beginning."""
        ...

    def drop_prefix(self, key: int) -> None:
        """Release a kept beginning; no error if it is unknown."""
        ...

    def close(self) -> None:
        """Release the device's memory."""
        ...
