"""Blocks of users: split and compared."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kinds.recommendation.catalogue.interactions import UserBlock, histories_of, only_users

LOGS = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    st.dictionaries(st.sampled_from("pqrs"), st.integers(1, 9), max_size=4),
    max_size=6,
)


def block(log: Mapping[str, Mapping[str, int]]) -> UserBlock:
    """Of users with the weight of each of their items."""
    users = sorted(log)
    ids = sorted({item for history in log.values() for item in history})
    entries = [(ids.index(item), log[user][item]) for user in users for item in sorted(log[user])]
    return UserBlock(
        user_ids=tuple(users),
        item_ids=tuple(ids),
        indptr=np.cumsum([0, *(len(log[user]) for user in users)]).astype(np.int64),
        items=np.array([item for item, _ in entries], np.int32),
        weights=np.array([weight for _, weight in entries], np.float32),
        times=np.zeros(len(entries), np.int64),
        is_purchase=np.zeros(len(entries), np.bool_),
    )


@given(LOGS, st.sets(st.text("abc", min_size=1, max_size=3)))
def test_some_users_of_a_block_are_the_block_of_those_users(
    log: dict[str, dict[str, int]], wanted: set[str]
) -> None:
    some = only_users(block(log), wanted)
    expected = block({user: history for user, history in log.items() if user in wanted})
    assert (some.user_ids, some.item_ids) == (expected.user_ids, expected.item_ids)
    for name in ("indptr", "items", "weights", "times", "is_purchase"):
        np.testing.assert_array_equal(getattr(some, name), getattr(expected, name))


@given(LOGS, LOGS)
def test_histories_are_equal_exactly_where_the_users_did_the_same(
    one: dict[str, dict[str, int]], other: dict[str, dict[str, int]]
) -> None:
    first, second = histories_of(block(one)), histories_of(block(other))
    for user in one.keys() & other.keys():
        assert (first[user] == second[user]) == (one[user] == other[user])
