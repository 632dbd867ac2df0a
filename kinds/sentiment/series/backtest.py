"""Replays a dated set of documents day by day, as if live: which alerts would have been raised, and when.

At the end of each day in the policy's time zone, the series is the one that the documents received by then
give. Since a series is causal (analysis.py), it need not be computed every day: only documents that arrive
after their own day change earlier results, so one analysis serves all days between two days with late
documents.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from kinds.sentiment.series.analysis import analyse
from kinds.sentiment.series.calendar import shifted, window_starts
from kinds.sentiment.series.mention import Mention
from kinds.sentiment.series.policy import Policy
from kinds.sentiment.series.readings import among
from kinds.sentiment.series.window import Alert, WindowSize


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedAlert:
    """An alert as its reader would have received it."""

    alert: Alert
    raised_at: datetime
    """End of the day on which the alert was first found."""
    withdrawn_at: datetime | None = None
    """End of the day on which late documents no longer supported the alert."""


def replay(
    mentions: Mapping[str, Sequence[Mention]],
    *,
    policy: Policy,
    num_entities: int,
    until: datetime | None = None,
    received_at: Mapping[str, datetime] | None = None,
) -> list[ReplayedAlert]:
    """Return alerts in the order in which they would have been raised, then by entity and rule.

    `mentions` holds those of each entity, in any order. The replay ends with the last day that has ended by
    `until` or, without it, with the day of the last document. `received_at` holds, by document id, when
    documents arrived that came later than their publication.
    """
    published = [mention.published_at for each in mentions.values() for mention in each]
    if not published:
        return []
    received_at = received_at or {}
    last = max([*published, *received_at.values()])
    steps = _ends_of_days(policy, min(published), until, last)
    replayed = []
    for entity_id, each in mentions.items():
        dated = [_Dated.of(mention, received_at.get(mention.document_id), steps) for mention in each]
        replayed += _replay_entity(entity_id, dated, policy, num_entities, steps)
    return sorted(replayed, key=lambda entry: (entry.raised_at, entry.alert.key))


@dataclass(frozen=True, slots=True)
class _Dated:
    """A mention and the first step at which it is visible; late if that is not the end of its own day."""

    mention: Mention
    step: int
    late: bool

    @classmethod
    def of(cls, mention: Mention, received_at: datetime | None, steps: Sequence[datetime]) -> _Dated:
        own = bisect_right(steps, mention.published_at)
        step = own if received_at is None else max(own, bisect_right(steps, received_at))
        return cls(mention, step, step > own)


def _ends_of_days(policy: Policy, first: datetime, until: datetime | None, last: datetime) -> list[datetime]:
    zone = ZoneInfo(policy.time_zone)
    days = window_starts(WindowSize.DAY, zone, first, until or last + timedelta(microseconds=1))
    ends = [shifted(WindowSize.DAY, zone, day, 1) for day in days]
    return [end for end in ends if until is None or end <= until]


def _replay_entity(
    entity_id: str, dated: Sequence[_Dated], policy: Policy, num_entities: int, steps: Sequence[datetime]
) -> list[ReplayedAlert]:
    zone = ZoneInfo(policy.time_zone)
    standing: dict[str, ReplayedAlert] = {}
    withdrawn: list[ReplayedAlert] = []
    turns = sorted({each.step for each in dated if each.late and each.step < len(steps)} | {0})
    for begin, end in zip(turns, [*turns[1:], len(steps)], strict=True):
        visible = [each.mention for each in dated if each.step < end]
        if not visible or begin == end:
            continue
        new = [each.mention.published_at for each in dated if begin <= each.step < end]
        since = min([*new, *steps[max(begin - 1, 0) : begin]])
        analysis = analyse(
            entity_id,
            among(visible),
            since=since,
            as_of=steps[end - 1],
            first_at=min(mention.published_at for mention in visible),
            policy=policy,
            num_entities=num_entities,
        )
        kept = {key: each for key, each in standing.items() if each.alert.starts_at < analysis.since}
        for alert in analysis.alerts:
            ended = bisect_left(steps, shifted(alert.size, zone, alert.starts_at, 1))
            before = standing.get(alert.key)
            raised_at = before.raised_at if before else steps[max(begin, ended)]
            kept[alert.key] = ReplayedAlert(alert=alert, raised_at=raised_at)
        withdrawn += [
            replace(each, withdrawn_at=steps[begin]) for key, each in standing.items() if key not in kept
        ]
        standing = kept
    return withdrawn + list(standing.values())
