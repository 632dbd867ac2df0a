"""An entity's series: what its mentions come to, from an instant on.

Three properties make any cut of a set of documents into batches give the same series, to the last bit, if
what stood from `Analysis.since` on is replaced each time:

- causal: no window, number in a chain or alert depends on a mention published after its window;
- bounded: none depends on a mention published more than `past_needed` before `since`;
- extending: windows reach to `as_of`, so that a batch without documents of an entity can find it silent.

What lies before is needed as sums, which are integers and stand in the windows that were kept; so a series
that grows at its end reads the mentions of HISTORY alone, and those that an alert cites.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from kinds.sentiment.series.aggregate import COMPARISONS, entity_windows
from kinds.sentiment.series.alerts import alerts, first_window
from kinds.sentiment.series.calendar import shifted, window_of
from kinds.sentiment.series.counts import Counts, count
from kinds.sentiment.series.mention import Novelty
from kinds.sentiment.series.novelty import HISTORY
from kinds.sentiment.series.policy import Policy
from kinds.sentiment.series.readings import Columns, Read, Readings, epoch_us_of
from kinds.sentiment.series.window import Alert, EntityWindow, WindowSize, WindowSums

Kept = Mapping[WindowSize, Sequence[WindowSums]]
"""By size, the windows that stand of an entity."""


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


def windows_needed(policy: Policy, begin: datetime) -> datetime:
    """The earliest start of a window that what begins at `begin` depends on."""
    return min(*(_compared_from(size, policy, begin) for size in policy.windows), first_window(policy, begin))


def past_needed(policy: Policy) -> timedelta:
    """How much before `since` mentions must be read where no windows are kept; one more day, for clocks that
    change."""
    instant = datetime.fromisoformat("2026-01-05T00:00:00+00:00")
    return instant - (windows_needed(policy, begin_of(policy, instant)) - HISTORY) + timedelta(days=8)


def analyse(
    entity_id: str,
    read: Read,
    *,
    since: datetime,
    as_of: datetime,
    first_at: datetime,
    policy: Policy,
    num_entities: int,
    kept: Kept | None = None,
) -> Analysis:
    """The series of one entity from the windows of `since` on.

    `read` reaches back at least `past_needed(policy)` before `since`; earlier mentions make no difference.
    `first_at` is when its first mention ever was published. `since` is the earlier of the first instant at
    which a mention has come, changed or gone, and the start of the last window that is kept of the entity;
    from `first_at` on, everything is computed. `kept` are all windows that stand from `windows_needed` to
    `begin_of` of `since`, and more make no difference; None: they are counted from mentions.
    """
    begin, stands_until = begin_of(policy, max(since, first_at)), begin_of(policy, since)
    zone = ZoneInfo(policy.time_zone)
    counted_from = windows_needed(policy, begin) if kept is None else begin
    readings = Readings(read, min_relevance=policy.min_relevance)
    columns = readings.since(counted_from)

    def counts(size: WindowSize, read_from: datetime) -> Counts:
        standing = [sums for sums in (kept or {}).get(size, ()) if sums.starts_at < stands_until]
        return count(
            columns,
            size,
            zone,
            begin=read_from,
            until=as_of,
            first_at=first_at,
            counted_from=counted_from,
            kept=standing,
        )

    windows: list[EntityWindow] = []
    found: list[Alert] = []
    if begin < as_of:
        judged = counts(policy.alert_window, first_window(policy, begin))
        found = alerts(
            entity_id, readings, judged, since=begin, as_of=as_of, policy=policy, num_entities=num_entities
        )
        named = {alert.starts_at for alert in found}
        for size in policy.windows:
            compared = counts(size, _compared_from(size, policy, begin))
            windows += entity_windows(entity_id, compared, begin=COMPARISONS[size].past, named=named)
    # Before `first_at` there is nothing, and what may have stood there goes.
    return Analysis(
        since=stands_until,
        novelties=_novelties(entity_id, columns, begin),
        windows=windows,
        alerts=found,
    )


def _compared_from(size: WindowSize, policy: Policy, begin: datetime) -> datetime:
    zone = ZoneInfo(policy.time_zone)
    return shifted(size, zone, window_of(size, zone, begin), -COMPARISONS[size].past)


def _novelties(entity_id: str, columns: Columns, begin: datetime) -> list[Novelty]:
    mentions = columns.mentions
    return [
        Novelty(
            document_id=mentions[place].document_id,
            entity_id=entity_id,
            number=int(columns.number[place]),
            first_id=mentions[int(columns.first_place[place])].document_id,
        )
        for place in range(int(np.searchsorted(columns.epoch_us, epoch_us_of(begin))), len(mentions))
    ]
