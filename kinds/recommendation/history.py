"""The port through which the kind's jobs read results of earlier runs, without SQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol


class RecommenderHistory(Protocol):
    """Reads committed rows. Each method uses its own connection, and any thread may call it."""

    def now(self) -> datetime:
        """Return the time of the database's clock."""
        ...

    def known_texts(self, keys: Sequence[str]) -> frozenset[str]:
        """Return those of the keys whose text is written already."""
        ...
