"""An entity's mentions as arrays, read only as far back as needed, and their sums over consecutive windows.

All sums are integers, so that a sum over windows does not depend on the order in which they were read, and a
result computed from a part of the past equals, to the last bit, the one computed from the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from kinds.sentiment.series.mention import CountedDocument, Mention
from kinds.sentiment.series.novelty import HISTORY, by_time, number_chains
from kinds.sentiment.series.time_windows import SCORE_UNIT, WindowSize, WindowSums, shifted, window_starts

Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]

Read = Callable[[datetime], Sequence[Mention]]
"""A function that returns one entity's mentions published at or after an instant, in any order."""

StoredSums = Mapping[WindowSize, Sequence[WindowSums]]
"""Sums of an entity's stored windows, by size."""


@dataclass(frozen=True, slots=True)
class Columns:
    """One entity's mentions in order of (published_at, document_id), as arrays of length N."""

    mentions: Sequence[Mention]
    epoch_us: Int64s
    number: Int64s
    """Position in the chain of mentions that report the same news, counted from 1."""
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
    """One entity's columns; mentions are read again from further back when earlier ones are needed."""

    def __init__(self, read: Read, *, min_relevance: int) -> None:
        self._read = read
        self._min_relevance = min_relevance
        self._since: datetime | None = None
        self._columns: Columns | None = None

    def since(self, instant: datetime) -> Columns:
        """Return columns that are exact for mentions at or after `instant`; do not use earlier mentions."""
        if self._columns is None or self._since is None or instant < self._since:
            self._since, self._columns = instant, self._columns_of(self._read(instant - HISTORY))
        return self._columns

    def _columns_of(self, mentions: Sequence[Mention]) -> Columns:
        ordered = by_time(mentions)
        epoch_us = np.array([epoch_us_of(mention.published_at) for mention in ordered], np.int64)
        rows = np.array(
            [(m.p_negative, m.p_neutral, m.p_positive, m.relevance) for m in ordered], np.float64
        ).reshape(-1, 4)
        label = np.argmax(rows[:, :3], axis=1)
        number, first_place = number_chains(epoch_us, [mention.signature for mention in ordered], label)
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


def memory_reader(mentions: Iterable[Mention]) -> Read:
    """Return a `Read` that selects from mentions in memory."""
    in_memory = list(mentions)
    return lambda since: [mention for mention in in_memory if mention.published_at >= since]


def epoch_us_of(instant: datetime) -> int:
    """Return microseconds since 1970, exactly: the precision of a float suffices until the year 2255."""
    return round(instant.timestamp() * 1e6)


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums of one entity over n consecutive windows; the last window may be unfinished."""

    size: WindowSize
    starts: Sequence[datetime]
    ends_at: datetime
    """End of the last window."""
    known_from: int
    """Index of the window in which the entity was first mentioned; earlier windows are unknown, not empty."""
    documents: Int64s
    followups: Int64s
    negative: Int64s
    neutral: Int64s
    positive: Int64s
    weight: Int64s
    weight_squared: Int64s
    score: Int64s
    """Sum of weight times score, in units of SCORE_UNIT."""

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowCounter:
    """Counts the windows of one entity, of any size, from its mentions and its stored windows."""

    columns: Columns
    zone: ZoneInfo
    until: datetime
    """Instant before which the last window begins."""
    first_at: datetime
    """When the entity's first mention was published."""
    counted_from: datetime
    """Start of a window. From there on mentions are counted; earlier sums come from `stored`."""
    stored: StoredSums

    def count(self, size: WindowSize, begin: datetime) -> Counts:
        """Return the counts of windows from the one containing `begin` on."""
        columns = self.columns
        starts = window_starts(size, self.zone, begin, self.until)
        ends_at = shifted(size, self.zone, starts[-1], 1)
        edges = np.array([epoch_us_of(start) for start in (*starts, ends_at)], np.int64)
        window = np.searchsorted(edges, columns.epoch_us, side="right") - 1
        inside = (window >= 0) & (window < len(starts)) & (columns.epoch_us >= epoch_us_of(self.counted_from))
        first, weight = columns.first & inside, columns.weight
        place_of = {start: place for place, start in enumerate(starts) if start < self.counted_from}
        stored_at = [
            (place_of[each.starts_at], each)
            for each in self.stored.get(size, ())
            if each.starts_at in place_of
        ]

        def total(name: str, chosen: Bools, amount: Int64s | None = None) -> Int64s:
            sums = np.zeros(len(starts), np.int64)
            np.add.at(sums, window[chosen], 1 if amount is None else amount[chosen])
            for place, each in stored_at:
                sums[place] = getattr(each, name)
            return sums

        return Counts(
            size=size,
            starts=starts,
            ends_at=ends_at,
            known_from=int(np.searchsorted(edges, epoch_us_of(self.first_at), side="right")) - 1,
            documents=total("num_documents", first),
            followups=total("num_followups", columns.followup & inside),
            negative=total("num_negative", first & (columns.label == 0)),
            neutral=total("num_neutral", first & (columns.label == 1)),
            positive=total("num_positive", first & (columns.label == 2)),
            weight=total("weight", first, weight),
            weight_squared=total("weight_squared", first, weight * weight),
            score=total("weighted_score", first, weight * columns.score),
        )


def sums_of(documents: Sequence[CountedDocument], starts_at: datetime) -> WindowSums:
    """Return the sums over the documents of the window that starts at `starts_at`.

    `WindowCounter` computes the same sums.
    """
    first = [document for document in documents if document.novelty == 1]
    weights = [max(document.relevance, 1) for document in first]
    labels = [document.label for document in first]
    return WindowSums(
        starts_at=starts_at,
        num_documents=len(first),
        num_followups=len(documents) - len(first),
        num_positive=labels.count(2),
        num_neutral=labels.count(1),
        num_negative=labels.count(0),
        weight=sum(weights),
        weight_squared=sum(weight * weight for weight in weights),
        weighted_score=sum(
            weight * round(document.score / SCORE_UNIT)
            for weight, document in zip(weights, first, strict=True)
        ),
    )
