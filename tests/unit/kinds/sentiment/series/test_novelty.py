from __future__ import annotations

import random
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinds.sentiment.series.counts import epoch_us_of
from kinds.sentiment.series.mention import NUM_PERMUTATIONS, Mention
from kinds.sentiment.series.novelty import HISTORY, HORIZON, MIN_MATCHES, by_time, number_chains
from tests.unit.kinds.sentiment.series.feed import mention, signature

MAX_CHANGED = NUM_PERMUTATIONS - MIN_MATCHES


MOODS = ("negative", "neutral", "positive")


def label_of(mention: Mention) -> int:
    chances = (mention.p_negative, mention.p_neutral, mention.p_positive)
    return chances.index(max(chances))


def linked(mentions: list[Mention]) -> dict[str, tuple[int, str]]:
    ordered = by_time(mentions)
    times = np.array([epoch_us_of(each.published_at) for each in ordered], np.int64)
    labels = np.array([label_of(each) for each in ordered], np.int64)
    numbers, firsts = number_chains(times, [each.signature for each in ordered], labels)
    return {
        each.document_id: (int(number), ordered[int(first)].document_id)
        for each, number, first in zip(ordered, numbers, firsts, strict=True)
    }


def by_every_pair(mentions: list[Mention]) -> dict[str, tuple[int, str]]:
    """Return the result by the definition, pair by pair."""
    ordered = by_time(mentions)
    result = {}
    for place, each in enumerate(ordered):
        near = [
            other.document_id
            for other in ordered[:place]
            if each.published_at - other.published_at <= HORIZON
            and sum(each.signature[i : i + 4] == other.signature[i : i + 4] for i in range(0, 256, 4))
            >= MIN_MATCHES
            and abs(label_of(each) - label_of(other)) < 2
        ]
        result[each.document_id] = (1 + len(near), near[0] if near else each.document_id)
    return result


@st.composite
def copies(draw: st.DrawFn) -> list[Mention]:
    """Draw up to 40 mentions in a month: few texts, more or less similar copies, and equal times."""
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 30 * 8), st.integers(0, 4), st.integers(0, 14), st.sampled_from(MOODS)),
            min_size=0,
            max_size=40,
        )
    )
    return [
        mention(number, eighths / 8, text=text, num_changed=changed, mood=mood)
        for number, (eighths, text, changed, mood) in enumerate(rows)
    ]


@given(copies(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_bands_find_what_comparing_every_pair_finds(mentions: list[Mention], chance: random.Random) -> None:
    shuffled = list(mentions)
    chance.shuffle(shuffled)
    assert linked(shuffled) == by_every_pair(mentions)


@given(copies(), st.integers(0, 30 * 8))
@settings(deadline=None, max_examples=60)
def test_novelty_from_an_instant_on_needs_only_its_history(mentions: list[Mention], eighths: int) -> None:
    since = mention(0, eighths / 8).published_at
    whole = linked(mentions)
    part = linked([each for each in mentions if each.published_at >= since - HISTORY])
    new = [each.document_id for each in mentions if each.published_at >= since]
    assert [part[each] for each in new] == [whole[each] for each in new]


def test_a_chain_has_numbers_and_its_first_document() -> None:
    chain = [mention(number, float(number), text=1, num_changed=number) for number in range(4)]
    assert linked([*chain, mention(9, 1.5)]) == {
        "d000000": (1, "d000000"),
        "d000001": (2, "d000000"),
        "d000002": (3, "d000000"),
        "d000003": (4, "d000000"),
        "d000009": (1, "d000009"),
    }


@pytest.mark.parametrize(("num_changed", "number"), [(MAX_CHANGED, 2), (MAX_CHANGED + 1, 1)])
def test_the_last_pair_that_is_near_is_found_and_the_next_is_not(num_changed: int, number: int) -> None:
    for copy in range(50):
        texts = [mention(0, 0, text=copy), mention(1, 1, text=copy, num_changed=num_changed)]
        assert linked(texts)["d000001"][0] == number


@pytest.mark.parametrize(("mood", "number"), [("negative", 2), ("neutral", 2), ("positive", 1)])
def test_the_opposite_in_nearly_the_same_words_is_news(mood: str, number: int) -> None:
    falls = mention(0, 0, text=1, mood="negative")
    assert linked([falls, mention(1, 1, text=1, num_changed=9, mood=mood)])["d000001"][0] == number
    assert linked([falls, mention(1, 1, text=1, mood=mood)])["d000001"][0] == number


def test_seven_days_later_it_is_told_again_as_news() -> None:
    pair = [mention(0, 0, text=1), mention(1, 7, text=1), mention(2, 14.001, text=1)]
    assert [number for number, _ in linked(pair).values()] == [1, 2, 1]


def test_a_flood_of_copies_is_one_chain() -> None:
    times = np.arange(20_000, dtype=np.int64) * 1_000_000
    numbers, firsts = number_chains(times, [signature(1)] * 20_000, np.ones(20_000, np.int64))
    assert numbers.tolist() == list(range(1, 20_001))
    assert not firsts.any()


def test_a_signature_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="64 little-endian"):
        number_chains(np.zeros(2, np.int64), [signature(1), b"1234"], np.ones(2, np.int64))


def test_history_covers_two_horizons() -> None:
    assert timedelta(days=14) == HISTORY
