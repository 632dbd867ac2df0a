"""Examples of labelled files, and their split into train, dev and test in whole groups of near-duplicates.

This module does not import torch. A headline that is repeated in nearly the same words, in a different data
set or on a different day, must not be on both sides of the split, or held-out figures would measure
memorisation.
"""

from __future__ import annotations

import hashlib
import io
import math
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datasketch import MinHash, MinHashLSH

from jobs.errors import InputError
from jobs.rejection import FileRejectedError, Rejected
from jobs.text.plain import normalise
from kinds.classifier.labelled_texts import FILE_EMPTY, LABELS, LabelledText, read_labelled_texts
from kinds.classifier.training_spec import LabelledFile


class TrainingDataError(InputError):
    """A labelled file cannot be used for training."""

    code = "training_data_invalid"


@dataclass(frozen=True, slots=True)
class Example:
    """A text with its target and its true label."""

    file: int
    """Index of the file in the plan, from 0."""
    line: int
    """Number of the record's first line; examples of one record share it."""
    text: str
    """Text, normalised by jobs.text.plain."""
    target: str
    """Entity that the label is about; empty if the label is about the text as a whole."""
    label: int
    """Index of the label in LABELS."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A line that is not used as an example, and the reason."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class LabelledData:
    """The examples of a labelled file, and its skipped lines."""

    examples: tuple[Example, ...]
    skipped: tuple[Skipped, ...]


def read_labelled(body: bytes, file: LabelledFile, number: int = 0) -> LabelledData:
    """Return the examples of one file; lines without text or with an unmapped label are skipped.

    Raises TrainingDataError if the digest does not match, a column is missing, one of the labels does not
    occur, or more lines are unusable than the file's entry in the plan allows.
    """
    digest = hashlib.sha256(body).hexdigest()
    if digest != file.sha256:
        raise TrainingDataError(
            f"{file.name} has the SHA-256 {digest}, but the plan requires {file.sha256}: get the version of "
            "the file that the plan requires, or correct the plan"
        )
    examples: list[Example] = []
    skipped: list[Skipped] = []
    for row in _rows(body, file):
        if isinstance(row, Rejected):
            column = f"column {row.column!r}: " if row.column is not None else ""
            skipped.append(Skipped(row.line, column + row.reason))
        elif text := normalise(row.text):
            label = LABELS.index(row.label)
            examples.append(Example(number, row.line, text, normalise(row.target), label))
        else:
            skipped.append(Skipped(row.line, f"column {file.text!r}: has no text"))
    _check(file, examples, skipped)
    return LabelledData(tuple(examples), tuple(skipped))


def _rows(body: bytes, file: LabelledFile) -> Iterator[LabelledText | Rejected]:
    def opened(_: Path) -> io.BufferedReader:
        return io.BufferedReader(io.BytesIO(body))

    try:
        yield from read_labelled_texts(Path(file.name), file, file.options, opened)
    except FileRejectedError as error:
        refused = error.rejected
        if error.code == FILE_EMPTY:
            return
        reason = f"{refused.reason.removeprefix('is ')} ({refused.advice})"
        raise TrainingDataError(f"{file.name}, line {refused.line}: {reason}") from error


def _check(file: LabelledFile, examples: list[Example], skipped: list[Skipped]) -> None:
    num_lines = len({example.line for example in examples}) + len(skipped)
    if not num_lines:
        raise TrainingDataError(f"{file.name} contains no labelled texts: write one line for each text")
    if len(skipped) > file.max_dropped_share * num_lines or not examples:
        remedy = ", or allow it with max_dropped_share in the plan" if examples else ""
        first = f" (the first is line {skipped[0].line}, {skipped[0].reason})" if skipped else ""
        raise TrainingDataError(
            f"{file.name}: {len(skipped)} of {num_lines} lines cannot be used{first}; correct the columns or "
            f"the map{remedy}"
        )
    absent = [label for place, label in enumerate(LABELS) if all(each.label != place for each in examples)]
    if absent:
        raise TrainingDataError(
            f"{file.name}: no line is labelled {' or '.join(absent)}, but a classifier needs all classes"
        )


Part = Literal["train", "dev", "test"]

SIMILAR = 0.6
"""Minimum Jaccard similarity of character shingles at which two texts belong to one group.

Texts this similar are usually the same report with a different number or name: a hundred tweets, for example,
are of the form "Hedge Funds Are Selling X".
"""
SHINGLE_CHARACTERS = 4
NUM_PERMUTATIONS = 64
"""Number of permutations of MinHash (Broder 1997). The standard error of an estimated similarity J is
sqrt(J (1 - J) / 64), which is at most 0.0625."""
HASH_SEED = 1
"""Seed of the hashes. It is fixed, because the groups should depend only on the texts; their assignment to
parts depends on the plan's seed."""
MIN_PART = 30
"""Minimum number of examples in each part; with fewer, macro-F1 depends mostly on chance."""

_KEPT = re.compile(r"[^\w ]+")


class SplitError(InputError):
    """There are too few texts to hold some out."""

    code = "training_data_too_small"


@dataclass(frozen=True, slots=True)
class Split:
    """The examples of each part in the order of the files, and the number of groups of near-duplicates."""

    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    num_groups: int


def split_examples(examples: Sequence[Example], *, seed: int, dev_share: float, test_share: float) -> Split:
    """Assign random groups of near-duplicates to test, then to dev, until each has its share of every file.

    The remaining groups are assigned to train.

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
            f"{len(chosen['dev'])}, test {len(chosen['test'])}, train {len(chosen['train'])}, and each part "
            f"needs {MIN_PART}; give at least {needed} labelled texts that are not near-duplicates"
        )
    return Split(tuple(chosen["train"]), tuple(chosen["dev"]), tuple(chosen["test"]), len(groups))


def num_needed(*, dev_share: float, test_share: float) -> int:
    """Return how many texts without near-duplicates are needed to give each part MIN_PART of them.

    >>> num_needed(dev_share=0.1, test_share=0.2)
    300
    """
    return math.ceil(MIN_PART / min(dev_share, test_share, 1 - dev_share - test_share))


def _part(group: list[tuple[int, int]], wanted: dict[tuple[int, str], float]) -> Part:
    """Return the first part that still lacks texts from the file of the group's first text, or else "train".

    The group's texts are subtracted from `wanted`, the number of missing texts by file and part.
    """
    parts: tuple[Part, ...] = ("test", "dev")
    for part in parts:
        if wanted[group[0][0], part] > 0:
            for file, _ in group:
                wanted[file, part] -= 1
            return part
    return "train"


def near_duplicate_groups(texts: Iterable[str]) -> list[list[int]]:
    """Return groups of indices of similar texts, in the order of each group's first text.

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
