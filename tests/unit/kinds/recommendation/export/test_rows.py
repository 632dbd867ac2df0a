"""Rows hold what a user gets, also after items were withdrawn and where a text is missing."""

from __future__ import annotations

import pytest

from kinds.recommendation.export.rows import Row, reason_words, rows
from kinds.recommendation.ranking.lists import Reason, ReasonKind
from kinds.recommendation.release import recent_items
from kinds.recommendation.texts.text import TextPolicy, TextScope
from tests.unit.kinds.recommendation.export.samples import (
    Shelf,
    item,
    make_release,
    text,
    user_block,
    user_list,
)

ITEMS = [item(name) for name in "abcdef"]


def _only(made: list[Row]) -> Row:
    (row,) = made
    return row


def test_every_user_gets_one_row_with_the_shown_items() -> None:
    release = make_release(Shelf(), [user_list("bob", "a", "b", "c", "d"), user_list("ann", "c")], ITEMS)
    assert [(row.user_id, [one.item_id for one in row.items]) for row in rows(release)] == [
        ("ann", ["c"]),
        ("bob", ["a", "b", "c"]),
    ]


def test_withdrawn_item_is_gone_and_the_reserve_moves_up() -> None:
    release = make_release(Shelf(), [user_list("ann", "a", "b", "c", "d")], ITEMS, withdrawn=frozenset({"a"}))
    assert [(one.rank, one.item_id) for one in _only(list(rows(release))).items] == [
        (1, "b"),
        (2, "c"),
        (3, "d"),
    ]


def test_text_that_names_a_withdrawn_item_is_replaced_by_plain_words_without_it() -> None:
    shelf = Shelf()
    index = {"segment:tents": shelf.entry("k", ["a", "b"], text("Item a and Item b"))}
    lists = [user_list("ann", "a", "b", "c")]
    assert _only(list(rows(make_release(shelf, lists, ITEMS, index=index)))).text == text("Item a and Item b")
    words = _only(list(rows(make_release(shelf, lists, ITEMS, index=index, withdrawn=frozenset("a"))))).text
    assert words is not None
    assert words.origin == "template"
    assert "Item a" not in words.model_dump_json()
    assert "Item b" in words.headline + words.blurb


@pytest.mark.parametrize("scope", [TextScope.USER, TextScope.SEGMENT, TextScope.ITEM])
def test_audience_whose_job_failed_gets_the_plain_template(scope: TextScope) -> None:
    shelf = Shelf()
    name = {TextScope.USER: "ann", TextScope.SEGMENT: "tents", TextScope.ITEM: "a"}[scope]
    index = {f"{scope.value}:{name}": shelf.entry("k", ["a"], None)}
    policy = TextPolicy(scope=scope)
    row = _only(list(rows(make_release(shelf, [user_list("ann", "a")], ITEMS, policy=policy, index=index))))
    words = row.items[0].text if scope is TextScope.ITEM else row.text
    assert words is not None
    assert words.origin == "template"
    assert "Item a" in words.headline + words.blurb


def test_each_scope_puts_its_text_where_it_belongs() -> None:
    shelf = Shelf()
    index = {
        "user:ann": shelf.entry("u", ["a"], text("For Ann")),
        "segment:tents": shelf.entry("s", ["a"], text("For campers")),
        "item:a": shelf.entry("i", ["a"], text("About A")),
    }

    def made(scope: TextScope) -> tuple[object, object]:
        policy = TextPolicy(scope=scope)
        row = _only(
            list(rows(make_release(shelf, [user_list("ann", "a")], ITEMS, policy=policy, index=index)))
        )
        return row.as_json()["headline"], row.items[0].text

    assert made(TextScope.USER) == ("For Ann", None)
    assert made(TextScope.SEGMENT) == ("For campers", None)
    assert made(TextScope.ITEM) == (None, text("About A"))
    assert made(TextScope.NONE) == (None, None)


def test_user_without_any_item_left_has_a_row_without_words() -> None:
    shelf = Shelf()
    index = {"user:ann": shelf.entry("u", ["a"], text("For Ann"))}
    policy = TextPolicy(scope=TextScope.USER)
    lists = [user_list("ann", "a")]
    release = make_release(shelf, lists, ITEMS, policy=policy, index=index, withdrawn=frozenset("a"))
    row = _only(list(rows(release)))
    assert (row.items, row.text) == ((), None)


def test_texts_are_looked_up_once_and_not_once_a_user() -> None:
    shelf = Shelf()
    index = {"segment:tents": shelf.entry("k", ["a"], text("Tents"))}
    release = make_release(
        shelf, [user_list(f"u{n}", "a") for n in range(50)], ITEMS, num_blocks=8, index=index
    )
    assert {row.text.headline for row in rows(release) if row.text} == {"Tents"}
    assert shelf.num_requested == [1]


def test_more_texts_than_are_kept_are_all_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinds.recommendation.export.rows.MAX_CACHED_TEXTS", 2)
    shelf = Shelf()
    index = {f"item:{name}": shelf.entry(name, [name], text(name.upper())) for name in "abcdef"}
    lists = [user_list(f"u{n}", *"abcdef"[n % 4 : n % 4 + 3]) for n in range(20)]
    policy = TextPolicy(scope=TextScope.ITEM)
    release = make_release(shelf, lists, ITEMS, num_blocks=8, index=index, policy=policy)
    made = list(rows(release))
    assert len(made) == 20
    assert all(one.text and one.text.headline == one.item_id.upper() for row in made for one in row.items)


def test_item_that_the_catalogue_does_not_know_is_shown_by_its_id() -> None:
    (row,) = rows(make_release(Shelf(), [user_list("ann", "a", "ghost")], ITEMS))
    assert [one.title for one in row.items] == ["Item a", "ghost"]


@pytest.mark.parametrize("kind", ReasonKind)
@pytest.mark.parametrize("because", [None, "a", "ghost"])
@pytest.mark.parametrize("attribute", [None, "category", "brand", "shiny", "nothing"])
def test_every_reason_is_a_sentence_without_gaps(
    kind: ReasonKind, because: str | None, attribute: str | None
) -> None:
    known = {
        one.id: one
        for one in [
            item("a", attributes={"brand": "Fell & Co"}),
            item("b", attributes={"shiny": True, "brand": "Fell & Co"}),
        ]
    }
    words = reason_words(Reason(kind=kind, because=because, attribute=attribute), "b", known)
    assert words.endswith(".")
    assert "None" not in words
    assert "True" not in words
    assert ("“Item a”" in words) == (because == "a" and kind is not ReasonKind.POPULAR)


def test_shared_attribute_is_named_with_its_value_only_where_both_have_it() -> None:
    known = {
        one.id: one
        for one in [
            item("a", attributes={"brand": "Fell"}),
            item("b", attributes={"brand": "Fell"}),
            item("c", attributes={"brand": "Tor"}),
        ]
    }
    reason = Reason(kind=ReasonKind.CONTENT, because="a", attribute="brand")
    assert reason_words(reason, "b", known) == (
        "Similar to “Item a”, which you were interested in: the same brand, Fell."
    )
    assert "the same" not in reason_words(reason, "c", known)


def test_recent_items_are_the_newest_first_and_of_this_user() -> None:
    block = user_block({"ann": ["c", "a", "b"], "bob": ["a"], "cy": []})
    assert recent_items(block, "ann") == ("c", "a", "b")
    assert recent_items(block, "ann", limit=1) == ("c",)
    assert recent_items(block, "cy") == recent_items(block, "zed") == ()
