"""The invented shop: plausible files, equal for equal seeds, and variants that change only what they name."""

from __future__ import annotations

import csv
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from examples.recommendations.shop import CATALOGUE, INTERACTIONS, REFRESH, write_shop
from kinds.recommendation.recommender_file import read_recommender_file
from tests.unit.kinds.recommendation.catalogue.files import ingest_files

write_small = partial(write_shop, num_users=300, num_items=400)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_small(folder)
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_same_seed_gives_the_same_files(shop: Path, tmp_path: Path) -> None:
    write_small(tmp_path)
    for name in (CATALOGUE, INTERACTIONS, REFRESH):
        assert (tmp_path / name).read_bytes() == (shop / name).read_bytes()


def test_shop_is_taken_in_without_a_fault(shop: Path) -> None:
    result = ingest_files(shop / CATALOGUE, shop / INTERACTIONS)
    assert result.counts == {}
    assert result.inputs.num_items == 400
    assert result.inputs.num_users == 300
    assert any(bought for *_, bought in result.entries)
    for code in ("item_unavailable", "item_without_interactions"):
        assert 0 < result.inputs.counts[code] < 200


def test_goods_read_like_goods(shop: Path) -> None:
    goods = rows(shop / CATALOGUE)
    assert len({good["title"] for good in goods}) > 0.95 * len(goods)
    assert len({good["description"] for good in goods}) > 0.5 * len(goods)
    for good in goods:
        assert good["title"].startswith(good["brand"])
        assert "{" not in good["description"]
        assert good["description"][0].isupper()
        assert float(good["price"]) > 0


def test_descriptions_name_no_material_but_the_own(shop: Path) -> None:
    goods = rows(shop / CATALOGUE)
    materials = {good["material"] for good in goods}
    for good in goods:
        named = {material for material in materials if f"made of {material}" in good["description"]}
        assert all(material in good["material"] for material in named)


def test_few_items_have_much_of_the_attention(shop: Path) -> None:
    events = rows(shop / INTERACTIONS)
    views = sorted(Counter(event["item_id"] for event in events if event["event"] == "view").values())
    assert sum(views[-40:]) > 0.3 * sum(views)
    kinds = Counter(event["event"] for event in events)
    assert kinds["view"] > 3 * kinds["cart"] > 3 * kinds["purchase"] > 0


def test_next_day_adds_to_one_user_in_a_hundred(shop: Path, tmp_path: Path) -> None:
    write_small(tmp_path, next_day=True)
    before, after = rows(shop / INTERACTIONS), rows(tmp_path / INTERACTIONS)
    assert after[: len(before)] == before
    assert len({event["user_id"] for event in after[len(before) :]}) == 3
    assert (tmp_path / CATALOGUE).read_bytes() == (shop / CATALOGUE).read_bytes()


@pytest.mark.parametrize("change", ["", "W10007", "W10007=1.50"])
def test_changed_price_changes_one_cell(shop: Path, tmp_path: Path, change: str) -> None:
    write_small(tmp_path, change_price=change)
    changed = [
        (old, new)
        for old, new in zip(rows(shop / CATALOGUE), rows(tmp_path / CATALOGUE), strict=True)
        if old != new
    ]
    ((old, new),) = changed
    assert {name for name in old if old[name] != new[name]} == {"price"}
    assert (tmp_path / INTERACTIONS).read_bytes() == (shop / INTERACTIONS).read_bytes()


def test_recommender_of_the_shop_names_its_files_and_rules(shop: Path) -> None:
    recommender = read_recommender_file(shop / REFRESH)
    assert (recommender.catalogue, recommender.interactions) == (shop / CATALOGUE, shop / INTERACTIONS)
    assert recommender.rules.max_per_attribute == {"brand": 3, "line": 3}
