"""The facts of a report: one entity in one window against its own past, and the documents behind it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from jobs.guards import INJECTION_SUSPECTED, is_injection_suspected
from kinds.sentiment.documents.watchlist import Entity
from kinds.sentiment.series.mention import CountedDocument, Mention, Novelty
from kinds.sentiment.series.policy import Alert, AlertRule
from kinds.sentiment.series.time_windows import EntityWindow, WindowSize, shifted

MAX_DRIVERS = 6
"""Maximum number of quoted documents, which a person reads in a minute; documents.jsonl contains all."""

MAX_NEIGHBOURS = 12
"""Maximum rows in the table of other entities."""

CHART_WINDOWS: Mapping[WindowSize, int] = {WindowSize.HOUR: 168, WindowSize.DAY: 90, WindowSize.WEEK: 52}
"""Number of windows of history in a report: a week of hours, a quarter of days, a year of weeks."""

_BAD_NEWS = frozenset({AlertRule.SURGE, AlertRule.SLIDE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """A first report that influenced the window's figures, with the number of its follow-ups."""

    document_id: str
    sentence: str
    title: str
    source: str
    published_at: datetime
    relevance: int
    p_negative: float
    p_neutral: float
    p_positive: float
    num_followups: int
    flags: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        """Score in [-1, 1]: P(positive) - P(negative)."""
        return self.p_positive - self.p_negative


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """Another entity of the monitor in the same window."""

    name: str
    window: EntityWindow
    num_alerts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFacts:
    """Everything that a report may state. Times are UTC; readers see them in `time_zone`."""

    entity: Entity
    window: EntityWindow
    ends_at: datetime
    time_zone: str
    history: tuple[EntityWindow, ...]
    """Windows of the same size, oldest first, ending with the window itself."""
    alerts: tuple[Alert, ...]
    """Alerts of the window."""
    earlier_alerts: tuple[Alert, ...]
    """Alerts of the history before the window."""
    drivers: tuple[Driver, ...]
    neighbours: tuple[Neighbour, ...] = field(default=())
    counted: tuple[CountedDocument, ...] = field(default=())
    """Documents from which the window's counts are computed."""
    known_until: datetime | None = None
    """Instant up to which the series is known; None if the window is over."""

    @property
    def open_until(self) -> datetime | None:
        """Instant up to which an unfinished window is known; None if the window is over."""
        is_open = self.known_until is not None and self.known_until < self.ends_at
        return self.known_until if is_open else None

    @property
    def expected_documents(self) -> float | None:
        """Documents per window in the entity's past; None without a past, and for an unfinished window, whose
        number of documents cannot be compared yet."""
        return self.window.baseline_volume if self.open_until is None else None

    @property
    def past_negative_share(self) -> float | None:
        """Share of negatives among all documents of the history before the window; None without documents."""
        past = self.history[:-1]
        num_documents = sum(window.num_documents for window in past)
        return sum(window.num_negative for window in past) / num_documents if num_documents else None

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSeries:
    """The stored part of an entity's series around a window."""

    windows: Sequence[EntityWindow] = ()
    alerts: Sequence[Alert] = ()
    mentions: Sequence[Mention] = ()
    """Mentions of the entity: at least those of the window and those that its alerts cite."""
    novelties: Mapping[str, Novelty] = field(default_factory=dict)
    """Novelty of mentions by document id; a mention without an entry is a first report."""
    counted: Sequence[CountedDocument] = ()
    """Documents that the window counts."""


def make_facts(
    entity: Entity,
    window: EntityWindow,
    stored: StoredSeries,
    *,
    time_zone: str,
    min_relevance: int = 0,
    neighbours: Iterable[Neighbour] = (),
    known_until: datetime | None = None,
) -> ReportFacts:
    """Select what belongs in the report of a window; everything later than the window is left out."""
    ends_at = shifted(window.size, ZoneInfo(time_zone), window.starts_at, 1)
    by_start = {each.starts_at: each for each in stored.windows if each.size is window.size}
    past = sorted((w for at, w in by_start.items() if at < window.starts_at), key=lambda w: w.starts_at)
    shown = (*past[-(CHART_WINDOWS[window.size] - 1) :], window)
    own = [alert for alert in stored.alerts if shown[0].starts_at <= alert.starts_at < ends_at]
    own.sort(key=lambda alert: (alert.starts_at, alert.rule))
    current = tuple(alert for alert in own if alert.starts_at >= window.starts_at)
    relevant = [m for m in stored.mentions if m.published_at < ends_at and m.relevance >= min_relevance]
    return ReportFacts(
        entity=entity,
        window=window,
        ends_at=ends_at,
        time_zone=time_zone,
        history=shown,
        alerts=current,
        earlier_alerts=tuple(alert for alert in own if alert.starts_at < window.starts_at),
        drivers=_drivers(window, current, relevant, stored.novelties),
        neighbours=_neighbours(neighbours),
        counted=tuple(stored.counted),
        known_until=known_until,
    )


def _drivers(
    window: EntityWindow,
    alerts: Sequence[Alert],
    mentions: Sequence[Mention],
    novelties: Mapping[str, Novelty],
) -> tuple[Driver, ...]:
    """Return the first mentions of at most MAX_DRIVERS chains.

    Chains that alerts cite come first, then those with the most influence on the score.
    """
    cited = list(dict.fromkeys(document_id for alert in alerts for document_id in alert.document_ids))
    relevant = [m for m in mentions if m.published_at >= window.starts_at or m.document_id in cited]
    chains: dict[str, list[Mention]] = {}
    for mention in sorted(relevant, key=lambda m: (m.published_at, m.document_id)):
        chains.setdefault(_first_id(mention, novelties), []).append(mention)
    place = {document_id: place for place, document_id in enumerate(cited)}
    side = _side(window, alerts)

    def rank(chain: Sequence[Mention]) -> tuple[float, float]:
        push = max((side * m.score if side else abs(m.score)) * m.relevance for m in chain)
        return min(place.get(m.document_id, math.inf) for m in chain), -push

    ranked = sorted(chains.values(), key=rank)
    return tuple(_driver(chain[0], len(chain) - 1) for chain in ranked[:MAX_DRIVERS])


def _first_id(mention: Mention, novelties: Mapping[str, Novelty]) -> str:
    novelty = novelties.get(mention.document_id)
    return mention.document_id if novelty is None else novelty.first_id


def _side(window: EntityWindow, alerts: Sequence[Alert]) -> int:
    """Return -1 if bad news dominates the window, 1 if good news does, and 0 if neither does."""
    if any(alert.rule in _BAD_NEWS for alert in alerts):
        return -1
    change = next((a.observed - a.expected for a in alerts if a.rule is AlertRule.REVERSAL), window.change)
    change = window.mean_score if change is None else change
    return 0 if not change else (1 if change > 0 else -1)


def _driver(mention: Mention, num_followups: int) -> Driver:
    text = f"{mention.title}\n{mention.sentence}"
    return Driver(
        document_id=mention.document_id,
        sentence=mention.sentence,
        title=mention.title,
        source=mention.source,
        published_at=mention.published_at,
        relevance=mention.relevance,
        p_negative=mention.p_negative,
        p_neutral=mention.p_neutral,
        p_positive=mention.p_positive,
        num_followups=num_followups,
        flags=(INJECTION_SUSPECTED,) if is_injection_suspected(text) else (),
    )


def _neighbours(neighbours: Iterable[Neighbour]) -> tuple[Neighbour, ...]:
    """Return at most MAX_NEIGHBOURS entities, sorted by number of alerts, then by size of the change."""

    def rank(neighbour: Neighbour) -> tuple[int, float, str]:
        return -neighbour.num_alerts, -abs(neighbour.window.change or 0.0), neighbour.name

    return tuple(sorted(neighbours, key=rank)[:MAX_NEIGHBOURS])
