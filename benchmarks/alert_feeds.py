"""Made feeds of one entity, day by day: quiet ones of several characters, and ones with a planted turn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from jobs.series.counts import Counts
from jobs.series.readings import SCORE_UNIT
from jobs.series.window import AlertRule, WindowSize

MONDAY = datetime(2024, 1, 1, tzinfo=UTC)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Character:
    """How an entity is written about while nothing happens to it."""

    name: str
    dispersion: float = 1.0
    """Variance over mean of a day's documents, from day to day independently (negative binomial)."""
    weekend: float = 1.0
    """Volume of Saturdays and Sundays, relative to working days."""
    bursts: float = 0.0
    """Standard deviation of the logarithm of the volume, which lasts: correlation 0.8 from day to day."""
    moods: float = 0.0
    """Standard deviation of the mood (in logits of a document being negative or positive), which lasts."""
    mood_memory: float = 0.8
    """Its correlation from day to day."""


QUIET = (
    Character(name="poisson"),
    Character(name="overdispersed", dispersion=3.0),
    Character(name="weekdays", weekend=0.15),
    Character(name="bursts", bursts=0.5, weekend=0.4),
    Character(name="moods", moods=0.4),
    Character(name="everything", dispersion=1.5, weekend=0.3, bursts=0.3, moods=0.3),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What happens to an entity from a day on."""

    rule: AlertRule
    name: str
    days: int
    volume: float = 1.0
    """Factor on the day's documents."""
    mood: float = 0.0
    """Logits added; for a slide, reached at its end."""


TURNS = (
    Turn(rule=AlertRule.SURGE, name="surge x2, much worse", days=4, volume=2.0, mood=-1.5),
    Turn(rule=AlertRule.SURGE, name="surge x4, worse", days=4, volume=4.0, mood=-1.0),
    Turn(rule=AlertRule.SURGE, name="surge x4, much worse", days=3, volume=4.0, mood=-2.0),
    Turn(rule=AlertRule.SLIDE, name="slide, mild", days=42, mood=-1.0),
    Turn(rule=AlertRule.SLIDE, name="slide", days=42, mood=-1.75),
    Turn(rule=AlertRule.SLIDE, name="slide, fast", days=28, mood=-2.0),
    Turn(rule=AlertRule.SILENCE, name="silence, 2 weeks", days=14, volume=0.0),
    Turn(rule=AlertRule.SILENCE, name="silence, 3 weeks, not complete", days=21, volume=0.1),
    Turn(rule=AlertRule.REVERSAL, name="reversal, mild", days=42, mood=-1.25),
    Turn(rule=AlertRule.REVERSAL, name="reversal", days=42, mood=-2.0),
)


def feed(
    rng: np.random.Generator,
    character: Character,
    per_day: float,
    num_days: int,
    padding: int,
    *,
    bias: float | None = None,
    turn: Turn | None = None,
    turn_day: int = 0,
) -> Counts:
    """Counts of so many days after `padding` days of which nothing is known.

    `bias` is the mood's usual logit, above 0 for more positive than negative documents; drawn if not given.
    """
    days = np.arange(num_days)
    volume = per_day * np.where(days % 7 >= 5, character.weekend, 1.0)
    volume = volume * np.exp(_lasting(rng, num_days, 0.8) * character.bursts - character.bursts**2 / 2)
    mood = _lasting(rng, num_days, character.mood_memory) * character.moods
    mood += rng.uniform(-0.5, 0.9) if bias is None else bias
    if turn is not None:
        inside = (days >= turn_day) & (days < turn_day + turn.days)
        volume = np.where(inside, volume * turn.volume, volume)
        ramp = np.clip((days - turn_day) / turn.days, 0, 1) if turn.rule is AlertRule.SLIDE else 1.0
        mood += np.where(inside, turn.mood * ramp, 0.0)
    if character.dispersion > 1:
        volume = rng.gamma(np.maximum(volume, 1e-9) / (character.dispersion - 1), character.dispersion - 1)
    documents = rng.poisson(volume)
    return _counted(rng, np.repeat(days, documents), np.repeat(mood, documents), num_days, padding)


def _lasting(rng: np.random.Generator, num_days: int, memory: float) -> Floats:
    """A stationary AR(1) series of variance 1."""
    values = rng.standard_normal(num_days)
    values[1:] *= np.sqrt(1 - memory**2)
    for day in range(1, num_days):
        values[day] += memory * values[day - 1]
    return values


def _counted(
    rng: np.random.Generator, day: NDArray[np.int64], mood: Floats, num_days: int, padding: int
) -> Counts:
    """Documents with the label and score that a classifier would give them, counted."""
    odds = np.exp(np.stack([-mood, np.full(len(mood), 0.3), mood], axis=1))
    label = (rng.random(len(day))[:, None] > np.cumsum(odds / odds.sum(1, keepdims=True), axis=1)).sum(1)
    sure = rng.beta(6, 2, len(day))
    score = np.where(label == 1, rng.normal(0, 0.12, len(day)), (label - 1) * sure)
    weight = rng.integers(30, 101, len(day))
    amount = np.rint(np.clip(score, -1, 1) / SCORE_UNIT).astype(np.int64) * weight

    def total(amounts: NDArray[np.int64]) -> NDArray[np.int64]:
        sums = np.zeros(padding + num_days, np.int64)
        np.add.at(sums, day + padding, amounts)
        return sums

    starts = [MONDAY + timedelta(days=index - padding) for index in range(padding + num_days)]
    ones = np.ones(len(day), np.int64)
    counts = Counts(
        size=WindowSize.DAY,
        starts=starts,
        ends_at=starts[-1] + timedelta(days=1),
        known_from=padding,
        documents=total(ones),
        followups=np.zeros(padding + num_days, np.int64),
        negative=total(ones * (label == 0)),
        neutral=total(ones * (label == 1)),
        positive=total(ones * (label == 2)),
        weight=total(weight),
        weight_squared=total(weight * weight),
        score=total(amount),
    )
    if not len(day):
        return counts
    return replace(counts, known_from=padding + int(day[0]))
