"""Where the rows of a release go, block by block, so that one pass over the lists serves them all."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from kinds.recommendation.export.rows import Row


class RowSink(Protocol):
    """Takes rows, a block at a time. What it makes is there when it is left without an error."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def write(self, rows: Sequence[Row]) -> None:
        """Take the rows of one block."""
        ...
