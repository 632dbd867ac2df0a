"""Confines an error to the rows that cause it: a failed batch is computed again in halves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeGuard, TypeVar

from jobs.errors import EngineLostError

RowT = TypeVar("RowT")
OutcomeT = TypeVar("OutcomeT")

logger = logging.getLogger(__name__)


class Containment:
    """Runs batches so that a bad row costs the other rows time, but never their result.

    A bad row among n costs about 2 log2(n) extra calls, once: it fails and is then gone. After a MemoryError
    batches stay small for good, because memory that was short once will be short again.
    """

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows

    def run(
        self, rows: Sequence[RowT], compute: Callable[[Sequence[RowT]], list[OutcomeT]]
    ) -> list[tuple[RowT, OutcomeT | Exception]]:
        """Compute all rows, in order; return each with its outcome or with the error that it caused.

        Raises EngineLostError if a call does, or if every one of several rows fails for another reason than a
        lack of memory. In that case the device itself fails, as after a CUDA error, which every later call
        would get again.
        """
        outcomes: list[tuple[RowT, OutcomeT | Exception]] = []
        pending = [rows] if rows else []
        while pending:
            part = pending.pop()
            if len(part) > self.max_rows:
                pending += [part[self.max_rows :], part[: self.max_rows]]
                continue
            try:
                outcomes += zip(part, compute(part), strict=True)
            except EngineLostError:
                raise
            except Exception as error:  # noqa: BLE001  any error must end with its row
                half = len(part) // 2
                if not half:
                    outcomes.append((part[0], error))
                    continue
                if isinstance(error, MemoryError):
                    self.max_rows = half
                    logger.warning("device memory is short, batches stay smaller", extra={"max_rows": half})
                pending += [part[half:], part[:half]]
        errors = [outcome for _, outcome in outcomes if _is_lasting(outcome)]
        if len(errors) == len(rows) > 1:
            raise EngineLostError(f"all {len(rows)} rows of a batch failed: {errors[0]!r}") from errors[0]
        return outcomes


def _is_lasting(outcome: object) -> TypeGuard[Exception]:
    return isinstance(outcome, Exception) and not isinstance(outcome, MemoryError)
