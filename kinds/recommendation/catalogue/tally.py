"""What intake noticed: everything is counted, the first of each are told one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from jobs.rejection import Rejected

MAX_LISTED = 1_000
"""Refused rows of one code that are told one by one: a flood of one does not hide the others."""
MAX_FLAGGED = 100
"""Items of one flag that are named."""


class Tally:
    """Counts of one intake. Not for several threads at once."""

    def __init__(self, on_rejected: Callable[[Rejected], None]) -> None:
        self._on_rejected = on_rejected
        self._num_listed: Counter[str] = Counter()
        self.firsts: dict[str, Rejected] = {}
        """Of the file under way the first refused row of each code."""
        self.columns: tuple[str, ...] = ()
        """Names of the log's columns."""
        self.num_rejected = 0
        """Rows that were refused one by one."""
        self.counts: Counter[str] = Counter()
        self.flagged: dict[str, set[str]] = {}

    def reject(self, rejected: Rejected) -> None:
        """Count one refused row, and tell it."""
        self.counts[rejected.code] += 1
        self.num_rejected += 1
        self.list(rejected)

    def room(self, code: str) -> int:
        """How many more of this code will be told."""
        return MAX_LISTED - self._num_listed[code]

    def list(self, rejected: Rejected) -> None:
        """Tell a row that is counted already."""
        if self.room(rejected.code) > 0:
            self._num_listed[rejected.code] += 1
            self.firsts.setdefault(rejected.code, rejected)
            self._on_rejected(rejected)

    def flag(self, item_id: str, codes: Iterable[str]) -> None:
        """Note what is odd about an item that is taken all the same, instead of what was noted before."""
        for ids in self.flagged.values():
            ids.discard(item_id)
        for code in codes:
            self.flagged.setdefault(code, set()).add(item_id)
