from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from scipy.stats import binomtest

from kinds.sentiment.series.aggregate import COMPARISONS, wilson
from kinds.sentiment.series.counts import memory_reader
from kinds.sentiment.series.entity_series import SeriesUpdate, compute_series
from kinds.sentiment.series.mention import Mention
from kinds.sentiment.series.policy import Policy
from kinds.sentiment.series.time_windows import EntityWindow, WindowSize, window_of
from tests.unit.kinds.sentiment.series.feed import MONDAY, mention, quiet

POLICY = Policy(windows=tuple(WindowSize))


def windows(mentions: list[Mention], days: float, policy: Policy = POLICY) -> list[EntityWindow]:
    return list(
        compute_series(
            "acme-steel",
            memory_reader(mentions),
            SeriesUpdate(
                since=min(each.published_at for each in mentions),
                as_of=MONDAY + timedelta(days=days),
                first_at=min(each.published_at for each in mentions),
                policy=policy,
                num_entities=1,
            ),
        ).windows
    )


def of(size: WindowSize, found: list[EntityWindow]) -> list[EntityWindow]:
    return [window for window in found if window.size is size]


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (3, 7), (50, 200)])
def test_wilson_is_scipys_interval(successes: int, trials: int) -> None:
    low, high = wilson(np.array([float(successes)]), np.array([float(trials)]))
    expected = binomtest(successes, trials).proportion_ci(method="wilson")
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high))


def test_figures_are_those_of_the_mentions_one_by_one() -> None:
    feed = quiet(range(90), 4, seed=3)
    for window in of(WindowSize.DAY, windows(feed, 90)):
        inside = [
            m for m in feed if window_of(WindowSize.DAY, ZoneInfo("UTC"), m.published_at) == window.starts_at
        ]
        weight = sum(m.relevance for m in inside)
        assert window.num_documents == len(inside) == 4
        assert window.num_negative == sum(m.p_negative > 0.5 for m in inside)
        assert window.mean_score == pytest.approx(sum(m.relevance * m.score for m in inside) / weight)
        assert window.mean_score is not None
        begin = window.starts_at - timedelta(days=63)
        past = [m for m in feed if begin <= m.published_at < window.starts_at - timedelta(days=7)]
        if window.baseline_score is None:
            assert not past
            continue
        assert window.baseline_score == pytest.approx(sum(m.score for m in past) / len(past))
        assert window.baseline_volume == 4
        assert window.change == pytest.approx(window.mean_score - window.baseline_score)


def test_trend_is_the_slope_of_weighted_least_squares() -> None:
    feed = quiet(range(40), 3, seed=5)
    found = of(WindowSize.DAY, windows(feed, 40))
    scores = [window.mean_score for window in found[-14:]]
    slope = np.polyfit(np.arange(14), np.array(scores, float), 1)[0]
    assert found[-1].trend == pytest.approx(slope)


def test_follow_ups_are_counted_apart_and_do_not_weigh() -> None:
    feed = [mention(0, 0.1, mood="negative", text=1), mention(1, 0.2, mood="neutral", text=1, num_changed=5)]
    (day,) = of(WindowSize.DAY, windows(feed, 1))
    assert (day.num_documents, day.num_followups, day.num_negative, day.num_neutral) == (1, 1, 1, 0)


def test_mentions_of_little_relevance_are_not_counted() -> None:
    feed = [mention(0, 0.1), mention(1, 0.2, relevance=19), mention(2, 0.3, relevance=20)]
    (day,) = of(WindowSize.DAY, windows(feed, 1))
    assert day.num_documents == 2


def test_empty_days_are_windows_and_empty_hours_are_not() -> None:
    found = windows([mention(0, 0.5), mention(1, 3.5)], 5)
    days = of(WindowSize.DAY, found)
    assert [day.num_documents for day in days] == [1, 0, 0, 1, 0]
    assert days[1].mean_score is None
    assert days[1].negative_share is None
    assert [hour.num_documents for hour in of(WindowSize.HOUR, found)] == [1, 1]


def test_a_window_that_begins_at_the_instant_of_the_analysis_is_not_there() -> None:
    assert len(of(WindowSize.DAY, windows([mention(0, 0.5)], 2.0))) == 2
    assert len(of(WindowSize.DAY, windows([mention(0, 0.5)], 2.1))) == 3


def test_a_baseline_knows_nothing_of_the_days_before_the_first_mention() -> None:
    found = of(WindowSize.DAY, windows(quiet(range(20), 2), 20))
    assert found[15].baseline_volume == 2
    assert COMPARISONS[WindowSize.DAY].gap == 7
    assert found[6].baseline_volume is None
