"""Simulates how often and how favourably an invented company is written about, with planted turns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from random import Random

from examples.sentiment.names import COMPANIES, TOPICS

FIRST_DAY = date(2024, 9, 2)
NUM_DAYS = 182
"""Length of the feed: half a year from a Monday, with more than three months before the first turn."""

EARLIEST_TURN = 112
"""No turn is planted before this day, because the rules compare with up to twelve weeks of history."""

_WEEKDAY_RATES = (1.1, 1.25, 1.2, 1.15, 1.0, 0.22, 0.28)
_QUIET_DAYS = range(112, 124)
"""Days at the end of the year, with a third of the usual news."""


class Turn(StrEnum):
    """Kinds of planted turns, named after the rules that should find them."""

    SURGE = "surge"
    SLIDE = "slide"
    SILENCE = "silence"
    REVERSAL = "reversal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A planted turn, which the feed does not mention."""

    entity_id: str
    turn: Turn
    begins: date
    ends: date
    """Last day of the turn."""


@dataclass(slots=True, kw_only=True)
class Life:
    """The news of one entity by day: the expected number of documents, and the mood probabilities."""

    entity_id: str
    rates: list[float]
    odds: list[tuple[float, float, float]]
    """Probabilities of negative, neutral and positive for each day."""


def make_lives(random: Random) -> tuple[list[Life], list[Event]]:
    """Return a Life for each company and topic, with two planted turns of each kind among the companies."""
    lives = [_life(company.id, random, is_topic=False) for company in COMPANIES]
    lives += [_life(topic.id, random, is_topic=True) for topic in TOPICS]
    busy = [life for life in lives[: len(COMPANIES)] if sum(life.rates) / NUM_DAYS >= 0.9]
    chosen = random.sample(busy, 2 * len(Turn))
    events = [_plant(turn, life, random) for turn, life in zip([*Turn, *Turn], chosen, strict=True)]
    for life in random.sample([life for life in lives if life not in chosen], 4):
        _plant_busy_days(life, random)
    return lives, sorted(events, key=lambda event: (event.begins, event.entity_id))


def day_at(index: int) -> date:
    """Return the date of a day of the feed."""
    return FIRST_DAY + timedelta(days=index)


def _life(entity_id: str, random: Random, *, is_topic: bool) -> Life:
    base = 0.9 if is_topic else math.exp(random.gauss(0.05, 0.4))
    lean = random.gauss(0.0, 0.35)
    rates, odds, wander = [], [], 0.0
    for index in range(NUM_DAYS):
        wander = 0.97 * wander + random.gauss(0.0, 0.06)
        quiet = 0.35 if index in _QUIET_DAYS else 1.0
        noise = math.exp(random.gauss(-0.03, 0.25))
        rates.append(base * _WEEKDAY_RATES[day_at(index).weekday()] * quiet * noise)
        odds.append(_odds(lean + wander))
    return Life(entity_id=entity_id, rates=rates, odds=odds)


def _odds(lean: float) -> tuple[float, float, float]:
    """Return the probabilities for a lean: 0 gives 28% for each side, 1 about 58% positive, 8% negative."""
    up, down, middle = math.exp(lean), math.exp(-lean), 1.6
    total = up + down + middle
    return down / total, middle / total, up / total


def _plant(turn: Turn, life: Life, random: Random) -> Event:
    first = random.randrange(EARLIEST_TURN + 14, NUM_DAYS - 42)
    if turn is Turn.SURGE:
        last = first + random.randrange(3, 6)
        for index in range(first, last + 1):
            life.rates[index] += random.uniform(4, 7)
            life.odds[index] = (0.78, 0.15, 0.07)
    elif turn is Turn.SLIDE:
        last = first + 34
        _tilt(life, range(EARLIEST_TURN + 14), 0.35)
        for index in range(first, NUM_DAYS):
            life.odds[index] = _odds(0.35 - 1.7 * min(1.0, (index - first) / 34))
            life.rates[index] = max(life.rates[index], 0.5) * 1.3
    elif turn is Turn.SILENCE:
        last = first + random.randrange(18, 26)
        for index in range(NUM_DAYS):
            life.rates[index] *= 0.02 if first <= index <= last else 1.5
    else:
        last = min(first + 28, NUM_DAYS - 1)
        _tilt(life, range(first), 0.75)
        _tilt(life, range(first, NUM_DAYS), -0.85)
        for index in range(first, NUM_DAYS):
            life.rates[index] = max(life.rates[index], 0.5) * 1.3
    return Event(entity_id=life.entity_id, turn=turn, begins=day_at(first), ends=day_at(last))


def _tilt(life: Life, days: Sequence[int], lean: float) -> None:
    for index in days:
        life.odds[index] = _odds(lean)


def _plant_busy_days(life: Life, random: Random) -> None:
    """Plant days with much news of the usual mixture, which should not raise an alert."""
    first = random.randrange(EARLIEST_TURN + 14, NUM_DAYS - 10)
    for index in range(first, first + 3):
        life.rates[index] += random.uniform(3, 5)
        life.odds[index] = (0.25, 0.45, 0.30)
