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

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from kinds.sentiment.series.aggregate import COMPARISONS, entity_windows
from kinds.sentiment.series.counts import Columns, Read, Readings, StoredSums, WindowCounter, epoch_us_of
from kinds.sentiment.series.detection import detect_alerts, first_window
from kinds.sentiment.series.mention import Novelty
from kinds.sentiment.series.novelty import HISTORY
from kinds.sentiment.series.policy import Alert, Policy
from kinds.sentiment.series.time_windows import EntityWindow, WindowSize, shifted, window_of


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesUpdate:
    """The part of an entity's series to compute, and the policy for it."""

    since: datetime
    """The earliest of three instants: the publication of the earliest mention that was added, changed or
    removed, the start of the entity's last stored window, and `as_of`. If it is `first_at`, the whole series
    is computed."""
    as_of: datetime
    """End of the series: windows reach up to this instant."""
    first_at: datetime
    """When the entity's first mention was published."""
    policy: Policy
    num_entities: int
    """Number of the monitor's entities, which share its budget of false alarms."""

    @property
    def begin(self) -> datetime:
        """Start of the earliest window that is computed."""
        return begin_of(self.policy, max(self.since, self.first_at))


def compute_series(
    entity_id: str, read: Read, update: SeriesUpdate, *, stored: StoredSums | None = None
) -> EntitySeries:
    """Return the series of one entity from the windows that contain `update.since` on.

    `read` must reach back at least `past_needed(policy)` before `since`; earlier mentions make no difference.
    `stored` holds all windows stored from `windows_needed` to `begin_of` of `since`; other windows in it make
    no difference. If it is None, these windows are counted from mentions.
    """
    policy, begin, replaced_from = update.policy, update.begin, begin_of(update.policy, update.since)
    counted_from = windows_needed(policy, begin) if stored is None else begin
    readings = Readings(read, min_relevance=policy.min_relevance)
    columns = readings.since(counted_from)
    counter = WindowCounter(
        columns=columns,
        zone=ZoneInfo(policy.time_zone),
        until=update.as_of,
        first_at=update.first_at,
        counted_from=counted_from,
        stored={
            size: [each for each in sums if each.starts_at < replaced_from]
            for size, sums in (stored or {}).items()
        },
    )
    windows: list[EntityWindow] = []
    raised: list[Alert] = []
    if begin < update.as_of:
        raised = detect_alerts(
            entity_id,
            readings,
            counter.count(policy.alert_window, first_window(policy, begin)),
            since=begin,
            as_of=update.as_of,
            policy=policy,
            num_entities=update.num_entities,
        )
        named = {alert.starts_at for alert in raised}
        for size in policy.windows:
            compared = counter.count(size, _compared_from(size, policy, begin))
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
