"""Resources: what goes in comes out, and bytes follow the content alone."""

from __future__ import annotations

from datetime import UTC
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinds.recommendation.catalogue.inputs import MAX_BLOCKS
from kinds.recommendation.catalogue.interactions import UserBlock, block_bytes, block_of, read_block_bytes
from kinds.recommendation.catalogue.item import Item, catalogue_bytes, read_catalogue_bytes
from tests.unit.kinds.recommendation.catalogue.files import entries_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
IDS = TEXTS.filter(bool)
VALUES = (
    TEXTS
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.lists(TEXTS, max_size=3).map(tuple)
)
MOMENTS = st.none() | st.datetimes(timezones=st.just(UTC))
ITEMS = st.builds(
    Item,
    id=IDS,
    title=IDS,
    text=TEXTS,
    category=st.none() | TEXTS,
    attributes=st.dictionaries(TEXTS, VALUES, max_size=4),
    price=st.none() | st.floats(0, 1e9),
    currency=st.none() | TEXTS,
    available=st.booleans(),
    available_from=MOMENTS,
    available_until=MOMENTS,
)
CATALOGUES = st.lists(ITEMS, max_size=5, unique_by=lambda item: item.id)


@settings(deadline=None)
@given(CATALOGUES)
def test_catalogue_comes_back_ordered_by_id(items: list[Item]) -> None:
    assert list(read_catalogue_bytes(catalogue_bytes(items))) == sorted(items, key=lambda item: item.id)


@settings(deadline=None)
@given(CATALOGUES, st.randoms())
def test_catalogue_has_the_same_bytes_in_any_order(items: list[Item], random: Random) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)
    assert catalogue_bytes(shuffled) == catalogue_bytes(items)


@settings(deadline=None)
@given(CATALOGUES.filter(bool))
def test_item_has_the_same_digest_after_a_round_trip(items: list[Item]) -> None:
    back = read_catalogue_bytes(catalogue_bytes(items))
    assert {item.sha256 for item in back} == {item.sha256 for item in items}


def test_catalogue_with_two_items_of_one_id_is_not_written() -> None:
    with pytest.raises(ValueError, match="'a'"):
        catalogue_bytes([Item(id="a", title="x"), Item(id="a", title="y")])


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
