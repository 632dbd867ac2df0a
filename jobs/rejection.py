"""Records that cannot be used: each is refused alone, and too many of them fail the whole input.

A record must not fail its neighbours. Every stage that maps over foreign rows calls `attempt` for one row, or
`apart` for many that are passed to a library together: they are halved until the row is found that the
library cannot process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

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


def refuse_file(path: Path, code: str, reason: str, advice: str, line: int = 1) -> FileRejectedError:
    """Return the error for a whole file."""
    return FileRejectedError(Rejected(file=str(path), line=line, code=code, reason=reason, advice=advice))


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


RowT = TypeVar("RowT")
MadeT = TypeVar("MadeT")

REFUSED = "refused"
"""Of a job's metrics: its rows that were refused, by id, each with code and reason."""

UNREADABLE = "row_unreadable"

_OF_DATA = (
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RecursionError,
    AssertionError,
)
"""What parsers raise for what they read: UnicodeError, JSONDecodeError, OverflowError, ... are among them. An
error of a service, of memory or of the engine is no row's."""

_PANIC = "PanicException"
"""What a library in Rust raises where it meets what its author thought impossible: no Exception in Python."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing can be made of a row."""

    code: str
    """Stable: that of an InputError, else `row_unreadable`."""
    reason: str
    """For people; nothing secret is in it."""


def refusal_of(error: BaseException) -> Refusal | None:
    """The refusal that an error is; None for one that is no fault of a row.

    >>> refusal_of(ValueError("no number")).reason, refusal_of(OSError("disk full"))
    ("cannot be read: ValueError: 'no number'", None)
    """
    if isinstance(error, InputError):
        return Refusal(error.code, snippet(str(error)) or type(error).__name__)
    if not isinstance(error, _OF_DATA) and type(error).__name__ != _PANIC:
        return None
    shown = snippet(str(error))
    said = f": {shown!r}" if shown else ""
    return Refusal(UNREADABLE, f"cannot be read: {type(error).__name__}{said}")


def attempt(make: Callable[[RowT], MadeT], row: RowT) -> MadeT | Refusal:
    """What is made of a row, or why nothing can be. Raises what is no fault of the row.

    >>> attempt(int, "7"), attempt(int, "x").code
    (7, 'row_unreadable')
    """
    try:
        return make(row)
    except BaseException as error:
        refusal = refusal_of(error)
        if refusal is None:
            raise
        return refusal


def apart(rows: Sequence[RowT], make: Callable[[Sequence[RowT]], Sequence[MadeT]]) -> list[MadeT | Refusal]:
    """What is made of rows together, in their order; the rows that fail it are found by halving.

    With b bad rows of n, `make` is called at most 2 b log n + 1 times. Raises what is no fault of a row.

    >>> made = apart(["1", "x", "3"], lambda some: [int(each) for each in some])
    >>> made[0], made[1].code, made[2]
    (1, 'row_unreadable', 3)
    """
    if not rows:
        return []
    made = attempt(make, rows)
    if not isinstance(made, Refusal):
        return list(made)
    if len(rows) == 1:
        return [made]
    middle = len(rows) // 2
    return [*apart(rows[:middle], make), *apart(rows[middle:], make)]


MAX_DROPPED_SHARE = 0.05
"""A bad line in twenty is what files have; more is a column, a unit or a file that was taken for another."""

_MAX_REASONS = 5


class InputDroppedError(InputError):
    """More of an input was dropped than is allowed."""

    code = "input_dropped"


@dataclass(frozen=True, slots=True)
class Dropped:
    """How much of an input could not be used."""

    name: str
    """Of the file, as the caller named it."""
    num_records: int
    by_code: Mapping[str, int] = field(default_factory=dict)
    example: str = ""
    """One that was dropped, with its place and the reason."""

    @property
    def num_dropped(self) -> int:
        """Count the dropped records of all codes."""
        return sum(self.by_code.values())

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.num_dropped / self.num_records if self.num_records else 0.0

    def __str__(self) -> str:
        reasons = sorted(self.by_code.items(), key=lambda item: (-item[1], item[0]))[:_MAX_REASONS]
        named = ", ".join(f"{code}: {count:,}" for code, count in reasons if count)
        share = f"{self.num_dropped:,} of {self.num_records:,} records ({self.share:.0%})"
        return f"{self.name}: {share} were dropped ({named})"


class DroppedTally:
    """Counts what is refused of one input, and hands it on."""

    def __init__(self, name: object, on_rejected: Callable[[Rejected], None]) -> None:
        self._name = str(name)
        self._on_rejected = on_rejected
        self._firsts: dict[str, Rejected] = {}
        self._by_code: Counter[str] = Counter()

    def __call__(self, rejected: Rejected) -> None:
        """One record was refused."""
        self._by_code[rejected.code] += 1
        self._firsts.setdefault(rejected.code, rejected)
        self._on_rejected(rejected)

    @property
    def num_rejected(self) -> int:
        """So far."""
        return self._by_code.total()

    def dropped(self, num_used: int) -> Dropped:
        """What was dropped, beside so many records that were not."""
        most = self._by_code.most_common(1)
        example = str(self._firsts[most[0][0]]) if most else ""
        return Dropped(self._name, num_used + self.num_rejected, dict(self._by_code), example)


def parse_share(text: str) -> float:
    """What `--max-dropped` says. Raises ValueError.

    >>> parse_share("5%"), parse_share("0.5")
    (0.05, 0.5)
    """
    share = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    if not 0 <= share <= 1:
        raise ValueError(f"{text!r} is no share: write 0.05 or 5%")
    return share


def check_dropped(dropped: Dropped, max_share: float | None) -> None:
    """Raise InputDroppedError if too much was dropped; `max_share` is 0 to 1, None is the usual bound.

    >>> check_dropped(Dropped("a.csv", 100, {"user_missing": 5}), None)
    """
    bound = MAX_DROPPED_SHARE if max_share is None else max_share
    if dropped.share <= bound:
        return
    example = f". {dropped.example}" if dropped.example else ""
    raise InputDroppedError(
        f"{dropped}, more than the {bound:.0%} that are allowed{example}. Correct the file, or allow it with "
        f"--max-dropped {min(1.0, dropped.share + 0.005):.2f}"
    )
