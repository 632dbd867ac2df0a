"""Mentions of one entity for tests, whose texts repeat each other to the requested degree."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from kinds.sentiment.series.mention import NUM_PERMUTATIONS, Mention

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


def signature(text: int, num_changed: int = 0, copy: int = 0) -> bytes:
    """Return the signature of a text, or of a copy of it in which this many hash values differ."""
    values = [random.Random(text).getrandbits(32) for _ in range(NUM_PERMUTATIONS)]
    change = random.Random(f"{text}/{num_changed}/{copy}")
    for place in change.sample(range(NUM_PERMUTATIONS), num_changed):
        values[place] = change.getrandbits(32)
    return b"".join(value.to_bytes(4, "little") for value in values)


def mention(
    number: int,
    days: float,
    *,
    mood: str = "neutral",
    text: int | None = None,
    num_changed: int = 0,
    relevance: int = 80,
    entity_id: str = "acme-steel",
) -> Mention:
    """Return document d<number>, published this many days after MONDAY; without `text` it is unique."""
    sure = {"negative": (0.9, 0.08, 0.02), "neutral": (0.05, 0.9, 0.05), "positive": (0.02, 0.08, 0.9)}[mood]
    return Mention(
        document_id=f"d{number:06}",
        entity_id=entity_id,
        published_at=MONDAY + timedelta(days=days),
        relevance=relevance,
        topic=None,
        p_negative=sure[0],
        p_neutral=sure[1],
        p_positive=sure[2],
        sentence="",
        title="",
        source="",
        signature=signature(1_000_000 + number if text is None else text, num_changed, number),
    )


def quiet(
    days: Iterable[int], per_day: int, *, seed: int = 0, moods: str = "nnoooppp", first_number: int = 0
) -> list[Mention]:
    """Return this many mentions per day at random hours; moods are letters: n, p, and o for neutral."""
    chance = random.Random(seed)
    names = {"n": "negative", "o": "neutral", "p": "positive"}
    made: list[Mention] = []
    for day in days:
        for _ in range(per_day):
            made.append(
                mention(first_number + len(made), day + chance.random(), mood=names[chance.choice(moods)])
            )
    return made
