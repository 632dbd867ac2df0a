"""The figures of a window follow from the documents that it counts, to the last bit."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from kinds.sentiment.series.counts import memory_reader, sums_of
from kinds.sentiment.series.entity_series import EntitySeries, SeriesUpdate, compute_series
from kinds.sentiment.series.mention import CountedDocument, Mention
from kinds.sentiment.series.policy import Policy
from kinds.sentiment.series.time_windows import EntityWindow, WindowSize, WindowSums, shifted
from tests.unit.kinds.sentiment.series.feed import MONDAY, mention

POLICY = Policy(windows=tuple(WindowSize), time_zone="Europe/Berlin", min_relevance=20)
SUMS = tuple(WindowSums.__dataclass_fields__)


def feed(seed: int) -> list[Mention]:
    """Return three weeks of random moods and relevance, a third of them repeats; some classes are tied."""
    chance = random.Random(seed)
    made = []
    for number in range(200):
        mood = chance.choice(("negative", "neutral", "positive"))
        text = chance.randrange(40) if chance.random() < 0.4 else None
        one = mention(
            number,
            chance.uniform(0, 21),
            mood=mood,
            text=text,
            num_changed=5,
            relevance=chance.randrange(101),
        )
        p_negative = chance.choice((one.p_negative, 0.45, chance.random() / 3))
        if p_negative == 0.45:
            one = replace(one, p_negative=0.45, p_neutral=0.1, p_positive=0.45)
        made.append(one)
    return made


def counted(
    mentions: Sequence[Mention], analysis: EntitySeries, window: EntityWindow
) -> list[CountedDocument]:
    """Return the window's relevant documents with their novelty, as the history does."""
    novelties = {novelty.document_id: novelty for novelty in analysis.novelties}
    end: datetime = shifted(window.size, ZoneInfo(POLICY.time_zone), window.starts_at, 1)
    return [
        CountedDocument(
            document_id=one.document_id,
            sha256="0" * 64,
            published_at=one.published_at,
            relevance=one.relevance,
            p_negative=one.p_negative,
            p_neutral=one.p_neutral,
            p_positive=one.p_positive,
            novelty=novelties[one.document_id].number,
            first_id=novelties[one.document_id].first_id,
        )
        for one in mentions
        if window.starts_at <= one.published_at < end and one.relevance >= POLICY.min_relevance
    ]


@pytest.mark.parametrize("seed", range(5))
def test_sums_of_the_counted_documents_are_those_of_every_window(seed: int) -> None:
    mentions = feed(seed)
    first_at = min(one.published_at for one in mentions)
    analysis = compute_series(
        "acme-steel",
        memory_reader(mentions),
        SeriesUpdate(
            since=first_at,
            as_of=MONDAY + timedelta(days=21),
            first_at=first_at,
            policy=POLICY,
            num_entities=1,
        ),
    )

    for window in analysis.windows:
        sums = sums_of(counted(mentions, analysis, window), window.starts_at)
        assert {name: getattr(sums, name) for name in SUMS} == {name: getattr(window, name) for name in SUMS}
    assert sum(window.num_followups for window in analysis.windows) > 10
    assert {window.size for window in analysis.windows} == set(WindowSize)


def test_window_without_documents_holds_nothing() -> None:
    sums = sums_of([], MONDAY)

    assert [getattr(sums, name) for name in SUMS] == [MONDAY, *[0] * (len(SUMS) - 1)]
