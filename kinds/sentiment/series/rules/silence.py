"""Silence: far fewer documents than usual, for so long that the entity's past does not explain it.

Test: the number of first reports of a run against the negative binomial forecast (lower tail), which takes
the day of the week into account: a company that nobody writes about on Sundays is not silent on a Sunday.
Runs from one window to four weeks are tested, because how long a silence must be depends on how often the
entity is written about; the smallest p-value is multiplied by their number. The past ends where the run
begins.
"""

from __future__ import annotations

import numpy as np

from kinds.sentiment.series.counts import Counts
from kinds.sentiment.series.rules.scale import Scale
from kinds.sentiment.series.rules.verdict import Int64s, Verdicts, masked, most_significant, trailing
from kinds.sentiment.series.rules.volume import forecast

MIN_PAST_DOCUMENTS = 8
MAX_SHARE = 0.25
"""Maximum share of the expected documents in a silence; a merely slow month has more."""


def judge(counts: Counts, cells: Int64s, at: Int64s, scale: Scale) -> Verdicts:
    """Judge the windows; observed and expected are numbers of documents in the run."""
    return most_significant([_judge_run(counts, cells, at, scale, run) for run in scale.silence_runs])


def _judge_run(counts: Counts, cells: Int64s, at: Int64s, scale: Scale, run: int) -> Verdicts:
    documents = trailing(counts.documents, at, run).sum(1)
    expected = forecast(counts.documents, cells, counts.known_from, at, run, scale, MIN_PAST_DOCUMENTS)
    holds = expected.enough & (documents <= MAX_SHARE * expected.mean)
    return Verdicts(
        p_value=masked(expected.lower_tail(documents), holds),
        statistic=(documents - expected.mean) / np.sqrt(expected.variance),
        observed=documents.astype(float),
        expected=expected.mean,
        run=np.full(len(at), run),
    )
