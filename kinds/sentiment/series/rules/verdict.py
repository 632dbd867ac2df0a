"""Verdicts of a rule on windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Arrays with one element per judged window."""

    p_value: Floats
    """p-value if nothing has changed; 1 with too little past or where the rule's conditions do not hold."""
    statistic: Floats
    observed: Floats
    expected: Floats
    run: Int64s
    """Number of windows, up to the one judged, that the verdict is based on."""


def masked(p_value: Floats, holds: Bools) -> Floats:
    """Return the p-values, with 1 where the rule's conditions do not hold or the p-value is not finite."""
    return np.where(holds & np.isfinite(p_value), p_value, 1.0)


def most_significant(verdicts: list[Verdicts]) -> Verdicts:
    """Return the verdicts of the run with the smallest p-value, multiplied by the number of runs
    (Bonferroni).

    The first of equal runs is chosen.
    """
    p_values = np.stack([verdict.p_value for verdict in verdicts])
    best = np.argmin(p_values, axis=0)
    each = np.arange(p_values.shape[1])

    def chosen(name: str) -> NDArray[np.float64]:
        values: NDArray[np.float64] = np.stack([getattr(verdict, name) for verdict in verdicts])[best, each]
        return values

    return Verdicts(
        p_value=np.minimum(p_values[best, each] * len(verdicts), 1.0),
        statistic=chosen("statistic"),
        observed=chosen("observed"),
        expected=chosen("expected"),
        run=np.stack([verdict.run for verdict in verdicts])[best, each],
    )


def trailing(values: NDArray[np.int64], at: Int64s, length: int, gap: int = 0) -> Int64s:
    """Return for each index of `at` (T) the `length` values that end `gap` before it, shape (T, length)."""
    stretches: Int64s = values[(at - gap)[:, None] + np.arange(1 - length, 1)]
    return stretches
