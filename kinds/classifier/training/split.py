"""Train, dev and test: drawn by the seed, in whole groups of near-duplicate texts, without torch.

A headline that another set or another day tells in nearly the same words must not stand on both sides: a
held-out figure would then measure memory.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from datasketch import MinHash, MinHashLSH

from jobs.errors import InputError
from kinds.classifier.training.data import Example

Part = Literal["train", "dev", "test"]

SIMILAR = 0.6
"""Jaccard similarity of character shingles from which two texts are one group: the same report with another
number or name, as "Hedge Funds Are Selling X" in a hundred tweets."""
SHINGLE_CHARACTERS = 4
NUM_PERMUTATIONS = 64
"""Standard error of the estimate 1 / sqrt(64) = 0.125 (Broder 1997)."""
HASH_SEED = 1
"""Fixed: the groups are a property of the texts, only the draw depends on the order's seed."""
MIN_PART = 30
"""Examples in the dev and in the test part; with fewer, a macro-F1 is chance."""

_KEPT = re.compile(r"[^\w ]+")


class SplitError(InputError):
    """There are too few texts to hold some out."""

    code = "training_data_too_small"


@dataclass(frozen=True, slots=True)
class Split:
    """The examples of each part, in the order of the files."""

    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    num_groups: int


def split_examples(examples: Sequence[Example], *, seed: int, dev_share: float, test_share: float) -> Split:
    """Draw whole groups for test, then dev, until each has its share of every file's texts; the rest trains.

    Raises SplitError if a part would have fewer than MIN_PART examples.
    """
    texts: dict[tuple[int, int], str] = {(each.file, each.line): each.text for each in examples}
    groups = near_duplicate_groups(texts.values())
    keys = list(texts)
    order = list(groups)
    random.Random(seed).shuffle(order)  # noqa: S311 - a reproducible draw
    parts: dict[tuple[int, int], Part] = {}
    wanted = {
        (file, part): share * sum(key[0] == file for key in keys)
        for file in {key[0] for key in keys}
        for part, share in (("test", test_share), ("dev", dev_share))
    }
    for group in order:
        part = _part([keys[place] for place in group], wanted)
        parts.update({keys[place]: part for place in group})
    chosen: dict[Part, list[Example]] = {"train": [], "dev": [], "test": []}
    for example in examples:
        chosen[parts[example.file, example.line]].append(example)
    if min(len(chosen["dev"]), len(chosen["test"]), len(chosen["train"])) < MIN_PART:
        needed = num_needed(dev_share=dev_share, test_share=test_share)
        raise SplitError(
            f"{len(examples)} examples in {len(groups)} groups of near-duplicates are too few: dev has "
            f"{len(chosen['dev'])}, test {len(chosen['test'])}, train {len(chosen['train'])}, each needs "
            f"{MIN_PART}; give {needed} labelled texts or more that are no near-duplicates"
        )
    return Split(tuple(chosen["train"]), tuple(chosen["dev"]), tuple(chosen["test"]), len(groups))


def num_needed(*, dev_share: float, test_share: float) -> int:
    """Texts, none a near-duplicate of another, of which each part gets MIN_PART.

    >>> num_needed(dev_share=0.1, test_share=0.2)
    300
    """
    return math.ceil(MIN_PART / min(dev_share, test_share, 1 - dev_share - test_share))


def _part(group: list[tuple[int, int]], wanted: dict[tuple[int, str], float]) -> Part:
    """Where a group goes, by the file of its first text; what it brings is taken off what is wanted."""
    parts: tuple[Part, ...] = ("test", "dev")
    for part in parts:
        if wanted[group[0][0], part] > 0:
            for file, _ in group:
                wanted[file, part] -= 1
            return part
    return "train"


def near_duplicate_groups(texts: Iterable[str]) -> list[list[int]]:
    """Places of the texts, connected where two are similar; groups in the order of their first text.

    Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, chapter 3 (MinHash, banding); candidates are
    taken as they come. About 0.3 ms a text.
    """
    index = MinHashLSH(threshold=SIMILAR, num_perm=NUM_PERMUTATIONS)
    parent: list[int] = []
    for place, text in enumerate(texts):
        signature = _signature(text)
        parent.append(place)
        for other in index.query(signature):
            low, high = sorted((_root(parent, place), _root(parent, other)))
            parent[high] = low
        index.insert(place, signature)
    groups: dict[int, list[int]] = {}
    for place in range(len(parent)):
        groups.setdefault(_root(parent, place), []).append(place)
    return list(groups.values())


def _signature(text: str) -> MinHash:
    plain = _KEPT.sub("", text.lower())
    last = max(1, len(plain) - SHINGLE_CHARACTERS + 1)
    shingles = {plain[start : start + SHINGLE_CHARACTERS].encode() for start in range(last)}
    signature = MinHash(num_perm=NUM_PERMUTATIONS, seed=HASH_SEED)
    signature.update_batch(sorted(shingles))
    return signature


def _root(parent: list[int], place: int) -> int:
    while parent[place] != place:
        parent[place] = parent[parent[place]]
        place = parent[place]
    return place
