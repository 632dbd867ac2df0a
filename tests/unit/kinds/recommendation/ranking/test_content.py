"""Which text of an item is embedded, and how vectors are stored."""

from __future__ import annotations

import numpy as np

from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.ranking.content import (
    MAX_TEXT_CHARACTERS,
    ItemVectors,
    read_vectors_bytes,
    text_digest,
    text_of,
)

TENT = Item(id="1", title="Fly 2", text="For two.", category="Tents", attributes={"brand": "Alp"}, price=9.0)


def test_price_and_dates_are_no_part_of_the_text() -> None:
    changed = TENT.model_copy(update={"price": 1.0, "available": False, "currency": "EUR"})
    assert text_of(changed) == text_of(TENT) == "Fly 2. Tents. brand: Alp. For two."


def test_a_text_of_a_megabyte_is_cut() -> None:
    assert len(text_of(TENT.model_copy(update={"text": "word " * 200_000}))) <= MAX_TEXT_CHARACTERS


def test_the_same_vectors_give_the_same_bytes_in_whatever_order() -> None:
    one = ItemVectors.of({"a": [3.0, 4.0], "b": [0.0, 0.0]})
    other = ItemVectors.of({"b": [0.0, 0.0], "a": [3.0, 4.0]})
    assert one.to_bytes() == other.to_bytes()
    read = read_vectors_bytes(one.to_bytes())
    np.testing.assert_allclose(read.rows, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)


def test_only_texts_that_did_not_come_before_are_to_be_embedded() -> None:
    known = ItemVectors.of({text_digest(text_of(TENT)): [1.0, 0.0]})
    other = TENT.model_copy(update={"title": "Fly 3"})
    assert known.without(text_digest(text_of(item)) for item in (TENT, other)) == [
        text_digest(text_of(other))
    ]
    assert known.of_items([other, TENT]).tolist() == [[0.0, 0.0], [1.0, 0.0]]


def test_vectors_that_are_joined_again_keep_their_bytes() -> None:
    rows = np.random.default_rng(1).normal(size=(500, 384)).astype(np.float32)
    once = ItemVectors.of({f"{number:03}": row for number, row in enumerate(rows)})
    again = ItemVectors.of(dict(zip(once.digests, once.rows, strict=True)))
    assert again.to_bytes() == once.to_bytes()
