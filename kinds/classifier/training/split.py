"""Splits examples into train, dev and test by a seed, in whole groups of near-duplicates; loads no torch.

A headline that is repeated in another data set or on another day in nearly the same words must not be on both
sides, or held-out figures would measure memory.
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
"""Minimum Jaccard similarity of character shingles at which two texts belong to one group.

Such texts are the same report with another number or name, such as "Hedge Funds Are Selling X" in a hundred
tweets.
"""
SHINGLE_CHARACTERS = 4
NUM_PERMUTATIONS = 64
"""Permutations of MinHash; the standard error of the estimate is 1 / sqrt(64) = 0.125 (Broder 1997)."""
HASH_SEED = 1
"""Seed of the hashes. It is fixed because groups are a property of the texts; only the draw depends on the
order's seed."""
MIN_PART = 30
"""Minimum number of examples in each part; with fewer, macro-F1 is a matter of chance."""

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
    """Draw whole groups for test, then dev, until each has its share of each file's texts; the rest is train.

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
    """Return how many texts without near-duplicates are needed to give each part MIN_PART of them.

    >>> num_needed(dev_share=0.1, test_share=0.2)
    300
    """
    return math.ceil(MIN_PART / min(dev_share, test_share, 1 - dev_share - test_share))


def _part(group: list[tuple[int, int]], wanted: dict[tuple[int, str], float]) -> Part:
    """Return the part for a group, by the file of its first text, and subtract its texts from `wanted`."""
    parts: tuple[Part, ...] = ("test", "dev")
    for part in parts:
        if wanted[group[0][0], part] > 0:
            for file, _ in group:
                wanted[file, part] -= 1
            return part
    return "train"


def near_duplicate_groups(texts: Iterable[str]) -> list[list[int]]:
    """Return groups of indices of similar texts, in the order of their first text.

    Two texts are in one group if a chain of similar texts connects them. The method is MinHash with banding
    (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, chapter 3); candidate pairs are accepted without
    an exact check. It takes about 0.3 ms per text.
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
