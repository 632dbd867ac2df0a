"""An entity's series: the windows, novelties and alerts of its mentions from an instant on.

Three properties ensure that a set of documents gives the same series, to the last bit, however it is cut into
batches, provided that everything stored from `EntitySeries.since` on is replaced each time:

- causal: no window, position in a chain or alert depends on a mention published after its window;
- bounded: none of them depends on a mention published more than `past_needed` before `since`;
- extending: windows reach to `as_of`, so that a batch can detect the silence of an entity for which it has
  no documents.

The past is needed only as sums, which are integers and stored with the windows. A series that is extended at
its end therefore reads only the mentions within HISTORY and those that an alert cites.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from kinds.sentiment.series.aggregate import COMPARISONS, entity_windows
from kinds.sentiment.series.counts import Columns, Counts, Read, Readings, count_windows, epoch_us_of
from kinds.sentiment.series.detection import detect_alerts, first_window
from kinds.sentiment.series.mention import Novelty
from kinds.sentiment.series.novelty import HISTORY
from kinds.sentiment.series.policy import Alert, Policy
from kinds.sentiment.series.time_windows import EntityWindow, WindowSize, WindowSums, shifted, window_of

StoredSums = Mapping[WindowSize, Sequence[WindowSums]]
"""Sums of an entity's stored windows, by size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntitySeries:
    """A part of an entity's series, which replaces everything stored from `since` on."""

    since: datetime
    novelties: Sequence[Novelty]
    windows: Sequence[EntityWindow]
    alerts: Sequence[Alert]


def begin_of(policy: Policy, since: datetime) -> datetime:
    """Return the start of the earliest of the windows that contain `since`, one of each size in use."""
    zone = ZoneInfo(policy.time_zone)
    return min(window_of(size, zone, since) for size in {*policy.windows, policy.alert_window})


def windows_needed(policy: Policy, begin: datetime) -> datetime:
    """Return the start of the earliest window that is needed to compute results from `begin` on."""
    return min(*(_compared_from(size, policy, begin) for size in policy.windows), first_window(policy, begin))


def past_needed(policy: Policy) -> timedelta:
    """Return how far before `since` mentions must be read if no windows are stored.

    Eight days are added, because windows of a week may begin up to seven days earlier and clocks may change.
    """
    instant = datetime.fromisoformat("2026-01-05T00:00:00+00:00")
    return instant - (windows_needed(policy, begin_of(policy, instant)) - HISTORY) + timedelta(days=8)


def compute_series(
    entity_id: str,
    read: Read,
    *,
    since: datetime,
    as_of: datetime,
    first_at: datetime,
    policy: Policy,
    num_entities: int,
    stored: StoredSums | None = None,
) -> EntitySeries:
    """Return the series of one entity from the windows that contain `since` on.

    `read` must reach back at least `past_needed(policy)` before `since`; earlier mentions make no difference.
    `first_at` is the time of publication of the entity's first mention. `since` is the earlier of two
    instants: the first at which a mention was added, changed or removed, and the start of the entity's last
    stored window. With `since` at `first_at`, the whole series is computed. `stored` holds all windows stored
    from `windows_needed` to `begin_of` of `since`; other windows in it make no difference. If it is None,
    these windows are counted from mentions.
    """
    begin, replaced_from = begin_of(policy, max(since, first_at)), begin_of(policy, since)
    zone = ZoneInfo(policy.time_zone)
    counted_from = windows_needed(policy, begin) if stored is None else begin
    readings = Readings(read, min_relevance=policy.min_relevance)
    columns = readings.since(counted_from)

    def counts(size: WindowSize, read_from: datetime) -> Counts:
        return count_windows(
            columns,
            size,
            zone,
            begin=read_from,
            until=as_of,
            first_at=first_at,
            counted_from=counted_from,
            stored=[sums for sums in (stored or {}).get(size, ()) if sums.starts_at < replaced_from],
        )

    windows: list[EntityWindow] = []
    raised: list[Alert] = []
    if begin < as_of:
        judged = counts(policy.alert_window, first_window(policy, begin))
        raised = detect_alerts(
            entity_id, readings, judged, since=begin, as_of=as_of, policy=policy, num_entities=num_entities
        )
        named = {alert.starts_at for alert in raised}
        for size in policy.windows:
            compared = counts(size, _compared_from(size, policy, begin))
            windows += entity_windows(entity_id, compared, begin=COMPARISONS[size].past, named=named)
    # Before `first_at` there are no mentions, so everything stored there is removed.
    return EntitySeries(
        since=replaced_from,
        novelties=_novelties(entity_id, columns, begin),
        windows=windows,
        alerts=raised,
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
