"""Blocks of users: stored, split and compared."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kinds.recommendation.catalogue.inputs import MAX_BLOCKS
from kinds.recommendation.catalogue.interactions import (
    UserBlock,
    block_bytes,
    block_of,
    histories_of,
    only_users,
    read_block_bytes,
)
from tests.unit.kinds.recommendation.catalogue.files import entries_of

IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
LOGS = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    st.dictionaries(st.sampled_from("pqrs"), st.integers(1, 9), max_size=4),
    max_size=6,
)


def block(log: Mapping[str, Mapping[str, int]]) -> UserBlock:
    """Return a block of users, given the weight of each of their items."""
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
    log: dict[str, dict[str, int]], chosen: set[str]
) -> None:
    some = only_users(block(log), chosen)
    expected = block({user: history for user, history in log.items() if user in chosen})
    assert (some.user_ids, some.item_ids) == (expected.user_ids, expected.item_ids)
    for name in ("indptr", "items", "weights", "times", "is_purchase"):
        np.testing.assert_array_equal(getattr(some, name), getattr(expected, name))


@given(LOGS, LOGS)
def test_histories_are_equal_exactly_where_the_users_did_the_same(
    left: dict[str, dict[str, int]], right: dict[str, dict[str, int]]
) -> None:
    first, second = histories_of(block(left)), histories_of(block(right))
    for user in left.keys() & right.keys():
        assert (first[user] == second[user]) == (left[user] == right[user])


@st.composite
def blocks(draw: st.DrawFn) -> UserBlock:
    user_ids = tuple(sorted(draw(st.sets(IDS, max_size=4))))
    item_ids = tuple(sorted(draw(st.sets(IDS, min_size=1, max_size=5))))
    entries = [sorted(draw(st.sets(st.integers(0, len(item_ids) - 1)))) for _ in user_ids]
    num = sum(map(len, entries))

    def values(of: st.SearchStrategy[float] | st.SearchStrategy[int]) -> list[float]:
        return draw(st.lists(of, min_size=num, max_size=num))

    return UserBlock(
        user_ids=user_ids,
        item_ids=item_ids,
        indptr=np.cumsum([0, *map(len, entries)], dtype=np.int64),
        items=np.array([item for items in entries for item in items], dtype=np.int32),
        weights=np.array(values(st.floats(0.5, 1e6, width=32)), dtype=np.float32),
        times=np.array(values(st.integers(0, 2**40)), dtype=np.int64),
        is_purchase=np.array(values(st.integers(0, 1)), dtype=np.bool_),
    )


@settings(deadline=None)
@given(blocks())
def test_block_comes_back_with_the_same_bytes(block: UserBlock) -> None:
    back = read_block_bytes(block_bytes(block))
    assert (back.user_ids, back.item_ids) == (block.user_ids, block.item_ids)
    assert entries_of(back) == entries_of(block)
    assert block_bytes(back) == block_bytes(block)


@settings(deadline=None)
@given(IDS, st.integers(0, 15))
def test_user_stays_where_he_was_when_blocks_double(user_id: str, power: int) -> None:
    assert block_of(user_id, 2 ** (power + 1)) // 2 == block_of(user_id, 2**power)
    assert 0 <= block_of(user_id, MAX_BLOCKS) < MAX_BLOCKS
