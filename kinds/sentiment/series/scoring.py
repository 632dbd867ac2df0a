"""Scores the alerts of a backtest against events that are known to have happened.

An alert belongs to an event of its entity if it was raised after the event began and no later than GRACE
after it ended. It is false if it belongs to no event. It catches those of its events whose kind is its rule,
or that have no kind.
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
"""Time after an event in which its alerts may still be raised: a window is judged when it has ended, and its
tests look back."""


class Event(BaseModel):
    """Something that happened to an entity."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    entity_id: str
    kind: AlertRule | None = None
    """Rule whose alerts catch the event; with None, alerts of any rule do."""
    starts_at: AwareDatetime
    ends_at: AwareDatetime

    def is_outside(self, first: datetime | None, last: datetime | None) -> bool:
        """Return whether the event lies wholly before the first document or after the last; True if none."""
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
    """Which alerts an event led to."""

    event: Event
    alert_key: str | None
    """Key of the first alert that caught the event."""
    delay_days: float | None
    """Days from the event's start to the time when that alert was raised."""
    noticed: bool
    """Whether any alert covers the event, whatever its rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleScore:
    """One rule's alerts and the events of its kind."""

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


def score(replayed: Sequence[ReplayedAlert], events: Sequence[Event], *, num_weeks: float) -> Score:
    """Score the replayed alerts; withdrawn ones count as raised.

    `num_weeks` is how long the monitor watched, see `watched_weeks`.
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
