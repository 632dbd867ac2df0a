"""What share of an input was dropped, and why: above a bound it is a failure, unless it is allowed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from jobs.errors import InputError
from jobs.rejection import Rejected

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
