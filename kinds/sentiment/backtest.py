"""Replays a file of dated documents as if they arrived live.

The documents are analysed once, and alerts are raised day by day.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Engine

from jobs.errors import InputError
from jobs.intake.files import open_file, read_physical_lines
from jobs.intake.formats import Format
from jobs.intake.values import JsonRefusedError, parse
from jobs.shown import plural
from jobs.validation import describe_first
from kinds.sentiment.documents.watchlist import EntityNotWatchedError, Watchlist
from kinds.sentiment.monitor import Monitor
from kinds.sentiment.series.detection import observed_alerts
from kinds.sentiment.series.mention import Mention
from kinds.sentiment.series.policy import AlertRule, Policy
from kinds.sentiment.series.replay import Event, ReplayedAlert, Score, replay, score_alerts, watched_weeks
from kinds.sentiment.series.time_windows import WindowSize, shifted, window_of
from kinds.sentiment.store.history import DatabaseHistory

BEGINNING = datetime.fromisoformat("1990-01-01T00:00:00+00:00")
"""Earliest publication time of a document; older documents are refused."""

END = datetime.fromisoformat("2200-01-01T00:00:00+00:00")

MONITOR_PREFIX = "backtest-"
"""Prefix of the names of monitors that hold replayed files; 16 hexadecimal digits of a digest follow."""

_MONITOR = re.compile(rf"{MONITOR_PREFIX}[0-9a-f]{{16}}")
_EVENT = TypeAdapter(Event)


def is_of_backtest(monitor: Monitor) -> bool:
    """Return whether the monitor was created by `pressroom monitor backtest`."""
    return _MONITOR.fullmatch(monitor.name) is not None and not monitor.sources


class EventsInvalidError(InputError):
    """The file of events cannot be read."""

    code = "events_invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """The result of a replay."""

    num_mentions: int
    first_at: datetime | None
    last_at: datetime | None
    alerts: tuple[ReplayedAlert, ...]
    score: Score | None
    """Score of the alerts; None if there are no events to score them against."""
    num_events_outside: int
    """Events wholly before the first document or after the last, which no alert could catch."""

    def as_json(self) -> dict[str, object]:
        """Return the result as JSON with stable names; times are UTC."""
        return {
            "num_mentions": self.num_mentions,
            "first_at": None if self.first_at is None else self.first_at.isoformat(),
            "last_at": None if self.last_at is None else self.last_at.isoformat(),
            "alerts": [_alert(entry) for entry in self.alerts],
            "score": None if self.score is None else _score(self.score),
            "num_events_outside": self.num_events_outside,
        }


def read_events(
    path: Path, watchlist: Watchlist, rules: Collection[AlertRule] = tuple(AlertRule)
) -> tuple[Event, ...]:
    """Read events from a JSONL file with the fields entity_id, kind, starts_at and ends_at.

    Raises EventsInvalidError, also for an event that no alert could catch because its entity is not watched
    or its rule is not applied.
    """
    events = []
    with open_file(path) as file:
        if file.format in (Format.PARQUET, Format.XML):
            raise EventsInvalidError(
                f"{path} is {file.format}, but events must be JSONL with one object per line"
            )
        for line in read_physical_lines(file):
            if line.is_too_large:
                raise EventsInvalidError(
                    f"{path}:{line.number}: the line is too long: write one event per line"
                )
            if line.text.strip():
                events.append(_event(f"{path}:{line.number}", line.text, watchlist, rules))
    return tuple(events)


def _event(place: str, line: str, watchlist: Watchlist, rules: Collection[AlertRule]) -> Event:
    try:
        event = _EVENT.validate_python(parse(line))
        _check_event(event, watchlist, rules)
    except JsonRefusedError as error:
        raise EventsInvalidError(f"{place}: {error.reason}: {error.advice}") from error
    except (EntityNotWatchedError, EventsInvalidError) as error:
        raise EventsInvalidError(f"{place}: {error}") from error
    except ValidationError as error:
        raise EventsInvalidError(
            f"{place}: {describe_first(error)} (the fields are entity_id, kind, starts_at and ends_at)"
        ) from error
    return event


def _check_event(event: Event, watchlist: Watchlist, rules: Collection[AlertRule]) -> None:
    watchlist.require(event.entity_id)
    if event.kind is not None and event.kind not in rules:
        raise EventsInvalidError(
            f"kind: the rule {event.kind.value} is not among the applied rules ({', '.join(rules)}): remove "
            "the event, or add its rule with --rule"
        )
    if event.ends_at < event.starts_at:
        raise EventsInvalidError("ends_at is before starts_at: swap them")


def backtest(database: Engine, monitor: Monitor, events: Sequence[Event] | None) -> Backtest:
    """Replay all mentions of a monitor's documents and score the alerts against the events."""
    mentions = _mentions(database, monitor)
    times = [mention.published_at for each in mentions.values() for mention in each]
    # `last` covers all documents, because documents about other entities can continue while an entity is
    # silent.
    first, last = min(times, default=None), DatabaseHistory(database).last_published_at(monitor.id)
    policy = monitor.policy
    until = None if last is None else _end_of_day(last, policy)
    replayed = tuple(
        entry
        for entry in replay(mentions, policy=policy, num_entities=monitor.num_entities, until=until)
        if last is not None and observed_alerts([entry.alert], last, policy)  # the last day may be incomplete
    )
    weeks = 0.0 if first is None or last is None else watched_weeks(first, last)
    return Backtest(
        num_mentions=len(times),
        first_at=first,
        last_at=last,
        alerts=replayed,
        score=None if events is None else score_alerts(replayed, events, num_weeks=weeks),
        num_events_outside=sum(event.is_outside(first, last) for event in events or ()),
    )


def _mentions(database: Engine, monitor: Monitor) -> Mapping[str, list[Mention]]:
    history = DatabaseHistory(database)
    ids = history.mentioned(monitor.id)
    return history.mentions(monitor.id, dict.fromkeys(ids, BEGINNING), until=END)


def _end_of_day(instant: datetime, policy: Policy) -> datetime:
    zone = ZoneInfo(policy.time_zone)
    return shifted(WindowSize.DAY, zone, window_of(WindowSize.DAY, zone, instant), 1)


def _alert(entry: ReplayedAlert) -> dict[str, object]:
    return {
        "key": entry.alert.key,
        **asdict(entry.alert),
        "starts_at": entry.alert.starts_at.isoformat(),
        "raised_at": entry.raised_at.isoformat(),
        "withdrawn_at": None if entry.withdrawn_at is None else entry.withdrawn_at.isoformat(),
    }


def _score(score: Score) -> dict[str, object]:
    plain = asdict(score)
    plain["by_rule"] = {rule.value: asdict(each) for rule, each in score.by_rule.items()}
    plain["outcomes"] = [
        {
            **outcome.event.model_dump(mode="json"),
            "alert_key": outcome.alert_key,
            "delay_days": outcome.delay_days,
            "noticed": outcome.noticed,
        }
        for outcome in score.outcomes
    ]
    return plain


def lines_of(result: Backtest) -> Iterator[str]:
    """Yield the result as lines for people: one line per alert, then the figures."""
    for entry in result.alerts:
        alert = entry.alert
        gone = "" if entry.withdrawn_at is None else f"  withdrawn {entry.withdrawn_at:%Y-%m-%d}"
        yield (
            f"{entry.raised_at:%Y-%m-%d}  {alert.rule.value:<8}  {alert.entity_id:<24}  "
            f"{alert.observed:.2f} against {alert.expected:.2f}, p {alert.p_value:.1e}{gone}"
        )
    span = "" if result.first_at is None else f" from {result.first_at:%Y-%m-%d} to {result.last_at:%Y-%m-%d}"
    mentions = plural(result.num_mentions, "mention", "mentions")
    yield f"{plural(len(result.alerts), 'alert', 'alerts')} over {mentions}{span}"
    if result.score is not None:
        yield from _score_lines(result.score, result.num_events_outside)


def _score_lines(score: Score, num_events_outside: int) -> Iterator[str]:
    delay, rate = score.median_delay_days, score.false_alarms_per_week
    yield (
        f"caught {score.num_caught} of {score.num_events} events"
        + ("" if delay is None else f", median delay {delay:.1f} days")
        + f"; {score.num_false} of {score.num_alerts} alerts false"
        + ("" if rate is None else f" ({rate:.2f} per week)")
    )
    if num_events_outside:
        yield (
            f"  events entirely outside the period of the documents, counted as missed: {num_events_outside}"
        )
    for rule, each in score.by_rule.items():
        yield (
            f"  {rule.value:<8}  {each.num_caught} of {each.num_events} caught, "
            f"{each.num_false} of {each.num_alerts} alerts false"
        )
