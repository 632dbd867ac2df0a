"""What intake says about a line, or a whole file, that cannot become a job."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.errors import InputError
from jobs.guards import may_be_shown
from jobs.shown import printable

MAX_SNIPPET_CHARACTERS = 80
"""Enough to recognise the line in an editor, too little to carry a document into a report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """One line that did not become a job, and what its author can do about it."""

    file: str
    """As the caller named it."""
    line: int
    """Physical line of the file, from 1; where the record begins if it spans several."""
    id: str | None = None
    """The document's own, where it can be told."""
    code: str
    """Stable, for scripts: `missing_column`, `json_too_deep`, ..."""
    reason: str
    advice: str
    column: str | None = None
    """The name of the column or JSON key, where one is to blame."""
    character: int | None = None
    """Position in the line, from 1, where one is to blame."""
    snippet: str | None = None
    """The beginning of the offending text; never text in which a secret was found."""

    def __str__(self) -> str:
        place = [self.file, str(self.line)] + ([str(self.character)] if self.character else [])
        column = f"column {self.column!r}: " if self.column is not None else ""
        return f"{':'.join(place)}: {column}{self.reason} ({self.advice}) [{self.code}]"

    def as_json(self) -> dict[str, object]:
        """The object that `rejected.jsonl` holds on one line; absent fields are left out."""
        fields: dict[str, object] = {
            "file": self.file,
            "line": self.line,
            "id": self.id,
            "column": self.column,
            "character": self.character,
            "code": self.code,
            "reason": self.reason,
            "advice": self.advice,
            "snippet": self.snippet,
        }
        return {name: value for name, value in fields.items() if value is not None}


class FileRejectedError(InputError):
    """Nothing of the file can be used, or what was read of it cannot be trusted."""

    code = "file_rejected"

    def __init__(self, rejected: Rejected) -> None:
        super().__init__(str(rejected).removesuffix(f" [{rejected.code}]"), code=rejected.code)
        self.rejected = rejected


def snippet(text: str) -> str | None:
    r"""The beginning of a text, printable and in one line; None if a secret is anywhere in it.

    >>> snippet("a\x00b\n")
    'a\\u0000b\\u000a'
    >>> snippet("key AKIAABCDEFGHIJKLMNOP") is None
    True
    """
    if not text or not may_be_shown(text):
        return None
    return printable(text[:MAX_SNIPPET_CHARACTERS])
