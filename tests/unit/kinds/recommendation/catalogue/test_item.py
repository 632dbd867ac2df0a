"""A catalogue as a resource: items come back as they were, and the bytes depend on the content only."""

from __future__ import annotations

from datetime import UTC
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinds.recommendation.catalogue.item import Item, catalogue_bytes, read_catalogue_bytes

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
