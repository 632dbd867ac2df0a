"""Each kind of false statement is refused, and true statements are accepted."""

from __future__ import annotations

import pytest

from kinds.recommendation.texts.text import TextPolicy
from tests.unit.kinds.recommendation.texts.samples import MUG, TENT, check_of


@pytest.mark.parametrize(
    "text",
    [
        "The Trail Tent by Alder is made of nylon and comes in moss green. It costs 199 EUR.",
        "Take a look at the Trail Tent, in green. You can have it for €199.",
        "Meet the trail tent, one of our tents.",
    ],
)
def test_true_blurbs_are_accepted(text: str) -> None:
    assert check_of(TENT).find_fault("blurb", text) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("The Trail Tent comes in red.", "word: red"),
        ("The Trail Tent is made of canvas.", "word: canvas"),
        ("The Trail Tent by Halden.", "word: Halden"),
        ("The Trail Tent is a waterproof tent.", "word: waterproof"),
        ("The Trail Tent is organic.", "word: organic"),
        ("The Trail Tent is handmade.", "word: handmade"),
        ("The Trail Tent is a new tent.", "word: new"),
        ("The Trail Tent is limited.", "word: limited"),
        ("The Trail Tent, the best of our tents.", "word: best"),
        ("The Trail Tent is a best-selling tent.", "word: best-selling"),
        ("The award-winning Trail Tent.", "word: award-winning"),
        ("The Trail Tent, with free shipping.", "word: free"),
        ("The Trail Tent comes with a guarantee.", "word: guarantee"),
        ("The Trail Tent at a discount.", "word: discount"),
        ("The Trail Tent for winter.", "word: winter"),
        ("The Trail Tent for children.", "word: children"),
        ("The Trail Tent from Norway.", "word: Norway"),
        ("The Trail Tent, by Anna Lind.", "word: Anna"),
        ("The Trail Tent is not made of nylon.", "word: not"),
        ("The Trail Tent was 199 EUR.", "word: was"),
        ("The Trail Tent is only 199 EUR.", "word: only"),
        ("The Trail Tent costs 19 EUR.", "number: 19"),
        ("The Trail Tent costs 199 USD.", "number: 199"),
        ("The Trail Tent costs 1199 EUR.", "number: 1199"),
        ("The Trail Tent costs 199.50 EUR.", "number: 199"),
        ("The Trail Tent is 20% of nylon.", "sign"),
        ("The Trail Tent for two.", "number: two"),
        ("The Trail Tent sleeps 2.", "word: sleeps"),
        ("The Trail Tent, size XL.", "word: size"),
        ("The Trail Tent is made of Alder.", "role"),
        ("The Trail Tent is made of moss green.", "role"),
        ("The Trail Tent by nylon.", "role"),
        ("The Trail Tent is from 199 EUR.", "role"),
        ("The Trail Tent comes with tents.", "role"),
        ("The Trail Tent is nylon-free.", "word: nylon-free"),
        ("The Trail Tent is made in Alder.", "role"),
        ("The Trail Tent, recommended by Alder.", "role"),
        ("All tents cost 199 EUR: meet the Trail Tent.", "word: All"),
        ("You have chosen the Trail Tent.", "claim"),
        ("The Trail Tent: our shop belongs to Alder.", "claim"),
        ("The Trail Tent is made of nylon, made of nylon.", "repetition"),
        ("The Trail Tent is here. The Trail Tent is here.", "repetition"),
        ("The Trail Tent is", "incomplete"),
        ("It is made of nylon.", "names nothing"),
        ("The Trail Tent: ab <b>nylon</b>.", "markup"),
        ("The Trail Tent [nylon](x).", "markup"),
        ("The Trail Tent.<|im_end|>", "markup"),
        ("As an AI, I like the Trail Tent.", "word: As"),
        ("Here is the text: Trail Tent.", "word: text"),
        ("Das Trail Tent ist aus nylon.", "word: Das"),
        ("", "empty"),
        ("The Trail Tent. " * 30, "too long"),
    ],
)
def test_what_the_row_does_not_say_is_refused(text: str, fault: str) -> None:
    assert check_of(TENT).find_fault("blurb", text) == fault


def test_headline_of_81_characters_is_too_long() -> None:
    headline = "Have a look at the Trail Tent" + " in moss green" + " for you and you and you and you and"
    assert check_of(TENT).find_fault("headline", headline[:80].strip()) is None
    assert check_of(TENT).find_fault("headline", headline.ljust(81, "u")) == "too long"


def test_forbidden_word_is_refused_anywhere() -> None:
    policy = TextPolicy(forbidden=("look",))
    assert check_of(TENT, policy=policy).find_fault("headline", "LOOK: Trail Tent") == "forbidden word"
    assert check_of(TENT, policy=policy).find_fault("headline", "It looks: Trail Tent") is None


@pytest.mark.parametrize(
    "text",
    [
        "The Trail Tent comes in red. The Kestrel Mug comes in moss green.",
        "The Trail Tent and the Kestrel Mug, made of nylon.",
        "The Trail Tent. They are made of steel.",
        "The Trail Tent goes with the Kestrel Mug. It is made of nylon.",
        "The Kestrel Mug is by Alder.",
        "The Kestrel Mug, one of our tents.",
        "The Kestrel Mug and the Trail Tent for 199 EUR.",
        "The Kestrel Mug. All for 12.50 EUR.",
    ],
)
def test_attribute_of_another_item_is_refused(text: str) -> None:
    assert check_of(TENT, MUG).find_fault("blurb", text) in ("another item's", "whose price", "word: All")


@pytest.mark.parametrize(
    "text",
    [
        "The Trail Tent comes in green. The Kestrel Mug comes in red.",
        "The Kestrel Mug is made of steel. It costs 12.50 EUR. The Trail Tent is by Alder.",
        "The Trail Tent and the Kestrel Mug. They come in moss green and red.",
    ],
)
def test_attributes_of_the_named_item_are_accepted(text: str) -> None:
    assert check_of(TENT, MUG).find_fault("blurb", text) is None


def test_group_is_named_by_categories_that_cover_it() -> None:
    check = check_of(TENT, MUG)
    assert check.find_fault("headline", "Tents and mugs for you") is None
    assert check.find_fault("headline", "Two tents for you") == "another item's"


def test_one_item_is_not_called_another() -> None:
    check = check_of(TENT, MUG, because="Birch Lamp")
    assert check.find_fault("blurb", "The Trail Tent is a Kestrel Mug.") == "identity"
    assert check.find_fault("headline", "Trail Tent by Birch Lamp") == "role"
    assert check.find_fault("headline", "Trail Tent Kestrel Mug") == "identity"


def test_number_words_count_the_items_and_nothing_else() -> None:
    check = check_of(TENT, MUG)
    assert check.find_fault("headline", "Two picks for you") is None
    assert check.find_fault("headline", "Three picks for you") == "number: Three"
    assert check.find_fault("headline", "Trail Tent comes in two") == "number: two"


def test_what_the_reason_goes_by_is_named_as_the_reason_alone() -> None:
    check = check_of(TENT, because="Birch Lamp, red")
    assert check.find_fault("reason", "Picked because of your interest in Birch Lamp.") is None
    assert check.find_fault("reason", "Because of Birch Lamp, red.") is None
    assert check.find_fault("reason", "It is a Birch Lamp.") == "role"
    assert check.find_fault("reason", "Because of Birch Lamp, in nylon.") == "another item's"


def test_items_that_share_a_title_may_each_be_spoken_of() -> None:
    check = check_of(MUG, {**MUG, "colour": "blue", "material": "clay"})
    assert check.find_fault("blurb", "The Kestrel Mug is made of clay, in blue.") is None
    assert check.find_fault("blurb", "The Kestrel Mug is made of clay, in red.") == "another item's"


def test_values_that_are_regular_expressions_or_fold_oddly_are_only_text() -> None:
    row: dict[str, object] = {"title": "C++ (3rd ed.) ıßİ", "brand": ".*"}
    check = check_of(row)
    assert check.find_fault("headline", "C++ (3rd ed.) ıßİ") is None
    assert check.find_fault("headline", "C++ (3rd ed.) by Anyone") is not None


def test_two_sentences_about_items_of_one_name_are_about_one_item() -> None:
    check = check_of(MUG, {**MUG, "colour": "blue", "price": 200.0})
    assert check.find_fault("blurb", "The Kestrel Mug comes in red. It costs 200 EUR.") == "another item's"


def test_a_group_of_one_is_no_material() -> None:
    check = check_of({"title": "Ray Reader", "category": "Glasses"})
    assert check.find_fault("blurb", "The Ray Reader comes in glass.") is not None
    assert check.find_fault("blurb", "The Ray Reader is in glasses.") is None


def test_the_plainest_word_cannot_be_forbidden() -> None:
    with pytest.raises(ValueError, match="cannot be forbidden"):
        TextPolicy(forbidden=("Here",))
