"""Destinations for the rows of a release, so that one pass over the lists serves all of them."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from kinds.recommendation.export.rows import Row


class RowSink(Protocol):
    """Receives rows block by block. Its result is complete when its context ends without an error."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def write(self, rows: Sequence[Row]) -> None:
        """Receive the rows of one block."""
        ...
