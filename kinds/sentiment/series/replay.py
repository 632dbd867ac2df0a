"""Replays dated documents day by day, as if they arrived live, and scores the alerts against known events.

At the end of each day in the policy's time zone, the series covers the documents received by then. Because a
series is causal (entity_series.py), it need not be computed every day: only documents that arrive after their
own day change earlier results, so one computation is enough for all days between two days with late
documents.

An alert belongs to an event of its entity if it was raised after the event began and no later than GRACE
after it ended. An alert that belongs to no event is false. An alert catches an event that it belongs to if
the event's kind is the alert's rule, or if the event has no kind.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime, BaseModel, ConfigDict

from kinds.sentiment.series.counts import memory_reader
from kinds.sentiment.series.entity_series import SeriesUpdate, compute_series
from kinds.sentiment.series.mention import Mention
from kinds.sentiment.series.policy import Alert, AlertRule, Policy
from kinds.sentiment.series.time_windows import WindowSize, shifted, window_starts


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedAlert:
    """An alert, with the times at which its reader would have seen it raised and withdrawn."""

    alert: Alert
    raised_at: datetime
    """End of the day on which the alert was first found."""
    withdrawn_at: datetime | None = None
    """End of the day on which late documents caused the alert to be withdrawn."""


def replay(
    mentions: Mapping[str, Sequence[Mention]],
    *,
    policy: Policy,
    num_entities: int,
    until: datetime | None = None,
    received_at: Mapping[str, datetime] | None = None,
) -> list[ReplayedAlert]:
    """Return alerts in the order in which they would have been raised, then by entity and rule.

    `mentions` holds each entity's mentions, in any order. The replay ends with the last day that has ended by
    `until` or, without it, with the day of the last document. `received_at` holds, by document id, the time
    of arrival of documents that arrived after their publication.
    """
    published = [mention.published_at for each in mentions.values() for mention in each]
    if not published:
        return []
    received_at = received_at or {}
    last = max([*published, *received_at.values()])
    steps = _ends_of_days(policy, min(published), until, last)
    replayed = []
    for entity_id, each in mentions.items():
        arrivals = [_Arrival.of(mention, received_at.get(mention.document_id), steps) for mention in each]
        replayed += _replay_entity(entity_id, arrivals, policy, num_entities, steps)
    return sorted(replayed, key=lambda entry: (entry.raised_at, entry.alert.key))


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A mention, and the index of the first step (end of a day) at which the series covers it.

    It is late if this step is not the end of the day on which it was published.
    """

    mention: Mention
    step: int
    late: bool

    @classmethod
    def of(cls, mention: Mention, received_at: datetime | None, steps: Sequence[datetime]) -> _Arrival:
        own = bisect_right(steps, mention.published_at)
        step = own if received_at is None else max(own, bisect_right(steps, received_at))
        return cls(mention, step, step > own)


def _ends_of_days(policy: Policy, first: datetime, until: datetime | None, last: datetime) -> list[datetime]:
    zone = ZoneInfo(policy.time_zone)
    days = window_starts(WindowSize.DAY, zone, first, until or last + timedelta(microseconds=1))
    ends = [shifted(WindowSize.DAY, zone, day, 1) for day in days]
    return [end for end in ends if until is None or end <= until]


def _replay_entity(
    entity_id: str, arrivals: Sequence[_Arrival], policy: Policy, num_entities: int, steps: Sequence[datetime]
) -> list[ReplayedAlert]:
    zone = ZoneInfo(policy.time_zone)
    current: dict[str, ReplayedAlert] = {}
    withdrawn: list[ReplayedAlert] = []
    turns = sorted({each.step for each in arrivals if each.late and each.step < len(steps)} | {0})
    for begin, end in zip(turns, [*turns[1:], len(steps)], strict=True):
        visible = [each.mention for each in arrivals if each.step < end]
        if not visible or begin == end:
            continue
        new = [each.mention.published_at for each in arrivals if begin <= each.step < end]
        since = min([*new, *steps[max(begin - 1, 0) : begin]])
        series = compute_series(
            entity_id,
            memory_reader(visible),
            SeriesUpdate(
                since=since,
                as_of=steps[end - 1],
                first_at=min(mention.published_at for mention in visible),
                policy=policy,
                num_entities=num_entities,
            ),
        )
        valid = {key: each for key, each in current.items() if each.alert.starts_at < series.since}
        for alert in series.alerts:
            ended = bisect_left(steps, shifted(alert.size, zone, alert.starts_at, 1))
            before = current.get(alert.key)
            raised_at = before.raised_at if before else steps[max(begin, ended)]
            valid[alert.key] = ReplayedAlert(alert=alert, raised_at=raised_at)
        withdrawn += [
            replace(each, withdrawn_at=steps[begin]) for key, each in current.items() if key not in valid
        ]
        current = valid
    return withdrawn + list(current.values())


GRACE = timedelta(days=7)
"""Time after an event during which its alerts may still be raised, because a window is judged only when it
has ended, and its tests also cover earlier windows."""


class Event(BaseModel):
    """Something that happened to an entity."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    entity_id: str
    kind: AlertRule | None = None
    """Rule whose alerts catch the event; None if the alerts of any rule do."""
    starts_at: AwareDatetime
    ends_at: AwareDatetime

    def is_outside(self, first: datetime | None, last: datetime | None) -> bool:
        """Return whether the event lies wholly before the first document or after the last.

        Returns True if there are no documents.
        """
        return first is None or last is None or self.ends_at < first or self.starts_at > last

    def covers(self, entry: ReplayedAlert) -> bool:
        """Return whether the alert was raised during this event of its entity, or within GRACE after it."""
        here = self.entity_id == entry.alert.entity_id
        return here and self.starts_at < entry.raised_at <= self.ends_at + GRACE

    def caught_by(self, entry: ReplayedAlert) -> bool:
        """Return whether the event covers the alert and the alert is of the event's kind."""
        return self.covers(entry) and self.kind in (None, entry.alert.rule)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventOutcome:
    """Whether and when alerts were raised for an event."""

    event: Event
    alert_key: str | None
    """Key of the first alert that caught the event."""
    delay_days: float | None
    """Days from the event's start to the time when that alert was raised."""
    noticed: bool
    """Whether any alert was raised during the event or within GRACE after it, regardless of its rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleScore:
    """Numbers of one rule's alerts and of the events of its kind."""

    num_alerts: int
    num_false: int
    num_events: int
    num_caught: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Figures of a backtest; a share is None if its denominator is 0."""

    num_alerts: int
    num_false: int
    precision: float | None
    """Share of alerts that belong to an event."""
    num_events: int
    num_caught: int
    recall: float | None
    """Share of events caught by an alert of their kind."""
    recall_any: float | None
    """Share of events noticed by any alert."""
    median_delay_days: float | None
    false_alarms_per_week: float | None
    by_rule: dict[AlertRule, RuleScore]
    outcomes: tuple[EventOutcome, ...]
    false_keys: tuple[str, ...]


def score_alerts(replayed: Sequence[ReplayedAlert], events: Sequence[Event], *, num_weeks: float) -> Score:
    """Score the replayed alerts; withdrawn ones count as raised.

    `num_weeks` is the number of weeks that the monitor watched, see `watched_weeks`.
    """
    outcomes = tuple(_outcome(event, replayed) for event in events)
    caught = [outcome for outcome in outcomes if outcome.alert_key is not None]
    false = [entry for entry in replayed if not any(event.covers(entry) for event in events)]
    delays = [outcome.delay_days for outcome in caught if outcome.delay_days is not None]
    return Score(
        num_alerts=len(replayed),
        num_false=len(false),
        precision=1 - len(false) / len(replayed) if replayed else None,
        num_events=len(events),
        num_caught=len(caught),
        recall=len(caught) / len(events) if events else None,
        recall_any=sum(outcome.noticed for outcome in outcomes) / len(events) if events else None,
        median_delay_days=median(delays) if delays else None,
        false_alarms_per_week=len(false) / num_weeks if num_weeks > 0 else None,
        by_rule={
            rule: RuleScore(
                num_alerts=sum(entry.alert.rule is rule for entry in replayed),
                num_false=sum(entry.alert.rule is rule for entry in false),
                num_events=sum(event.kind is rule for event in events),
                num_caught=sum(outcome.event.kind is rule for outcome in caught),
            )
            for rule in AlertRule
        },
        outcomes=outcomes,
        false_keys=tuple(entry.alert.key for entry in false),
    )


def watched_weeks(first: datetime, until: datetime) -> float:
    """Return the number of weeks that rules can judge: all but the first four after the first document."""
    return max((until - first - timedelta(weeks=4)) / timedelta(weeks=1), 0.0)


def _outcome(event: Event, replayed: Sequence[ReplayedAlert]) -> EventOutcome:
    catching = min((e for e in replayed if event.caught_by(e)), key=lambda e: e.raised_at, default=None)
    return EventOutcome(
        event=event,
        alert_key=catching.alert.key if catching else None,
        delay_days=(catching.raised_at - event.starts_at) / timedelta(days=1) if catching else None,
        noticed=any(event.covers(entry) for entry in replayed),
    )
