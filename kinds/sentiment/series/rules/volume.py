"""Forecasts how many documents a run of windows will have, from the entity's own past: mean and variance.

The past gives a rate for each cell of the week (weekdays for days; hours of working days and of weekends for
hours). Each rate is shrunk towards the overall rate by the weight of two documents, so that a few quiet
Saturdays do not become a certainty. Documents come in bursts: the variance is the mean times a dispersion,
measured on blocks as long as the run, so that correlation between windows is included.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from kinds.sentiment.series.rules.scale import Scale
from kinds.sentiment.series.rules.verdict import Bools, Floats, Int64s, trailing

_CELL_DOCUMENTS = 2.0
"""Weight, in documents, of the overall rate that a cell's rate is shrunk towards."""
_WIDENING = 1.5
"""Standard errors by which the dispersion is widened: an underestimate raises false alarms, and there are few
blocks to estimate it from. The first of 1, 1.5 and 2 whose surges stay near their share of the budget on busy
feeds with bursts and moods."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Forecast for the run that ends with each of T windows."""

    mean: Floats
    variance: Floats
    past_documents: Floats
    enough: Bools
    """Whether there is enough past for a forecast; elsewhere the other values are meaningless."""

    def upper_tail(self, observed: Int64s) -> Floats:
        """Return P(X >= observed) for the negative binomial of this mean and variance.

        Source: Johnson, Kemp & Kotz, 5.6.
        """
        shape, success = self._parameters()
        tail: Floats = special.betainc(np.maximum(observed, 1), shape, 1 - success)
        return np.where(observed > 0, tail, 1.0)

    def lower_tail(self, observed: Int64s) -> Floats:
        """Return P(X <= observed) for the same distribution."""
        shape, success = self._parameters()
        tail: Floats = special.betainc(shape, observed + 1.0, success)
        return tail

    def _parameters(self) -> tuple[Floats, Floats]:
        mean = np.where(self.enough, self.mean, 1.0)
        variance = np.where(self.enough, np.maximum(self.variance, mean * (1 + 1e-6)), 2.0)
        shape = mean**2 / (variance - mean)
        return shape, shape / (shape + mean)


def forecast(
    counts: Int64s, cells: Int64s, known_from: int, at: Int64s, run: int, scale: Scale, min_documents: int
) -> Forecast:
    """Forecast from the `scale.baseline` windows before the run, ignoring windows before `known_from`."""
    known = trailing(np.arange(len(counts)), at, scale.baseline, run) >= known_from
    past = trailing(counts, at, scale.baseline, run) * known
    past_cells = trailing(cells, at, scale.baseline, run)
    total, windows = past.sum(1).astype(float), known.sum(1).astype(float)
    enough = (windows >= scale.min_baseline) & (total >= min_documents)
    # Assume one document where none was seen, so that a first one is unlikely but not impossible.
    total, windows = np.maximum(total, 1.0), np.where(enough, windows, 1.0)

    rates = _rates(counts, cells, known_from, at - run + 1, scale.baseline, _CELL_DOCUMENTS * windows / total)
    mean = np.take_along_axis(rates, trailing(cells, at, run), axis=1).sum(1)
    expected = np.take_along_axis(rates, past_cells, axis=1) * known
    dispersion = _dispersion(past, expected, next((b for b in scale.blocks if b >= run), scale.blocks[-1]))
    # The rate is an estimate, too: its relative variance is dispersion / total.
    return Forecast(mean, dispersion * mean * (1 + mean / total), total, enough)


def _rates(
    counts: Int64s, cells: Int64s, known_from: int, until: Int64s, length: int, drawn: Floats
) -> Floats:
    """Return documents per window by cell over the `length` known windows before each index of `until`.

    Shape (T, cells).
    """
    known = np.arange(len(counts)) >= known_from
    here = (cells[:, None] == np.arange(cells.max() + 1)) & known[:, None]
    documents, windows = _sums_before(counts[:, None] * here), _sums_before(here)
    rates: Floats = (documents[until] - documents[until - length] + _CELL_DOCUMENTS) / (
        windows[until] - windows[until - length] + drawn[:, None]
    )
    return rates


def _sums_before(columns: Int64s | Bools) -> Int64s:
    """Return the sums of the rows before each row, (N, C) -> (N + 1, C)."""
    sums = np.zeros((len(columns) + 1, columns.shape[1]), np.int64)
    np.cumsum(columns, axis=0, out=sums[1:])
    return sums


def _dispersion(past: Int64s, expected: Floats, block: int) -> Floats:
    """Return the variance over the mean of block sums, at least 1, widened by 1.5 of its standard errors.

    A standard error is sqrt(2 / (blocks - 1)) of the value. The ratio of sums is used rather than Pearson's
    sum of ratios, which would be dominated by quiet cells, whose expectation is near 0.
    """
    shape = (len(past), past.shape[1] // block, block)
    observed, mean = past.reshape(shape).sum(2), np.ascontiguousarray(expected).reshape(shape).sum(2)
    degrees = np.maximum(np.count_nonzero(mean > 0, axis=1) - 1, 1)
    squares = ((observed - mean) ** 2).sum(1)
    ratio = squares / np.maximum(mean.sum(1), 1e-9) * (degrees + 1) / degrees
    widened: Floats = np.maximum(ratio, 1.0) * (1 + _WIDENING * np.sqrt(2 / degrees))
    return widened
