"""The key of a text changes with what the text used, and with nothing else."""

from __future__ import annotations

import pytest

from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.texts.text import (
    FeaturedItem,
    TextPolicy,
    TextRequest,
    TextScope,
    text_key,
    text_seed,
)

POLICY = TextPolicy()
ITEM = Item(
    id="1", title="Trail Tent", text="For two.", category="Tents", attributes={"brand": "Alder", "sku": "x"}
)


def key_of(
    item: Item = ITEM,
    *,
    audience: str = "segment:a",
    because: str | None = "Tents",
    policy: TextPolicy = POLICY,
    template: str = "t",
    model: str = "m",
) -> str:
    request = TextRequest(
        audience=audience,
        items=(FeaturedItem(item_id=item.id, row=item.part(policy.fields)),),
        because=because,
    )
    return text_key(request, policy, template, model)


@pytest.mark.parametrize(
    "other",
    [
        key_of(ITEM.model_copy(update={"title": "Trail Tent 2"})),
        key_of(ITEM.model_copy(update={"id": "2"})),
        key_of(ITEM.model_copy(update={"price": 3.0})),
        key_of(ITEM.model_copy(update={"attributes": {"brand": "Halden", "sku": "x"}})),
        key_of(because=None),
        key_of(template="t2"),
        key_of(model="m2"),
        key_of(policy=POLICY.model_copy(update={"tone": "dry"})),
        key_of(policy=POLICY.model_copy(update={"forbidden": ("cheap",)})),
        key_of(policy=POLICY.model_copy(update={"max_tries": 1})),
        key_of(policy=POLICY.model_copy(update={"max_new_tokens": 16})),
        key_of(policy=POLICY.model_copy(update={"temperature": 1.0})),
    ],
)
def test_key_changes_with_what_the_text_used(other: str) -> None:
    assert other != key_of()


@pytest.mark.parametrize(
    "other",
    [
        key_of(audience="segment:b"),
        key_of(ITEM.model_copy(update={"text": "For three."})),
        key_of(ITEM.model_copy(update={"available": False})),
        key_of(ITEM.model_copy(update={"attributes": {"brand": "Alder", "sku": "y"}})),
        key_of(policy=POLICY.model_copy(update={"scope": TextScope.ITEM})),
        key_of(policy=POLICY.model_copy(update={"featured": 5})),
        key_of(policy=POLICY.model_copy(update={"fields": (*POLICY.fields, "pages")})),
    ],
)
def test_key_stays_where_the_text_did_not_use_it(other: str) -> None:
    assert other == key_of()


def test_seed_goes_by_the_key() -> None:
    assert text_seed(key_of()) == text_seed(key_of(audience="user:x"))
    assert 0 <= text_seed("f" * 64) < 2**32
