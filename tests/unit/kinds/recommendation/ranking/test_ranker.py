"""Lists: rules hold for any data, each user gets a list, and others in the block do not change it."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.ranking.fit import fit
from kinds.recommendation.ranking.lists import NEW, ReasonKind, UserList, lists_bytes
from kinds.recommendation.ranking.ranker import Ranker, rank_block
from kinds.recommendation.ranking.settings import PriceBand, Rules
from tests.unit.kinds.recommendation.ranking.samples import (
    NOW,
    SETTINGS,
    block_of,
    catalogue,
    histories,
    ranker,
)

BY_ID = {item.id: item for item in catalogue()}
HISTORIES = histories()


def ids_of(ranked: UserList) -> list[str]:
    return [each.item_id for each in ranked.items]


@st.composite
def any_rules(draw: st.DrawFn) -> Rules:
    low, high = sorted(draw(st.tuples(st.integers(0, 20), st.integers(0, 20))))
    return Rules(
        list_length=draw(st.integers(1, 12)),
        reserve=draw(st.integers(0, 5)),
        exclude=draw(st.sampled_from(["interacted", "purchased", "nothing"])),
        blocked_items=draw(st.frozensets(st.sampled_from(sorted(BY_ID)), max_size=20)),
        blocked_categories=draw(st.frozensets(st.sampled_from(["c0", "c1", "c2"]), max_size=2)),
        max_per_category=draw(st.none() | st.integers(1, 3)),
        max_per_attribute=draw(st.dictionaries(st.sampled_from(["brand", "use"]), st.integers(1, 3))),
        price=PriceBand(
            min=draw(st.none() | st.just(float(low))),
            max=draw(st.none() | st.just(float(high))),
            min_ratio=draw(st.none() | st.floats(0, 1)),
            max_ratio=draw(st.none() | st.floats(1, 3)),
        ),
        diversity=draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])),
    )


@given(rules=any_rules(), seed=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_rules_hold_on_every_list(rules: Rules, seed: int) -> None:
    items_of = histories(seed, num_users=20)
    purchases = frozenset((user, items[0]) for user, items in items_of.items())
    block = block_of(items_of, purchases=purchases)
    for ranked in rank_block(ranker(rules, block=block), block):
        listed = [BY_ID[item_id] for item_id in ids_of(ranked)]
        own = items_of[ranked.user_id]
        median = float(np.median([BY_ID[item_id].price or 0 for item_id in own]))
        assert len(set(ids_of(ranked))) == len(listed) <= rules.list_length + rules.reserve
        left_out = {"interacted": own, "purchased": own[:1], "nothing": []}[rules.exclude]
        assert not set(ids_of(ranked)) & (set(left_out) | rules.blocked_items)
        for item in listed:
            assert item.category not in rules.blocked_categories
            assert item.price is not None
            assert rules.price.min is None or item.price >= rules.price.min
            assert rules.price.max is None or item.price <= rules.price.max
            assert rules.price.min_ratio is None or item.price >= rules.price.min_ratio * median
            assert rules.price.max_ratio is None or item.price <= rules.price.max_ratio * median
        per_category = Counter(item.category for item in listed)
        assert max(per_category.values(), default=0) <= (rules.max_per_category or 99)
        for name, most in rules.max_per_attribute.items():
            values = [item.attributes[name] for item in listed]
            counts = Counter(v for value in values for v in (value if isinstance(value, tuple) else (value,)))
            assert max(counts.values(), default=0) <= most


@pytest.mark.parametrize("size", [1, 7, 90])
def test_a_list_does_not_depend_on_the_block_it_is_made_in(size: int) -> None:
    made_ranker = ranker(Rules(max_per_category=3))
    whole = rank_block(made_ranker, block_of(HISTORIES))
    users = sorted(HISTORIES)
    parts = [
        ranked
        for begin in range(0, len(users), size)
        for ranked in rank_block(
            made_ranker, block_of({user: HISTORIES[user] for user in users[begin : begin + size]})
        )
    ]
    assert lists_bytes(parts) == lists_bytes(whole)


def test_a_list_is_the_same_from_the_models_bytes_and_another_order_of_items() -> None:
    items = catalogue()
    model = fit([block_of(HISTORIES)], SETTINGS, [item.id for item in items])
    first = Ranker(model, items, None, Rules(), SETTINGS, NOW)
    other = Ranker(model, items[::-1], None, Rules(), SETTINGS, NOW)
    block = block_of(HISTORIES)
    assert lists_bytes(rank_block(first, block)) == lists_bytes(rank_block(other, block))


def test_a_new_user_gets_the_items_with_most_users() -> None:
    made_ranker = ranker(Rules(diversity=0, list_length=3, reserve=0))
    counts = Counter(item for items in HISTORIES.values() for item in items)
    expected = sorted(counts, key=lambda item: (-counts[item], item))[:3]
    [ranked] = rank_block(made_ranker, block_of({"nobody": []}))
    assert ids_of(ranked) == expected
    assert ranked.segment == NEW
    assert {each.reason.kind for each in ranked.items} == {ReasonKind.POPULAR}


def test_an_item_that_nobody_had_gets_on_lists_by_its_content() -> None:
    cold = {item_id for item_id in BY_ID if item_id[-1] == "9"}
    lists = rank_block(ranker(Rules(list_length=20, diversity=0)), block_of(HISTORIES))
    reasons = [each.reason for ranked in lists for each in ranked.items if each.item_id in cold]
    assert reasons
    assert {reason.kind for reason in reasons} == {ReasonKind.CONTENT}


def test_cold_items_go_to_users_of_their_category() -> None:
    warm = frozenset(item_id for item_id in BY_ID if item_id[-1] != "9")
    rules = Rules(list_length=1, reserve=0, diversity=0, blocked_items=warm)
    lists = rank_block(ranker(rules), block_of(HISTORIES))
    cold_categories = {item.category for item in BY_ID.values() if item.id not in warm}
    own = [
        BY_ID[ranked.items[0].item_id].category == ranked.segment
        for ranked in lists
        if ranked.items and ranked.segment in cold_categories
    ]
    assert sum(own) > len(own) * 2 / 3  # one in three by chance


@pytest.mark.parametrize(
    "change",
    [
        {"available": False},
        {"available_from": NOW + timedelta(seconds=1)},
        {"available_until": NOW},
    ],
)
def test_an_unavailable_item_is_on_no_list(change: dict[str, object]) -> None:
    block = block_of(HISTORIES)
    counts = Counter(item for ranked in rank_block(ranker(), block) for item in ids_of(ranked))
    best = counts.most_common(1)[0][0]
    items = [item.model_copy(update=change) if item.id == best else item for item in catalogue()]
    assert not any(best in ids_of(ranked) for ranked in rank_block(ranker(items=items), block))


def test_a_user_with_20_000_events_is_ranked_like_others() -> None:
    items = [Item(id=f"i{number:06d}", title=f"Item {number}") for number in range(20_200)]
    items_of = {"robot": [item.id for item in items[:20_000]], "ann": [items[0].id, items[1].id]}
    settings_of_few = SETTINGS.model_copy(
        update={"max_user_items": 50, "max_fitted_items": 100, "cold_content_weight": 0.0}
    )
    block = block_of(items_of)
    made_ranker = ranker(Rules(diversity=0), items=items, settings=settings_of_few, block=block)
    ann, robot = rank_block(made_ranker, block)
    assert not set(ids_of(robot)) & set(items_of["robot"])
    assert ann.items
