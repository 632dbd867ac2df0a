"""Simulates an entity's counts per window: quiet feeds of several characters, and feeds with a turn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from kinds.sentiment.series.counts import Counts
from kinds.sentiment.series.policy import AlertRule
from kinds.sentiment.series.time_windows import SCORE_UNIT, WindowSize

MONDAY = datetime(2024, 1, 1, tzinfo=UTC)

LENGTH = {
    WindowSize.HOUR: timedelta(hours=1),
    WindowSize.DAY: timedelta(days=1),
    WindowSize.WEEK: timedelta(days=7),
}

RHYTHM = 0.8
"""Amplitude of the daily rhythm: the busiest hour is above the mean by this share, the quietest below it."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Character:
    """Statistics of the documents about an entity while nothing happens."""

    name: str
    dispersion: float = 1.0
    """Variance-to-mean ratio of the number of documents, independent between windows (negative binomial)."""
    weekend: float = 1.0
    """Volume of Saturdays and Sundays, relative to working days."""
    bursts: float = 0.0
    """Standard deviation of the logarithm of the volume, with a correlation of 0.8 from day to day."""
    moods: float = 0.0
    """Standard deviation of the mood, in logits of a document being negative or positive."""
    mood_memory: float = 0.8
    """Correlation of the mood from day to day."""


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
    """A change that affects an entity from a certain day."""

    rule: AlertRule
    name: str
    days: int
    volume: float = 1.0
    """Factor by which the documents per day change."""
    mood: float = 0.0
    """Logits that are added to the mood; a slide reaches them at its end."""


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
    size: WindowSize = WindowSize.DAY,
    bias: float | None = None,
    turn: Turn | None = None,
    turn_day: int = 0,
) -> Counts:
    """Return the counts of a simulated feed by window, after `padding` windows without data.

    Windows of an hour are simulated hour by hour with a daily rhythm, others day by day. `bias` is the usual
    logit of the mood, above 0 for more positive than negative documents; by default it is random.
    """
    a_day = 24 if size is WindowSize.HOUR else 1
    steps = np.arange(num_days * a_day)
    days = steps // a_day
    volume = per_day / a_day * np.where(days % 7 >= 5, character.weekend, 1.0)
    volume = volume * (1 - RHYTHM * np.cos(2 * np.pi * (steps % a_day) / a_day) if a_day > 1 else 1.0)
    lasting = _lasting(rng, len(steps), 0.8 ** (1 / a_day))
    volume = volume * np.exp(lasting * character.bursts - character.bursts**2 / 2)
    mood = _lasting(rng, len(steps), character.mood_memory ** (1 / a_day)) * character.moods
    mood += rng.uniform(-0.5, 0.9) if bias is None else bias
    if turn is not None:
        inside = (days >= turn_day) & (days < turn_day + turn.days)
        volume = np.where(inside, volume * turn.volume, volume)
        ramp = np.clip((days - turn_day) / turn.days, 0, 1) if turn.rule is AlertRule.SLIDE else 1.0
        mood += np.where(inside, turn.mood * ramp, 0.0)
    if character.dispersion > 1:
        volume = rng.gamma(np.maximum(volume, 1e-9) / (character.dispersion - 1), character.dispersion - 1)
    documents = rng.poisson(volume)
    windows = steps // (7 if size is WindowSize.WEEK else 1)
    return _counted(rng, np.repeat(windows, documents), np.repeat(mood, documents), size, windows, padding)


def _lasting(rng: np.random.Generator, num_steps: int, memory: float) -> Floats:
    """Return a stationary AR(1) series of variance 1."""
    values = rng.standard_normal(num_steps)
    values[1:] *= np.sqrt(1 - memory**2)
    for step in range(1, num_steps):
        values[step] += memory * values[step - 1]
    return values


def _counted(
    rng: np.random.Generator,
    window: NDArray[np.int64],
    mood: Floats,
    size: WindowSize,
    windows: NDArray[np.int64],
    padding: int,
) -> Counts:
    """Return counts of documents with the labels and scores that a classifier would give them."""
    odds = np.exp(np.stack([-mood, np.full(len(mood), 0.3), mood], axis=1))
    label = (rng.random(len(window))[:, None] > np.cumsum(odds / odds.sum(1, keepdims=True), axis=1)).sum(1)
    sure = rng.beta(6, 2, len(window))
    score = np.where(label == 1, rng.normal(0, 0.12, len(window)), (label - 1) * sure)
    weight = rng.integers(30, 101, len(window))
    length = padding + int(windows[-1]) + 1
    amount = np.rint(np.clip(score, -1, 1) / SCORE_UNIT).astype(np.int64) * weight

    def total(amounts: NDArray[np.int64]) -> NDArray[np.int64]:
        sums = np.zeros(length, np.int64)
        np.add.at(sums, window + padding, amounts)
        return sums

    starts = [MONDAY + LENGTH[size] * (index - padding) for index in range(length)]
    ones = np.ones(len(window), np.int64)
    counts = Counts(
        size=size,
        starts=starts,
        ends_at=starts[-1] + LENGTH[size],
        known_from=padding,
        documents=total(ones),
        followups=np.zeros(length, np.int64),
        negative=total(ones * (label == 0)),
        neutral=total(ones * (label == 1)),
        positive=total(ones * (label == 2)),
        weight=total(weight),
        weight_squared=total(weight * weight),
        score=total(amount),
    )
    if not len(window):
        return counts
    return replace(counts, known_from=padding + int(window[0]))
