"""The difference between two releases: whose list differs, and the causes as far as they are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.export.comparison import block_pairs
from kinds.recommendation.export.diff import compare_releases
from kinds.recommendation.ranking.settings import PriceBand, Rules
from kinds.recommendation.release import ReleaseReader
from kinds.recommendation.texts.text import TextPolicy, TextScope
from tests.unit.kinds.recommendation.export.samples import AT, Shelf, item, make_release, text, user_list

ITEMS = {name: item(name) for name in "abcdefgh"}
RULES = Rules(list_length=3, reserve=2)


def compare(before: ReleaseReader, after: ReleaseReader, folder: Path) -> dict[str, dict[str, Any]]:
    """Lines by user or audience; the summary under ""."""
    compare_releases(before, after, folder)
    lines = [json.loads(line) for line in (folder / "diff.jsonl").read_text().split("\n") if line]
    summary = json.loads((folder / "diff.json").read_text())
    return {"": summary} | {line.get("user") or line["audience"]: line for line in lines}


def places(line: Mapping[str, Any]) -> dict[str, tuple[str, list[str]]]:
    return {place["item"]: (place["change"], place["why"]) for place in line["items"]}


def release(*lists: str, items: Mapping[str, Item] = ITEMS, **fields: Any) -> ReleaseReader:
    """Each list is "user:items"."""
    parsed = [user_list(one.partition(":")[0], *one.partition(":")[2]) for one in lists]
    fields = {"rules": RULES, "policy": TextPolicy(scope=TextScope.NONE)} | fields
    return make_release(fields.pop("shelf", None) or Shelf(), parsed, list(items.values()), **fields)


def test_same_release_has_no_difference_and_reads_no_list(tmp_path: Path) -> None:
    shelf = Shelf()
    one = release("ann:abc", "bob:def", shelf=shelf, num_blocks=4)
    found = compare(one, one, tmp_path)
    assert list(found) == [""]
    assert (found[""]["num_users_same"], found[""]["num_users_changed"]) == (2, 0)
    assert shelf.num_read == 1  # the catalogue
    assert "There is no difference" in (tmp_path / "diff.html").read_text()


CERTAIN: dict[str, tuple[Callable[[], ReleaseReader], str]] = {
    "gone": (
        lambda: release("ann:bcd", items={n: one for n, one in ITEMS.items() if n != "a"}),
        "no longer in the catalogue",
    ),
    "unavailable": (
        lambda: release("ann:bcd", items=ITEMS | {"a": item("a", available=False)}),
        "no longer available",
    ),
    "expired": (
        lambda: release("ann:bcd", items=ITEMS | {"a": item("a", available_until=AT - timedelta(days=1))}),
        "no longer available",
    ),
    "blocked": (
        lambda: release("ann:bcd", rules=RULES.model_copy(update={"blocked_items": frozenset("a")})),
        "blocked by a rule",
    ),
    "own": (lambda: release("ann:bcd", history={"ann": ["a"]}), "the user interacted with it since"),
    "price": (
        lambda: release(
            "ann:bcd",
            items=ITEMS | {"a": item("a", price=500)},
            rules=RULES.model_copy(update={"price": PriceBand(max=200)}),
        ),
        "price changed",
    ),
}


@pytest.mark.parametrize("case", CERTAIN)
def test_item_that_left_has_the_one_cause_that_is_certain(case: str, tmp_path: Path) -> None:
    make, cause = CERTAIN[case]
    found = places(compare(release("ann:abc"), make(), tmp_path)["ann"])
    assert found["a"] == ("removed", [cause])
    assert found["d"][0] == "added"
    assert found["d"][1][0] == "fills the place of a removed item"
    assert set(found) == {"a", "d"}, "those that moved up have not moved"


def test_item_new_in_the_catalogue_is_named_as_the_cause(tmp_path: Path) -> None:
    before = release("ann:abc", items={n: one for n, one in ITEMS.items() if n != "h"})
    found = places(compare(before, release("ann:hab"), tmp_path)["ann"])
    assert found["h"] == ("added", ["new in the catalogue"])
    assert found["c"] == ("removed", ["other items of the catalogue changed"])


def test_item_available_again_is_named_as_the_cause(tmp_path: Path) -> None:
    before = release("ann:abc", items=ITEMS | {"h": item("h", available=False)})
    assert places(compare(before, release("ann:hab"), tmp_path)["ann"])["h"] == ("added", ["available again"])


def test_new_interactions_are_a_cause_for_their_user_only(tmp_path: Path) -> None:
    before = release("ann:abc", "bob:abc", history={"ann": ["g"], "bob": ["g"]})
    after = release("ann:abd", "bob:abe", history={"ann": ["h", "g"], "bob": ["g"]}, model="refitted")
    found = compare(before, after, tmp_path)
    assert places(found["ann"])["d"] == ("added", ["their interactions changed", "model refitted"])
    assert places(found["bob"])["e"] == ("added", ["model refitted"])


def test_unknown_cause_is_not_invented(tmp_path: Path) -> None:
    assert places(compare(release("ann:abc"), release("ann:abd"), tmp_path)["ann"])["d"] == (
        "added",
        ["unknown"],
    )


def test_order_among_those_that_stayed_is_what_moves(tmp_path: Path) -> None:
    found = compare(release("ann:abc"), release("ann:bac", model="refitted"), tmp_path)
    assert places(found["ann"]) == {"a": ("moved", ["model refitted"]), "b": ("moved", ["model refitted"])}
    assert found[""]["num_moved"] == 2


@pytest.mark.parametrize(("num_before", "num_after"), [(1, 1), (2, 8), (8, 2), (4, 4)])
def test_users_are_matched_whatever_the_number_of_blocks(
    num_before: int, num_after: int, tmp_path: Path
) -> None:
    before = release(*(f"u{n}:abc" for n in range(40)), num_blocks=num_before)
    after = release(
        *(f"u{n}:{'abd' if n % 5 == 0 else 'abc'}" for n in range(2, 43)),
        num_blocks=num_after,
        model="refitted",
    )
    found = compare(before, after, tmp_path)
    summary = found.pop("")
    assert {name for name, line in found.items() if line["change"] == "changed"} == {
        f"u{n}" for n in range(5, 40, 5)
    }
    assert {name for name, line in found.items() if line["change"] == "new"} == {"u40", "u41", "u42"}
    assert {name for name, line in found.items() if line["change"] == "gone"} == {"u0", "u1"}
    assert (summary["num_users_before"], summary["num_users_after"], summary["num_users_same"]) == (
        40,
        41,
        31,
    )


def test_pairs_cover_every_block_once() -> None:
    for num_before, num_after in [(1, 1), (1, 16), (16, 4)]:
        pairs = list(block_pairs(num_before, num_after))
        assert [n for pair in pairs for n in pair.before] == list(range(num_before))
        assert [n for pair in pairs for n in pair.after] == list(range(num_after))


def test_texts_are_new_changed_carried_or_gone_with_the_reason(tmp_path: Path) -> None:
    shelf = Shelf()
    old = {
        "segment:boots": shelf.entry("1", ["a"], text("Boots")),
        "segment:lamps": shelf.entry("2", ["b"], text("Lamps")),
        "segment:stoves": shelf.entry("3", ["c"], text("Stoves")),
        "segment:tents": shelf.entry("4", ["d"], text("Tents")),
    }
    new = {
        "segment:boots": old["segment:boots"],
        "segment:lamps": shelf.entry("5", ["b"], text("Lamps, cheaper")),
        "segment:new": shelf.entry("6", ["a"], None),
        "segment:tents": shelf.entry("7", ["e"], text("Other tents")),
    }
    policy = TextPolicy(scope=TextScope.SEGMENT)
    before = release("ann:abc", shelf=shelf, index=old, policy=policy)
    cheaper = ITEMS | {"b": item("b", price=1)}
    after = release("ann:abc", shelf=shelf, index=new, policy=policy, items=cheaper)
    found = compare(before, after, tmp_path)
    summary = found.pop("")
    assert {name: (line["change"], line["why"]) for name, line in found.items()} == {
        "segment:lamps": ("changed", "an item's row"),
        "segment:new": ("new", "new audience"),
        "segment:stoves": ("gone", "audience no longer exists"),
        "segment:tents": ("changed", "other items"),
    }
    assert found["segment:lamps"]["before"]["headline"] == "Lamps"
    assert found["segment:lamps"]["after"]["headline"] == "Lamps, cheaper"
    assert found["segment:new"]["after"]["text_origin"] == "template"
    assert summary["num_texts_carried"] == 1
    assert summary["catalogue"]["num_price_changed"] == 1


def test_texts_of_users_are_compared_across_blocks(tmp_path: Path) -> None:
    shelf = Shelf()
    policy = TextPolicy(scope=TextScope.USER)
    old = {f"user:u{n}": shelf.entry(f"{n}", ["a"], text(f"{n}")) for n in range(20)}
    new = old | {"user:u7": shelf.entry("other", ["b"], text("other"))}
    lists = [f"u{n}:abc" for n in range(20)]
    for num_blocks in (2, 4):
        before = release(*lists, shelf=shelf, index=old, policy=policy, num_blocks=2)
        after = release(*lists, shelf=shelf, index=new, policy=policy, num_blocks=num_blocks)
        found = compare(before, after, tmp_path)
        assert found.pop("")["num_texts_carried"] == 19
        assert {name: line["why"] for name, line in found.items()} == {"user:u7": "other items"}


def test_longer_lists_are_no_rule_change_of_each_item(tmp_path: Path) -> None:
    longer = release("ann:abcde", rules=Rules(list_length=4, reserve=1))
    found = places(compare(release("ann:abcde"), longer, tmp_path)["ann"])
    assert found == {"d": ("added", ["list length changed"])}


def test_most_changed_items_and_causes_are_counted(tmp_path: Path) -> None:
    before = release("ann:abc", "bob:abd", "cy:bcd")
    after = release("ann:bcd", "bob:bdc", "cy:bcd", items=ITEMS | {"a": item("a", available=False)})
    summary = compare_releases(before, after, tmp_path)
    assert (summary.num_users_changed, summary.num_users_same) == (2, 1)
    assert {"change": "removed", "why": ["no longer available"], "places": 2} in summary.causes
    assert "2 of 3 users see a different list" in str(summary)
