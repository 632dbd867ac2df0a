"""The points of a summary: the facts that each of its sentences may state."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from kinds.sentiment.report.claims import Point, Quantity, Unit
from kinds.sentiment.report.facts import ReportFacts
from kinds.sentiment.report.prose import (
    STEADY,
    amount,
    count,
    mood,
    mood_sentence,
    negatives_sentence,
    percent,
    preposition,
    score,
    span,
    volume_sentence,
)

USUAL_BAND = 0.15
"""Share of the usual volume within which a volume is described as about as many."""

MIN_SHARED_DOCUMENTS = 4
"""Minimum documents for a share: with fewer, its interval spans more than half of the scale."""


def make_points(facts: ReportFacts) -> tuple[Point, ...]:
    """Return the points in the order of the summary.

    The volume of an unfinished window is left out, because the opening sentence states it.
    """
    return tuple(_points(facts))


def _points(facts: ReportFacts) -> Iterator[Point]:
    if facts.open_until is None:
        yield _volume(facts)
    if facts.window.mean_score is not None:
        yield _mood(facts)
        if facts.window.num_documents >= MIN_SHARED_DOCUMENTS:
            yield _negatives(facts)


def _volume(facts: ReportFacts) -> Point:
    window, usual = facts.window, facts.expected_documents
    quantities = [Quantity(window.num_documents, Unit.DOCUMENTS)]
    direction = None
    if usual is not None:
        quantities.append(Quantity(usual, Unit.DOCUMENTS, is_past=True))
        direction = _direction(window.num_documents - usual, USUAL_BAND * usual)
    words = {1: "More than usual", 0: "About as many as usual", -1: "Fewer than usual", None: ""}
    variables = {
        "name": facts.entity.name,
        "when": f"{preposition(window.size)} {span(window, facts.ends_at, facts.zone)}",
        "documents": count(window.num_documents, "document"),
        "usual": "" if usual is None else f"{amount(usual)} a {window.size.value}",
        "comparison": words[direction],
    }
    return Point(
        name="volume",
        variables=variables,
        quantities=tuple(quantities),
        direction=direction,
        names=(facts.entity.name, *_dates(facts)),
        plain=volume_sentence(facts),
    )


def _mood(facts: ReportFacts) -> Point:
    window = facts.window
    now = window.mean_score or 0.0
    quantities = [Quantity(now, Unit.SCORE)]
    direction = None
    if window.baseline_score is not None:
        quantities.append(Quantity(window.baseline_score, Unit.SCORE, is_past=True))
        direction = _direction(now - window.baseline_score, STEADY)
    words = {1: "Better than in the past", 0: "Much as in the past", -1: "Worse than in the past", None: ""}
    variables = {
        "name": facts.entity.name,
        "mood": mood(now),
        "score": score(now),
        "past_score": "" if window.baseline_score is None else score(window.baseline_score),
        "comparison": words[direction],
    }
    return Point(
        name="mood",
        variables=variables,
        quantities=tuple(quantities),
        direction=direction,
        mood=mood(now),
        names=(facts.entity.name,),
        plain=mood_sentence(facts) or "",
    )


def _negatives(facts: ReportFacts) -> Point:
    window, past = facts.window, facts.past_negative_share
    share = window.num_negative / window.num_documents if window.num_documents else 0.0
    quantities = [
        Quantity(window.num_documents, Unit.DOCUMENTS),
        Quantity(window.num_negative, Unit.DOCUMENTS, mood="negative"),
        Quantity(share, Unit.SHARE, mood="negative"),
    ]
    if past is not None:
        quantities.append(Quantity(past, Unit.SHARE, is_past=True, mood="negative"))
    variables = {
        "name": facts.entity.name,
        "documents": count(window.num_documents, "document"),
        "negative": amount(window.num_negative) if window.num_negative else "none",
        "share": percent(share),
        "past_share": "" if past is None else percent(past),
    }
    return Point(
        name="negatives",
        variables=variables,
        quantities=tuple(quantities),
        direction=None if past is None else _direction(share - past, 0.0),
        names=(facts.entity.name,),
        plain=negatives_sentence(facts) or "",
    )


def _direction(difference: float, band: float) -> int:
    return 0 if abs(difference) <= band else 1 if difference > 0 else -1


def _dates(facts: ReportFacts) -> tuple[str, ...]:
    """Return the window's dates in the forms in which people write them."""
    zone = facts.zone
    first = facts.window.starts_at.astimezone(zone)
    last = (facts.ends_at - timedelta(seconds=1)).astimezone(zone)
    when = span(facts.window, facts.ends_at, zone)
    return (when, when.removeprefix("the week of "), *_forms(first), *_forms(last))


def _forms(at: datetime) -> tuple[str, ...]:
    month, year = f"{at:%B}", at.year
    return (
        f"{at.day} {month} {year}",
        f"{month} {at.day}, {year}",
        f"{month} {at.day}",
        f"{at.day} {month}",
        f"{month} {year}",
        f"{at:%Y-%m-%d}",
        f"{at:%A}",
    )
