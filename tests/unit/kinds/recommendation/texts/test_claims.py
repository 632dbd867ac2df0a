"""The checker of the benchmark finds statements that the rows do not support, and accepts the others."""

from __future__ import annotations

import random

import pytest

from benchmarks.text_claims import ShopVocabulary
from examples.recommendations.goods import make_goods
from examples.recommendations.shop import LAST_DAY

ROWS = [good.row for good in make_goods(400, random.Random(1), last_day=LAST_DAY)]
VOCABULARY = ShopVocabulary(ROWS)
TARP = {
    **dict.fromkeys(ROWS[0], ""),
    "title": "Tarnvik Beacon Tarp, 3 x 4 m, deep red",
    "category": "tents",
    "brand": "Tarnvik",
    "line": "Beacon",
    "material": "ripstop nylon",
    "colour": "deep red",
    "size": "3 x 4 m",
    "price": "124.00",
    "currency": "EUR",
}
LAMP = {
    **TARP,
    "title": "Hygg Lark Table Lamp",
    "category": "lamps",
    "brand": "Hygg",
    "line": "Lark",
    "material": "brass",
    "colour": "sage",
    "size": "",
    "price": "59.95",
}


@pytest.mark.parametrize(
    "text",
    [
        "The Beacon Tarp by Tarnvik is made of ripstop nylon and comes in deep red. It costs 124 EUR.",
        "The Lark Table Lamp is made of brass, in sage, for 59.95 EUR. Look at the Beacon Tarp, in red.",
        "Two picks for you",
        "Picked because of your interest in Halden Marten Dome Tent.",
    ],
)
def test_statements_of_the_rows_are_accepted(text: str) -> None:
    because = "Halden Marten Dome Tent, 4-Person, moss green"
    assert not list(VOCABULARY.lies(text, [TARP, LAMP], because=because))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("The Beacon Tarp comes in sage.", "word"),
        ("The Beacon Tarp is made of brass.", "material"),
        ("The Beacon Tarp is made of nylon.", "material"),
        ("The Beacon Tarp by Hygg.", "maker"),
        ("The Beacon Tarp is a waterproof tarp.", "word"),
        ("The Beacon Tarp is best-selling.", "word"),
        ("The Beacon Tarp costs 59.95 EUR.", "price"),
        ("The Beacon Tarp. It costs 1,124 EUR.", "price"),
        ("The Lark Table Lamp, 40 cm.", "word"),
        ("The Lark Table Lamp for two.", "number"),
        ("Three picks for you", "number"),
        ("Two picks in lamps", "word"),
    ],
)
def test_planted_lie_is_found(text: str, kind: str) -> None:
    assert kind in {lie.kind for lie in VOCABULARY.lies(text, [TARP, LAMP])}


def test_swapped_rows_are_found() -> None:
    text = "The Beacon Tarp by Tarnvik is made of ripstop nylon."
    assert list(VOCABULARY.lies(text, [{**TARP, "brand": "Hygg", "title": "Hygg Beacon Tarp"}]))
    assert list(VOCABULARY.lies(text, [LAMP]))
