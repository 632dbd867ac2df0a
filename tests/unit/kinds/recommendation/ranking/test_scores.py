"""Reasons name the largest part of the score and its largest term, which are computed again by hand."""

from __future__ import annotations

import numpy as np
import pytest

from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.ranking.fit import history_matrix
from kinds.recommendation.ranking.lists import RankedItem, ReasonKind
from kinds.recommendation.ranking.ranker import Ranker, rank_block
from kinds.recommendation.ranking.scores import shared_attribute
from kinds.recommendation.ranking.settings import Rules
from tests.unit.kinds.recommendation.ranking.samples import block_of, histories, ranker

HISTORIES = histories()


def by_hand(of: Ranker, user: str, item: str) -> dict[ReasonKind, dict[str, float]]:
    """Return every term of a score, by kind and by the item of the history that it comes from."""
    terms, target = of.terms, of.place[item]
    found: dict[ReasonKind, dict[str, float]] = {kind: {} for kind in ReasonKind}
    for source in sorted(set(HISTORIES[user])):
        row = of.place[source]
        at = np.flatnonzero(terms.neighbours.places[row] == target)
        found[ReasonKind.BEHAVIOUR][source] = float(
            terms.neighbours.values[row, at].sum() + terms.history_factors[row] @ terms.item_factors[target]
        )
        found[ReasonKind.CONTENT][source] = float(
            (terms.history_factors[row] + terms.history_content[row]) @ terms.item_content[target]
            + terms.history_content[row] @ terms.item_factors[target]
        )
    found[ReasonKind.POPULAR][""] = float(terms.popularity[target])
    return found


@pytest.fixture(scope="module")
def fitted() -> Ranker:
    return ranker(Rules(list_length=20, diversity=0.3))


@pytest.fixture(scope="module")
def listed(fitted: Ranker) -> list[tuple[str, RankedItem]]:
    return [(one.user_id, each) for one in rank_block(fitted, block_of(HISTORIES)) for each in one.items]


def test_the_score_is_the_sum_of_its_terms(fitted: Ranker, listed: list[tuple[str, RankedItem]]) -> None:
    for user, each in listed:
        terms = by_hand(fitted, user, each.item_id)
        assert each.score == pytest.approx(sum(sum(one.values()) for one in terms.values()), abs=1e-4)


def test_the_kind_is_that_of_the_largest_part_and_its_share_is_true(
    fitted: Ranker, listed: list[tuple[str, RankedItem]]
) -> None:
    for user, each in listed:
        terms = by_hand(fitted, user, each.item_id)
        parts = {kind: max(sum(one.values()), 0.0) for kind, one in terms.items()}
        assert parts[each.reason.kind] == pytest.approx(max(parts.values()), abs=1e-5)
        assert each.reason.share == pytest.approx(parts[each.reason.kind] / sum(parts.values()), abs=1e-3)
    assert {each.reason.kind for _, each in listed} >= {ReasonKind.BEHAVIOUR, ReasonKind.CONTENT}


def test_because_is_the_item_of_the_history_with_the_largest_term(
    fitted: Ranker, listed: list[tuple[str, RankedItem]]
) -> None:
    for user, each in listed:
        if each.reason.kind is ReasonKind.POPULAR:
            assert each.reason.because is None
            continue
        terms = by_hand(fitted, user, each.item_id)[each.reason.kind]
        assert each.reason.because in HISTORIES[user]
        assert terms[each.reason.because] == pytest.approx(max(terms.values()), abs=1e-5)
        assert terms[each.reason.because] > 0


def test_a_named_attribute_is_one_that_both_items_have(
    fitted: Ranker, listed: list[tuple[str, RankedItem]]
) -> None:
    by_id = {item.id: item for item in fitted.items}
    named = [(each.item_id, each.reason) for _, each in listed if each.reason.attribute]
    assert named
    for item_id, reason in named:
        assert reason.because is not None
        one, other = by_id[item_id], by_id[reason.because]
        if reason.attribute == "category":
            assert one.category == other.category
        else:
            assert shared_attribute(one, other) == reason.attribute


def test_a_recent_item_weighs_more_under_a_half_life() -> None:
    made_histories = {"ann": ["i000", "i001"], **{f"x{n}": [f"i00{n % 2}", "i002"] for n in range(8)}}
    day = 86_400
    times = {("ann", "i000"): 1_700_000_000, ("ann", "i001"): 1_700_000_000 + 100 * day}
    matrix = history_matrix(
        block_of(made_histories, times=times),
        {"i000": 0, "i001": 1, "i002": 2},
        max_user_items=10,
        half_life_days=50.0,
        last_event_at=1_700_000_000 + 100 * day,
    )
    assert matrix[0].toarray().tolist() == [[0.25, 1.0, 0.0]]


def test_nothing_is_shared_where_values_differ() -> None:
    one = Item(id="1", title="1", category="a", attributes={"brand": "x", "use": ("hike",)})
    other = Item(id="2", title="2", category="b", attributes={"brand": "y", "use": ("swim",)})
    assert shared_attribute(one, other) is None
