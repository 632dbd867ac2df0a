"""Alerts of a backtest against what is known to have happened.

An alert belongs to an event of its entity if it was raised after the event began and no later than GRACE
after it ended. It is false if it belongs to none; it catches those events whose kind is its rule, or
that state none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from pydantic import AwareDatetime, BaseModel, ConfigDict

from kinds.sentiment.series.backtest import ReplayedAlert
from kinds.sentiment.series.window import AlertRule

GRACE = timedelta(days=7)
"""A window is judged when it has ended, and its tests look back: what ends today is still found next week."""


class Event(BaseModel):
    """Something that happened to an entity."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    entity_id: str
    kind: AlertRule | None = None
    """None: any alert is one about it."""
    starts_at: AwareDatetime
    ends_at: AwareDatetime

    def is_outside(self, first: datetime | None, last: datetime | None) -> bool:
        """Whether it lies wholly before the first document or after the last; None: there is none."""
        return first is None or last is None or self.ends_at < first or self.starts_at > last

    def covers(self, entry: ReplayedAlert) -> bool:
        """Whether the alert was raised in the time of this event of its entity."""
        here = self.entity_id == entry.alert.entity_id
        return here and self.starts_at < entry.raised_at <= self.ends_at + GRACE

    def caught_by(self, entry: ReplayedAlert) -> bool:
        """Whether it is also of the event's kind."""
        return self.covers(entry) and self.kind in (None, entry.alert.rule)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventOutcome:
    """What became of one event."""

    event: Event
    alert_key: str | None
    """The first alert that caught it."""
    delay_days: float | None
    """From the event's begin to when that alert was raised."""
    noticed: bool
    """Some alert was raised in its time, of whatever rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleScore:
    """One rule's alerts and the events of its kind."""

    num_alerts: int
    num_false: int
    num_events: int
    num_caught: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The figures of a backtest; a share of nothing is None."""

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


def score(replayed: Sequence[ReplayedAlert], events: Sequence[Event], *, num_weeks: float) -> Score:
    """`num_weeks` is for how long the monitor watched, see `watched_weeks`; withdrawn alerts count as
    raised."""
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
    """Return the weeks that rules can judge: all but the first four after the first document."""
    return max((until - first - timedelta(weeks=4)) / timedelta(weeks=1), 0.0)


def _outcome(event: Event, replayed: Sequence[ReplayedAlert]) -> EventOutcome:
    catching = min((e for e in replayed if event.caught_by(e)), key=lambda e: e.raised_at, default=None)
    return EventOutcome(
        event=event,
        alert_key=catching.alert.key if catching else None,
        delay_days=(catching.raised_at - event.starts_at) / timedelta(days=1) if catching else None,
        noticed=any(event.covers(entry) for entry in replayed),
    )
