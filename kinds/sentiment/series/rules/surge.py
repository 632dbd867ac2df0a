"""Surge: more negative documents than the entity's past explains, and not only because there are more of all.

Test: the number of negative first reports of a run against the negative binomial forecast (upper tail). Runs
of one window and of three, so that a day's burst and a bad stretch are both seen; the smaller p-value counts
twice. The forecast with measured dispersion is that of outbreak detection (Farrington et al. 1996, JRSS A
159, 547; Noufaily et al. 2013, Stat. Med. 32, 1206).
"""

from __future__ import annotations

import numpy as np
from scipy import special

from kinds.sentiment.series.counts import Counts
from kinds.sentiment.series.rules.scale import Scale
from kinds.sentiment.series.rules.verdict import Int64s, Verdicts, masked, most_significant, trailing
from kinds.sentiment.series.rules.volume import forecast

MIN_NEGATIVE = 3
"""One or two documents are no surge, however quiet the past."""
MIN_PAST_DOCUMENTS = 10
_MAX_SHARE_P = 0.05
"""A busy day of the usual mixture is no surge: the share of negatives must be above the past's at this level
(binomial, upper tail). It only takes alerts away, so the budget holds without it."""


def judge(counts: Counts, cells: Int64s, at: Int64s, scale: Scale) -> Verdicts:
    """Observed and expected are numbers of negative documents in the run."""
    return most_significant([_judge_run(counts, cells, at, scale, run) for run in scale.surge_runs])


def _judge_run(counts: Counts, cells: Int64s, at: Int64s, scale: Scale, run: int) -> Verdicts:
    negative = trailing(counts.negative, at, run).sum(1)
    documents = trailing(counts.documents, at, run).sum(1)
    past = forecast(counts.documents, cells, counts.known_from, at, run, scale, MIN_PAST_DOCUMENTS)
    expected = forecast(counts.negative, cells, counts.known_from, at, run, scale, 0)
    past_negative = trailing(counts.negative, at, scale.baseline, run).sum(1)
    share = (past_negative + 0.5) / (past.past_documents + 1.0)
    share_p = special.betainc(np.maximum(negative, 1), documents - np.maximum(negative, 1) + 1.0, share)
    holds = past.enough & (negative >= MIN_NEGATIVE) & (share_p < _MAX_SHARE_P)
    return Verdicts(
        p_value=masked(expected.upper_tail(negative), holds),
        statistic=(negative - expected.mean) / np.sqrt(expected.variance),
        observed=negative.astype(float),
        expected=expected.mean,
        run=np.full(len(at), run),
    )
