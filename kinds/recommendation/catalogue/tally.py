"""Collects the faults that ingest finds: all are counted, and the first ones of each code are reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from jobs.rejection import Rejected

MAX_LISTED = 1_000
"""Maximum number of rejected rows that are reported individually. The limit applies to each code, so that a
frequent fault does not hide others."""
MAX_FLAGGED = 100
"""Maximum number of items per flag that are listed."""


def _ignore(_: object) -> None:
    """Report nothing."""


class Tally:
    """Counts and reports the faults of one ingest. It is not thread-safe."""

    def __init__(
        self, on_rejected: Callable[[Rejected], None] = _ignore, on_note: Callable[[str], None] | None = None
    ) -> None:
        self._on_rejected = on_rejected
        self._on_note = on_note or _ignore
        self._num_listed: Counter[str] = Counter()
        self.firsts: dict[tuple[str, str], Rejected] = {}
        """First rejected row by file and code."""
        self.notes: list[str] = []
        """Notes about whole files."""
        self.columns: tuple[str, ...] = ()
        """Names of the log's columns."""
        self.num_rejected = 0
        """Number of rows that were passed to `reject`."""
        self.counts: Counter[str] = Counter()
        self.flagged: dict[str, set[str]] = {}

    def reject(self, rejected: Rejected) -> None:
        """Count a rejected row and report it."""
        self.counts[rejected.code] += 1
        self.num_rejected += 1
        self.list(rejected)

    def room(self, code: str) -> int:
        """Return how many more rows of this code will be reported."""
        return MAX_LISTED - self._num_listed[code]

    def list(self, rejected: Rejected) -> None:
        """Report a row that is counted already, unless too many of its code have been reported."""
        if self.room(rejected.code) > 0:
            self._num_listed[rejected.code] += 1
            self.firsts.setdefault((rejected.file, rejected.code), rejected)
            self._on_rejected(rejected)

    def note(self, note: str) -> None:
        """Report a note about a whole file."""
        self.notes.append(note)
        self._on_note(note)

    def flag(self, item_id: str, codes: Iterable[str]) -> None:
        """Set the flags of an accepted item that has oddities; they replace its earlier flags."""
        for ids in self.flagged.values():
            ids.discard(item_id)
        for code in codes:
            self.flagged.setdefault(code, set()).add(item_id)
