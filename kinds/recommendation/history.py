"""The port through which the kind's jobs read what earlier refreshes left; no SQL here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol


class RefreshHistory(Protocol):
    """Reads committed rows, each method on a connection of its own; any thread may call it."""

    def now(self) -> datetime:
        """The database's clock."""
        ...

    def known_copies(self, keys: Sequence[str]) -> frozenset[str]:
        """Those of these keys whose text was written before."""
        ...
