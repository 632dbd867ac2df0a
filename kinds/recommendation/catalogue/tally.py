"""Collects what ingest notices: everything is counted, and the first cases of each code are reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from jobs.documents.reading import OnNote
from jobs.dropped import Dropped, check_dropped
from jobs.rejection import Rejected
from kinds.recommendation.catalogue.inputs import Inputs

MAX_LISTED = 1_000
"""Rejected rows of one code that are reported individually, so that no code hides the others."""
MAX_FLAGGED = 100
"""Items of one flag that are listed."""


class Tally:
    """Counts of one ingest. It is not thread-safe."""

    def __init__(self, on_rejected: Callable[[Rejected], None]) -> None:
        self._on_rejected = on_rejected
        self._num_listed: Counter[str] = Counter()
        self.firsts: dict[str, Rejected] = {}
        """First rejected row of each code."""
        self.columns: tuple[str, ...] = ()
        """Names of the log's columns."""
        self.num_rejected = 0
        """Rows that were rejected by `reject`."""
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
            self.firsts.setdefault(rejected.code, rejected)
            self._on_rejected(rejected)

    def flag(self, item_id: str, codes: Iterable[str]) -> None:
        """Set the flags of an item that is accepted although it is odd; earlier flags are replaced."""
        for ids in self.flagged.values():
            ids.discard(item_id)
        for code in codes:
            self.flagged.setdefault(code, set()).add(item_id)


class ShareJudge:
    """Collects details during ingest, for a useful error if too much of a file is dropped."""

    def __init__(
        self, files: tuple[Path, Path], on_rejected: Callable[[Rejected], None], on_note: OnNote | None
    ) -> None:
        """`files` are the catalogue and the log; rejected rows and notes are also passed on."""
        self._files = files
        self._reject = on_rejected
        self._note = on_note
        self._firsts: dict[tuple[str, str], Rejected] = {}
        self._notes: list[str] = []

    def on_rejected(self, rejected: Rejected) -> None:
        """Remember the first rejected row of each code, and pass the row on."""
        self._firsts.setdefault((rejected.file, rejected.code), rejected)
        self._reject(rejected)

    def on_note(self, note: str) -> None:
        """Remember the note, and pass it on."""
        self._notes.append(note)
        if self._note is not None:
            self._note(note)

    def check(self, inputs: Inputs, max_share: float) -> None:
        """Raise InputDroppedError if a larger share of a file was dropped than is allowed."""
        for path, rows in zip(self._files, inputs.dropped, strict=True):
            most = max(rows.by_code, key=lambda code: rows.by_code[code], default="")
            first = self._firsts.get((str(path), most))
            hints = [note for note in self._notes if note.startswith(f"{path}: ") and "--match-ids" in note]
            example = ". ".join([str(first)] * (first is not None) + hints)
            check_dropped(Dropped(str(path), rows.num_rows, rows.by_code, example), max_share)
