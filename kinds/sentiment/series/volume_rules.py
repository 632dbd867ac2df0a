"""The rules surge and silence, which compare the volume of a run of windows with a forecast from its past.

The forecast has a mean and a variance. The past gives a rate for each cell of the week (weekdays for days;
hours of working days and of weekends for hours). Each rate is shrunk towards the overall rate by the weight
of two documents, so that a few quiet Saturdays do not yield an overconfident rate. Documents come in bursts:
the variance is the mean times a dispersion, measured on blocks as long as the run, so that correlation
between windows is included. The forecast with measured dispersion is that of outbreak detection (Farrington
et al. 1996, JRSS A 159, 547; Noufaily et al. 2013, Stat. Med. 32, 1206).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from kinds.sentiment.series.counts import Counts
from kinds.sentiment.series.verdicts import (
    Bools,
    Floats,
    Int64s,
    Scale,
    Verdicts,
    masked,
    most_significant,
    trailing,
)

_CELL_DOCUMENTS = 2.0
"""Weight, in documents, of the overall rate that a cell's rate is shrunk towards."""
_WIDENING = 1.5
"""Standard errors by which the dispersion is inflated, because an underestimate raises false alarms and there
are few blocks to estimate it from. It is the first of 1, 1.5 and 2 at which surges stay near their share of
the budget on busy feeds with bursts and changing moods."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Forecasts for the runs that end with each of T windows; each array has shape (T,)."""

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
        """Return P(X <= observed) for the negative binomial of this mean and variance."""
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
    """Return documents per window by cell, over the `length` windows before each index of `until`.

    Windows that are not known are ignored. Shape (T, cells).
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
    """Return the ratio of variance to mean of block sums, at least 1, inflated by 1.5 standard errors.

    The standard error is the value times sqrt(2 / (blocks - 1)). The ratio of sums is used rather than
    Pearson's sum of ratios, which would be dominated by quiet cells, whose expectation is near 0.
    """
    shape = (len(past), past.shape[1] // block, block)
    observed, mean = past.reshape(shape).sum(2), np.ascontiguousarray(expected).reshape(shape).sum(2)
    degrees = np.maximum(np.count_nonzero(mean > 0, axis=1) - 1, 1)
    squares = ((observed - mean) ** 2).sum(1)
    ratio = squares / np.maximum(mean.sum(1), 1e-9) * (degrees + 1) / degrees
    widened: Floats = np.maximum(ratio, 1.0) * (1 + _WIDENING * np.sqrt(2 / degrees))
    return widened


SURGE_MIN_NEGATIVE = 3
"""Minimum number of negative documents: one or two are no surge, however quiet the past was."""
SURGE_MIN_PAST_DOCUMENTS = 10
_MAX_SHARE_P = 0.05
"""Level at which the share of negatives must exceed that of the past (binomial, upper tail), because a busy
day with the usual mixture is no surge. The condition only removes alerts, so the budget holds without it."""


def judge_surge(counts: Counts, cells: Int64s, at: Int64s, scale: Scale) -> Verdicts:
    """Judge surges: more negative documents than the past and a rise in all documents explain.

    Test: the number of negative first reports of a run against the negative binomial forecast (upper tail).
    For days, runs of one window and of three are tested, to find both a day's burst and a bad stretch; the
    smaller p-value is doubled. Observed and expected are numbers of negative documents in the run.
    """
    return most_significant([_judge_surge_run(counts, cells, at, scale, run) for run in scale.surge_runs])


def _judge_surge_run(counts: Counts, cells: Int64s, at: Int64s, scale: Scale, run: int) -> Verdicts:
    negative = trailing(counts.negative, at, run).sum(1)
    documents = trailing(counts.documents, at, run).sum(1)
    past = forecast(counts.documents, cells, counts.known_from, at, run, scale, SURGE_MIN_PAST_DOCUMENTS)
    expected = forecast(counts.negative, cells, counts.known_from, at, run, scale, 0)
    past_negative = trailing(counts.negative, at, scale.baseline, run).sum(1)
    share = (past_negative + 0.5) / (past.past_documents + 1.0)
    share_p = special.betainc(np.maximum(negative, 1), documents - np.maximum(negative, 1) + 1.0, share)
    holds = past.enough & (negative >= SURGE_MIN_NEGATIVE) & (share_p < _MAX_SHARE_P)
    return Verdicts(
        p_value=masked(expected.upper_tail(negative), holds),
        statistic=(negative - expected.mean) / np.sqrt(expected.variance),
        observed=negative.astype(float),
        expected=expected.mean,
        run=np.full(len(at), run),
    )


SILENCE_MIN_PAST_DOCUMENTS = 8
SILENCE_MAX_SHARE = 0.25
"""Maximum ratio of observed to expected documents in a silence; in a merely slow month it is higher."""


def judge_silence(counts: Counts, cells: Int64s, at: Int64s, scale: Scale) -> Verdicts:
    """Judge silences: far fewer documents than usual, for so long that the entity's past does not explain it.

    Test: the number of first reports of a run against the negative binomial forecast (lower tail), which
    takes the day of the week into account: a company that nobody writes about on Sundays is not silent on a
    Sunday. For days, runs from one day to four weeks are tested, because the length that makes a silence
    significant depends on how often the entity is written about. The smallest p-value is multiplied by the
    number of runs. The past ends where the run begins. Observed and expected are numbers of documents in the
    run.
    """
    return most_significant([_judge_silence_run(counts, cells, at, scale, run) for run in scale.silence_runs])


def _judge_silence_run(counts: Counts, cells: Int64s, at: Int64s, scale: Scale, run: int) -> Verdicts:
    documents = trailing(counts.documents, at, run).sum(1)
    expected = forecast(
        counts.documents, cells, counts.known_from, at, run, scale, SILENCE_MIN_PAST_DOCUMENTS
    )
    holds = expected.enough & (documents <= SILENCE_MAX_SHARE * expected.mean)
    return Verdicts(
        p_value=masked(expected.lower_tail(documents), holds),
        statistic=(documents - expected.mean) / np.sqrt(expected.variance),
        observed=documents.astype(float),
        expected=expected.mean,
        run=np.full(len(at), run),
    )
