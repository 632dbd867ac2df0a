"""Invented facts for the tests of reports."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kinds.sentiment.documents.watchlist import Entity, EntityKind
from kinds.sentiment.report.facts import Neighbour, ReportFacts, StoredSeries, make_facts
from kinds.sentiment.series.mention import CountedDocument, Mention, Novelty
from kinds.sentiment.series.policy import Alert, AlertRule
from kinds.sentiment.series.time_windows import EntityWindow, WindowSize

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
NUM_WINDOWS = 60
LAST = FIRST + timedelta(days=NUM_WINDOWS - 1)
NAME = "Northvale Steel"


def window(
    starts_at: datetime,
    *,
    negative: int = 1,
    neutral: int = 2,
    positive: int = 1,
    size: WindowSize = WindowSize.DAY,
) -> EntityWindow:
    """Return a window with these documents, after a past of 4 a day at a score of 0.05."""
    number = negative + neutral + positive
    mean = (positive - negative) / number if number else None
    share = negative / number if number else None
    return EntityWindow(
        entity_id="northvale-steel",
        size=size,
        starts_at=starts_at,
        num_documents=number,
        num_followups=2,
        num_positive=positive,
        num_neutral=neutral,
        num_negative=negative,
        weight=80,
        weight_squared=6400,
        weighted_score=0,
        mean_score=mean,
        negative_share=share,
        negative_low=None if share is None else max(0.0, share - 0.2),
        negative_high=None if share is None else min(1.0, share + 0.2),
        trend=None,
        baseline_score=0.05,
        baseline_volume=4.0,
        change=None if mean is None else mean - 0.05,
    )


def mention(
    number: int, text: str, *, at: datetime = LAST, source: str = "Calder Wire", score: float = -0.7
) -> Mention:
    """Return a mention with this text, `number` hours into the last day."""
    negative, positive = (0.8, 0.8 + score) if score < 0 else (0.8 - score, 0.8)
    return Mention(
        document_id=f"d{number}",
        entity_id="northvale-steel",
        published_at=at + timedelta(hours=number),
        relevance=90,
        topic=None,
        p_negative=negative,
        p_neutral=1 - negative - positive,
        p_positive=positive,
        sentence=text,
        title=text,
        source=source,
        signature=b"",
    )


def counted(
    document_id: str,
    *,
    sha256: str = "1" * 64,
    novelty: int = 1,
    p_negative: float = 0.8,
    p_positive: float = 0.1,
) -> CountedDocument:
    """Return a counted document of the last day."""
    return CountedDocument(
        document_id=document_id,
        sha256=sha256,
        published_at=LAST,
        relevance=90,
        p_negative=p_negative,
        p_neutral=0.1,
        p_positive=p_positive,
        novelty=novelty,
        first_id="d0",
    )


def surge(*document_ids: str) -> Alert:
    """Return a surge alert of the last day."""
    return Alert(
        entity_id="northvale-steel",
        rule=AlertRule.SURGE,
        size=WindowSize.DAY,
        starts_at=LAST,
        statistic=9.0,
        p_value=1.2e-5,
        threshold=4e-4,
        observed=9.0,
        expected=1.1,
        document_ids=document_ids,
    )


def facts(
    *,
    name: str = NAME,
    texts: tuple[str, ...] = ("Northvale Steel cuts its forecast by 12%", "Northvale Steel loses an order"),
    novelties: dict[str, Novelty] | None = None,
    alerts: tuple[Alert, ...] = (),
    last: EntityWindow | None = None,
    time_zone: str = "UTC",
    source: str = "Calder Wire",
    num_counted: int = 2,
    known_until: datetime | None = None,
) -> ReportFacts:
    """Return the facts of a bad last day after an ordinary past."""
    history = [window(FIRST + timedelta(days=day)) for day in range(NUM_WINDOWS - 1)]
    last = last or window(LAST, negative=9, neutral=2, positive=1)
    return make_facts(
        Entity(id="northvale-steel", kind=EntityKind.COMPANY, name=name),
        last,
        StoredSeries(
            windows=[*history, last],
            alerts=alerts or (surge("d0"),),
            mentions=[mention(number, text, source=source) for number, text in enumerate(texts)],
            novelties=novelties or {},
            counted=[counted(f"d{number}", novelty=number + 1) for number in range(num_counted)],
        ),
        time_zone=time_zone,
        neighbours=[Neighbour(name="Halden <b>Foods</b>", window=history[-1], num_alerts=1)],
        known_until=known_until,
    )
