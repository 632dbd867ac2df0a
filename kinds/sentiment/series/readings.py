"""An entity's mentions as arrays, read only as far back as needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from kinds.sentiment.series.mention import Mention
from kinds.sentiment.series.novelty import HISTORY, link, order
from kinds.sentiment.series.window import SCORE_UNIT

Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]

Read = Callable[[datetime], Sequence[Mention]]
"""Returns one entity's mentions that were published at the instant or later, in any order."""


@dataclass(frozen=True, slots=True)
class Columns:
    """One entity's mentions in order of (published_at, document_id), as arrays of length N."""

    mentions: Sequence[Mention]
    epoch_us: Int64s
    number: Int64s
    """Position in the chain of mentions that report the same, from 1."""
    first_place: Int64s
    """Index of the chain's first mention."""
    first: Bools
    """Whether the mention counts as a document: a first report of sufficient relevance."""
    followup: Bools
    label: Int64s
    """Most likely class: 0 negative, 1 neutral, 2 positive."""
    weight: Int64s
    """Relevance, at least 1."""
    score: Int64s
    """Score in units of SCORE_UNIT."""


class Readings:
    """One entity's columns, read as far back as they have been needed so far."""

    def __init__(self, read: Read, *, min_relevance: int) -> None:
        self._read = read
        self._min_relevance = min_relevance
        self._since: datetime | None = None
        self._columns: Columns | None = None

    def since(self, instant: datetime) -> Columns:
        """Return columns that are exact for mentions at `instant` or later; earlier ones must not be used."""
        if self._columns is None or self._since is None or instant < self._since:
            self._since, self._columns = instant, self._columns_of(self._read(instant - HISTORY))
        return self._columns

    def _columns_of(self, mentions: Sequence[Mention]) -> Columns:
        ordered = order(mentions)
        epoch_us = np.array([epoch_us_of(mention.published_at) for mention in ordered], np.int64)
        rows = np.array(
            [(m.p_negative, m.p_neutral, m.p_positive, m.relevance) for m in ordered], np.float64
        ).reshape(-1, 4)
        label = np.argmax(rows[:, :3], axis=1)
        number, first_place = link(epoch_us, [mention.signature for mention in ordered], label)
        relevant = rows[:, 3] >= self._min_relevance
        return Columns(
            mentions=ordered,
            epoch_us=epoch_us,
            number=number,
            first_place=first_place,
            first=relevant & (number == 1),
            followup=relevant & (number > 1),
            label=label,
            weight=np.maximum(rows[:, 3], 1).astype(np.int64),
            score=np.rint((rows[:, 2] - rows[:, 0]) / SCORE_UNIT).astype(np.int64),
        )


def among(mentions: Iterable[Mention]) -> Read:
    """Return a Read over mentions that are all in memory."""
    given = list(mentions)
    return lambda since: [mention for mention in given if mention.published_at >= since]


def epoch_us_of(instant: datetime) -> int:
    """Return microseconds since 1970, exactly: the precision of a float suffices until the year 2255."""
    return round(instant.timestamp() * 1e6)
