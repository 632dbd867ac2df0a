"""An entity's series: what its mentions come to, from an instant on.

Three properties make any cut of a set of documents into batches give the same series, to the last bit, if
what stood from `Analysis.since` on is replaced each time:

- causal: no window, number in a chain or alert depends on a mention published after its window;
- bounded: none depends on a mention published more than `past_needed` before `since`;
- extending: windows reach to `as_of`, so that a batch without documents of an entity can find it silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from jobs.series.aggregate import COMPARISONS, entity_windows
from jobs.series.alerts import alerts, first_window
from jobs.series.calendar import shifted, window_of
from jobs.series.counts import columns_of, count, epoch_us_of
from jobs.series.mention import Mention, Novelty
from jobs.series.novelty import HISTORY, link, order
from jobs.series.policy import Policy
from jobs.series.window import Alert, EntityWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """Takes the place of all that the entity has from `since` on."""

    since: datetime
    novelties: Sequence[Novelty]
    windows: Sequence[EntityWindow]
    alerts: Sequence[Alert]


def begin_of(policy: Policy, since: datetime) -> datetime:
    """The earliest start of a window, of any size of the policy, that `since` lies in."""
    zone = ZoneInfo(policy.time_zone)
    return min(window_of(size, zone, since) for size in {*policy.windows, policy.alert_window})


def past_needed(policy: Policy) -> timedelta:
    """How much before `since` mentions must be read; one more day, for clocks that change."""
    instant = datetime.fromisoformat("2026-01-05T00:00:00+00:00")
    return instant - _first_read(policy, begin_of(policy, instant)) + timedelta(days=8)


def analyse(
    entity_id: str,
    mentions: Sequence[Mention],
    *,
    since: datetime,
    as_of: datetime,
    first_at: datetime,
    policy: Policy,
    num_entities: int,
) -> Analysis:
    """The series of one entity from the windows of `since` on.

    `mentions` are all of the entity published at `since - past_needed(policy)` or later, in any order;
    earlier ones make no difference. `first_at` is when its first mention ever was published. `since` is the
    earlier of the first instant at which a mention has come, changed or gone, and the start of the last
    window that is kept of the entity; from `first_at` on, everything is computed.
    """
    zone = ZoneInfo(policy.time_zone)
    begin = begin_of(policy, max(since, first_at))
    ordered = order(mentions)
    epoch_us = np.array([epoch_us_of(mention.published_at) for mention in ordered], np.int64)
    numbers, firsts = link(epoch_us, [mention.signature for mention in ordered])
    columns = columns_of(ordered, epoch_us, numbers, policy.min_relevance)

    windows: list[EntityWindow] = []
    found: list[Alert] = []
    for size in policy.windows:
        past = COMPARISONS[size].past
        read_from = shifted(size, zone, window_of(size, zone, begin), -past)
        if begin < as_of:
            counts = count(columns, size, zone, begin=read_from, until=as_of, first_at=first_at)
            windows += entity_windows(entity_id, counts, begin=past)
    if begin < as_of:
        read_from = first_window(policy, begin)
        counts = count(columns, policy.alert_window, zone, begin=read_from, until=as_of, first_at=first_at)
        found = alerts(
            entity_id, columns, counts, since=begin, as_of=as_of, policy=policy, num_entities=num_entities
        )
    novelties = [
        Novelty(
            document_id=ordered[place].document_id,
            entity_id=entity_id,
            number=int(numbers[place]),
            first_id=ordered[int(firsts[place])].document_id,
        )
        for place in range(int(np.searchsorted(epoch_us, epoch_us_of(begin))), len(ordered))
    ]
    # Before `first_at` there is nothing, and what may have stood there goes.
    return Analysis(since=begin_of(policy, since), novelties=novelties, windows=windows, alerts=found)


def _first_read(policy: Policy, begin: datetime) -> datetime:
    zone = ZoneInfo(policy.time_zone)
    starts = [
        shifted(size, zone, window_of(size, zone, begin), -COMPARISONS[size].past) for size in policy.windows
    ]
    return min(*starts, first_window(policy, begin)) - HISTORY
