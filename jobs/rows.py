"""One row must not fail its neighbours: what a row raises by what it holds becomes its refusal.

Every stage that maps over foreign rows goes through here: a row alone (`attempt`), or many that are handed to
a library together (`apart`), which are halved until the one is found that the library cannot take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from jobs.errors import InputError
from jobs.rejection import snippet

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
