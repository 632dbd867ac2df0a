"""Train, dev and test: by the seed alone, and no near-duplicate on two sides."""

from __future__ import annotations

import pytest

from kinds.classifier.training.data import Example
from kinds.classifier.training.split import MIN_PART, Split, SplitError, near_duplicate_groups, split_examples

WORDS = (
    *("copper", "tin", "wheat", "maize", "cotton", "rubber", "sugar", "coffee", "cocoa", "silver"),
    *("bonds", "yields", "rupee", "dollar", "euro", "banks", "steel", "autos", "drugs", "hotels"),
    *("airlines", "retail", "cement", "power", "telecom", "insurance", "shipping", "mining"),
)


def examples(number: int = 600, *, file: int = 0, copies: int = 1) -> list[Example]:
    made = []
    for n in range(number):
        text = f"{WORDS[n % 28]} {WORDS[n * 5 % 27]} {WORDS[n * 11 % 25]} {n * 7919}"
        made += [Example(file, n * copies + copy, f"{text} {copy}", "", n % 3) for copy in range(copies)]
    return made


def split(given: list[Example], *, seed: int = 1) -> Split:
    return split_examples(given, seed=seed, dev_share=0.1, test_share=0.2)


def test_near_duplicates_are_never_on_two_sides() -> None:
    drawn = split(examples(300, copies=3))
    sides: dict[str, set[str]] = {}
    for name, part in (("train", drawn.train), ("dev", drawn.dev), ("test", drawn.test)):
        for each in part:
            sides.setdefault(each.text.rpartition(" ")[0], set()).add(name)
    assert len(sides) == 300
    assert all(len(names) == 1 for names in sides.values())


def test_every_example_is_in_one_part_and_every_file_has_its_share() -> None:
    given = [*examples(600, file=0), *examples(300, file=1)]
    drawn = split(given)
    parts = [*drawn.train, *drawn.dev, *drawn.test]
    assert sorted(parts, key=lambda each: (each.file, each.line)) == given
    for file, number in ((0, 600), (1, 300)):
        tested = sum(each.file == file for each in drawn.test)
        assert 0.15 * number < tested < 0.3 * number


def test_examples_of_one_text_stay_together() -> None:
    given = [Example(0, n, each.text, target, n % 3) for n, each in enumerate(examples()) for target in "AB"]
    drawn = split(given)
    lines = [{each.line for each in part} for part in (drawn.train, drawn.dev, drawn.test)]
    assert not (lines[0] & lines[1])
    assert not (lines[0] & lines[2])
    assert not (lines[1] & lines[2])


def test_the_seed_alone_decides() -> None:
    assert split(examples()) == split(examples())
    assert split(examples()).test != split(examples(), seed=2).test


def test_too_few_texts_are_refused() -> None:
    with pytest.raises(SplitError, match=f"each needs {MIN_PART}"):
        split(examples(100))


def test_similar_texts_are_connected_through_others() -> None:
    texts = [
        "Acme Steel profit rises 12 percent in the third quarter",
        "Acme Steel profit rises 14 percent in the third quarter",
        "Rains delay the sowing of winter wheat in the north",
        "Acme Steel profit rises 14 percent in the fourth quarter",
    ]
    assert near_duplicate_groups(texts) == [[0, 1, 3], [2]]
