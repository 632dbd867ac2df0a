"""The operations that a device provides to the batching engine, on rows of slots.

Only the engine's thread calls them.
"""

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
    """Whether a greedy choice was made between logits that are closer than the precision of the arithmetic.
    """
    is_finite: bool = True
    """False if the row's logits have no finite maximum, so that its token is meaningless."""


class Executor(Protocol):
    """Computes batches of slots. The slots of one call are adjacent and in order.

    A call may be repeated with some of its rows after an error, so it must not depend on what the failed call
    left in these slots. MemoryError means that fewer rows may fit; any other error is attributed to a row, or
    to the device if every one of several rows raises it.
    """

    @property
    def info(self) -> EngineInfo: ...

    @property
    def num_tokens(self) -> int:
        """Upper bound of prompt ids, exclusive."""
        ...

    @property
    def max_prefill_tokens(self) -> int:
        """Maximum prompt tokens per step, including padding."""
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
        """Clear a slot whose content is not finite, so that it cannot affect later rows."""
        ...

    def save_prefix(self, save: PrefixSave) -> None:
        """Keep a copy of the beginning of a slot."""
        ...

    def drop_prefix(self, key: int) -> None:
        """Release a kept beginning; does nothing if it is unknown."""
        ...

    def close(self) -> None:
        """Release the device's memory."""
        ...
