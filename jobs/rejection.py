"""Refuses records that cannot be used, one by one, and the whole input if there are too many of them.

A bad record must not make others fail. Every stage that processes rows from outside calls `attempt` for a
single row, or `apart` for rows that are passed to a library together. `apart` halves them until it finds the
rows that the library cannot process.
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
"""Maximum length of a quoted text: enough to recognise the line in an editor, but too little to copy a
document into a report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A line that was refused, with the reason and what its author can do about it."""

    file: str
    """Name of the file, as given by the caller."""
    line: int
    """Number of the line in the file, from 1. For a record of several lines, it is the number of the
    first."""
    id: str | None = None
    """Id of the document, if it could be read."""
    code: str
    """Stable code for scripts, such as `missing_column` or `json_too_deep`."""
    reason: str
    advice: str
    column: str | None = None
    """Name of the column or JSON key that is wrong; None if the error does not concern a single one."""
    character: int | None = None
    """Position of the error in the line, from 1, if it is known."""
    snippet: str | None = None
    """Beginning of the offending text; None if it may contain a secret."""

    def __str__(self) -> str:
        place = [self.file, str(self.line)] + ([str(self.character)] if self.character else [])
        column = f"column {self.column!r}: " if self.column is not None else ""
        return f"{':'.join(place)}: {column}{self.reason} ({self.advice}) [{self.code}]"

    def as_json(self) -> dict[str, object]:
        """Return the object for a line of `rejected.jsonl`, without fields that are None."""
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
    """The whole file cannot be used, including the records that were read before the error."""

    code = "file_rejected"

    def __init__(self, rejected: Rejected) -> None:
        super().__init__(str(rejected).removesuffix(f" [{rejected.code}]"), code=rejected.code)
        self.rejected = rejected


def refuse_file(path: Path, code: str, reason: str, advice: str, line: int = 1) -> FileRejectedError:
    """Return the error that refuses a whole file."""
    return FileRejectedError(Rejected(file=str(path), line=line, code=code, reason=reason, advice=advice))


def snippet(text: str) -> str | None:
    r"""Return the beginning of a text, escaped and on one line, or None if the text may contain a secret.

    >>> snippet("a\x00b\n")
    'a\\u0000b\\u000a'
    >>> snippet("key AKIAABCDEFGHIJKLMNOP") is None
    True
    """
    if not text or not may_be_shown(text):
        return None
    return printable(text[:MAX_SNIPPET_CHARACTERS])


def quoted(text: str) -> str:
    """Return the beginning of a text in quotation marks, or `(not shown)` if it may contain a secret.

    >>> quoted("user"), quoted(""), quoted("key AKIAABCDEFGHIJKLMNOP")
    ("'user'", "''", '(not shown)')
    """
    shown = snippet(text) if text else ""
    return "(not shown)" if shown is None else repr(shown)


RowT = TypeVar("RowT")
MadeT = TypeVar("MadeT")

REFUSED = "refused"
"""Key in a job's metrics under which the refused rows are listed, with a code and a reason for each id."""

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
"""Errors that parsers raise because of their input, including UnicodeError, JSONDecodeError and
OverflowError. Errors of a service, of memory or of the engine are never the fault of a row."""

_PANIC = "PanicException"
"""Name of the class that libraries in Rust raise for a panic. It is not derived from Exception."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row cannot be used."""

    code: str
    """Stable code for scripts, such as that of an InputError, or `row_unreadable` for any other error."""
    reason: str
    """Reason in words, without anything secret."""


def refusal_of(error: BaseException) -> Refusal | None:
    """Return the refusal of a row for this error, or None if the error is not the fault of the row.

    >>> refusal_of(ValueError("no number")).reason, refusal_of(OSError("disk full"))
    ("cannot be read: ValueError: 'no number'", None)
    """
    if isinstance(error, InputError):
        return Refusal(error.code, snippet(str(error)) or type(error).__name__)
    if not isinstance(error, _OF_DATA) and type(error).__name__ != _PANIC:
        return None
    shown = snippet(str(error))
    detail = f": {shown!r}" if shown else ""
    return Refusal(UNREADABLE, f"cannot be read: {type(error).__name__}{detail}")


def attempt(make: Callable[[RowT], MadeT], row: RowT) -> MadeT | Refusal:
    """Return the result of `make` for a row, or a Refusal. Raises errors that are not the fault of the row.

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
    """Return the results of `make` for many rows, in order, with a Refusal for each row that makes it fail.

    Bad rows are found by halving: with b bad rows out of n, `make` is called at most 2 b ceil(log2 n) + 1
    times. Raises errors that are not the fault of a row.

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
"""Share of dropped records above which an input is refused. One bad line in twenty is tolerated; more bad
lines mean that the wrong column, unit or file was used."""
_MAX_REASONS = 5


class InputDroppedError(InputError):
    """More records of an input were dropped than allowed."""

    code = "input_dropped"


@dataclass(frozen=True, slots=True)
class Dropped:
    """How many records of an input could not be used, and why."""

    name: str
    """Name of the file, as given by the caller."""
    num_records: int
    by_code: Mapping[str, int] = field(default_factory=dict)
    example: str = ""
    """Description of a dropped record: its file, its line and the reason; empty if no record was dropped."""

    @property
    def num_dropped(self) -> int:
        """Number of dropped records."""
        return sum(self.by_code.values())

    @property
    def share(self) -> float:
        """Dropped records as a share of all records, from 0 to 1."""
        return self.num_dropped / self.num_records if self.num_records else 0.0

    def __str__(self) -> str:
        reasons = sorted(self.by_code.items(), key=lambda item: (-item[1], item[0]))[:_MAX_REASONS]
        named = ", ".join(f"{code}: {count:,}" for code, count in reasons if count)
        share = f"{self.num_dropped:,} of {self.num_records:,} records ({self.share:.0%})"
        return f"{self.name}: {share} were dropped ({named})"


class DroppedTally:
    """Counts the refused records of one input, and passes them to `on_rejected`."""

    def __init__(self, name: object, on_rejected: Callable[[Rejected], None]) -> None:
        self._name = str(name)
        self._on_rejected = on_rejected
        self._firsts: dict[str, Rejected] = {}
        self._by_code: Counter[str] = Counter()

    def __call__(self, rejected: Rejected) -> None:
        """Count a refused record, and pass it on."""
        self._by_code[rejected.code] += 1
        self._firsts.setdefault(rejected.code, rejected)
        self._on_rejected(rejected)

    @property
    def num_rejected(self) -> int:
        """Number of records refused so far."""
        return self._by_code.total()

    def dropped(self, num_used: int) -> Dropped:
        """Return a summary of the dropped records, given how many records were used."""
        most = self._by_code.most_common(1)
        example = str(self._firsts[most[0][0]]) if most else ""
        return Dropped(self._name, num_used + self.num_rejected, dict(self._by_code), example)


def parse_share(text: str) -> float:
    """Parse the share that a user gives as `--max-dropped`. Raises ValueError.

    >>> parse_share("5%"), parse_share("0.5")
    (0.05, 0.5)
    """
    share = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    if not 0 <= share <= 1:
        raise ValueError(f"{text!r} is not a share: write it as 0.05 or 5%")
    return share


def check_dropped(dropped: Dropped, max_share: float | None) -> None:
    """Raise InputDroppedError if the share of dropped records exceeds `max_share`.

    `max_share` is between 0 and 1; None means MAX_DROPPED_SHARE.

    >>> check_dropped(Dropped("a.csv", 100, {"user_missing": 5}), None)
    """
    bound = MAX_DROPPED_SHARE if max_share is None else max_share
    if dropped.share <= bound:
        return
    example = f". {dropped.example}" if dropped.example else ""
    raise InputDroppedError(
        f"{dropped}, more than the allowed {bound:.0%}{example}. Correct the file, or allow it with "
        f"--max-dropped {min(1.0, dropped.share + 0.005):.2f}"
    )
