"""Surge: more negative documents than the entity's past explains, beyond a rise in the number of all
documents.

Test: the number of negative first reports of a run against the negative binomial forecast (upper tail). Runs
of one window and of three are tested, to find both a day's burst and a bad stretch; the smaller p-value is
doubled. The forecast with measured dispersion is that of outbreak detection (Farrington et al. 1996, JRSS A
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
"""Minimum negative documents: one or two are no surge, however quiet the past."""
MIN_PAST_DOCUMENTS = 10
_MAX_SHARE_P = 0.05
"""Level at which the share of negatives must exceed that of the past (binomial, upper tail), because a busy
day with the usual mixture is no surge. The condition only removes alerts, so the budget holds without it."""


def judge(counts: Counts, cells: Int64s, at: Int64s, scale: Scale) -> Verdicts:
    """Judge the windows; observed and expected are numbers of negative documents in the run."""
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
