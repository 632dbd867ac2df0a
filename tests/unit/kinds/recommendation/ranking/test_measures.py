"""Measures agree with values computed by hand and by scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from kinds.recommendation.ranking import measures

K = 5


@given(
    relevant=st.sets(st.integers(0, 11), min_size=1),
    ranked=st.permutations(range(12)),
)
def test_ndcg_is_that_of_scikit_learn(relevant: set[int], ranked: list[int]) -> None:
    truth = np.array([[float(item in relevant) for item in range(12)]])
    scores = np.zeros((1, 12))
    scores[0, ranked] = np.arange(12, 0, -1)
    hits = np.array([[item in relevant for item in ranked[:K]]])
    found = measures.ndcg(hits, np.array([len(relevant)]))[0]
    assert found == pytest.approx(ndcg_score(truth, scores, k=K), abs=1e-9)


def test_recall_counts_what_no_list_could_hold() -> None:
    hits = np.ones((1, 10), bool)
    assert measures.recall(hits, np.array([40])).tolist() == [0.25]


def test_average_precision_by_hand() -> None:
    hits = np.array([[False, True, False, True, False]])
    found = measures.average_precision(hits, np.array([3]))
    assert found[0] == pytest.approx((1 / 2 + 2 / 4) / 3)


def test_a_perfect_list_has_1_everywhere() -> None:
    hits, num = np.ones((2, K), bool), np.array([K, 2 * K])
    assert measures.ndcg(hits, num).tolist() == [1.0, 1.0]
    assert measures.average_precision(hits, num).tolist() == [1.0, 1.0]
    assert measures.hit_rate(hits).tolist() == [1.0, 1.0]


def test_places_without_an_item_count_neither_for_novelty_nor_diversity() -> None:
    lists = np.array([[0, 1, -1], [2, -1, -1]])
    users = np.array([3, 3, 0])
    assert measures.novelty(lists, users, 7).tolist() == [1.0, 3.0]
    features = np.eye(3, dtype=np.float32)
    assert measures.intra_list_diversity(lists, features).tolist() == [1.0, 0.0]
    assert measures.coverage(lists, 6) == 0.5


def test_a_difference_that_is_there_excludes_zero_and_noise_does_not() -> None:
    generator = np.random.default_rng(1)
    base = generator.random(400)
    better = measures.interval(base + 0.05 - (base - generator.normal(0, 0.1, 400)))
    assert better.low > 0
    equal = measures.interval(generator.normal(0, 1, 400) * 0.0 + np.resize([1, -1], 400))
    assert equal.low <= 0 <= equal.high


def test_an_interval_holds_its_mean_and_narrows_with_the_users() -> None:
    generator = np.random.default_rng(2)
    few, many = measures.interval(generator.random(50)), measures.interval(generator.random(5000))
    assert few.low < few.mean < few.high
    assert many.high - many.low < (few.high - few.low) / 5
