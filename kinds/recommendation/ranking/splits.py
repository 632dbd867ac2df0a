"""Splits a log into a known part and a part that is held out for measuring."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from jobs.errors import InputError
from kinds.recommendation.catalogue.interactions import UserBlock

Mask = npt.NDArray[np.bool_]

_USERS_A_BLOCK = 1000


class SplitInvalidError(InputError):
    """The split does not exist, or it cannot be applied to this log."""

    code = "split_invalid"


class SplitKind(StrEnum):
    """Method of choosing the held-out part."""

    RANDOM = "random"
    """A random share of all entries, regardless of the user."""
    TEMPORAL = "temporal"
    """The latest share of all entries, as a deployed system would meet them, including new users."""
    LEAVE_LAST_ONE_OUT = "leave-last-one-out"
    """The last entry of each user who has at least two."""


@dataclass(frozen=True, slots=True)
class Split:
    """A way to split, as it is written on the command line."""

    kind: SplitKind
    share: float = 0.0
    """Share of the entries that is held out; 0 for leave-last-one-out."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.share:g}" if self.share else str(self.kind)


def parse_split(text: str) -> Split:
    """Return the split that the command line names. Raises SplitInvalidError.

    >>> str(parse_split("random:0.2")), str(parse_split("leave-last-one-out"))
    ('random:0.2', 'leave-last-one-out')
    """
    name, _, number = text.partition(":")
    try:
        kind = SplitKind(name)
        share = float(number) if number else 0.0
    except ValueError as error:
        raise SplitInvalidError(_advice(text)) from error
    if (kind is SplitKind.LEAVE_LAST_ONE_OUT) == bool(number) or (number and not 0 < share < 1):
        raise SplitInvalidError(_advice(text))
    return Split(kind, share)


def _advice(text: str) -> str:
    return f"{text!r} is no way to split: say random:0.2, temporal:0.2 or leave-last-one-out"


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """All entries of some blocks, ordered by user and item."""

    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    """Sorted ids of all items."""
    users: npt.NDArray[np.int64]
    """(num_entries,): positions in user_ids; all arrays below have the same shape."""
    items: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    is_purchase: Mask


def log_of(blocks: Iterable[UserBlock]) -> Log:
    """Return the log that the blocks were made of; no user is in two of them."""
    every = list(blocks)
    item_ids = tuple(sorted({item_id for block in every for item_id in block.item_ids}))
    place = {item_id: number for number, item_id in enumerate(item_ids)}
    user_ids = tuple(user_id for block in every for user_id in block.user_ids)
    items = [np.array([place[one] for one in block.item_ids], np.int64)[block.items] for block in every]
    lengths = [np.diff(block.indptr) for block in every]
    return Log(
        user_ids,
        item_ids,
        users=np.repeat(np.arange(len(user_ids)), np.concatenate([np.zeros(0, np.int64), *lengths])),
        items=np.concatenate([np.zeros(0, np.int64), *items]),
        times=np.concatenate([np.zeros(0, np.int64), *(block.times for block in every)]),
        weights=np.concatenate([np.zeros(0, np.float32), *(block.weights for block in every)]),
        is_purchase=np.concatenate([np.zeros(0, np.bool_), *(block.is_purchase for block in every)]),
    )


def held_out(log: Log, split: Split, seed: int) -> Mask:
    """Return which entries are held out. Raises SplitInvalidError if the log lacks the times it needs."""
    num = len(log.users)
    if split.kind is SplitKind.RANDOM:
        is_held_out = np.zeros(num, bool)
        is_held_out[np.random.default_rng(seed).permutation(num)[: int(num * split.share)]] = True
        return is_held_out
    if not log.times.any():
        raise SplitInvalidError(f"the log has no times, which {split.kind} goes by: name their column")
    if split.kind is SplitKind.TEMPORAL:
        order = np.lexsort((log.items, log.users, log.times))
        return np.isin(np.arange(num), order[num - int(num * split.share) :])
    order = np.lexsort((log.items, log.times, log.users))
    is_last = np.append(np.diff(log.users[order]) != 0, True)
    has_two = np.bincount(log.users, minlength=len(log.user_ids))[log.users[order]] > 1
    return np.isin(np.arange(num), order[is_last & has_two])


def blocks_of(log: Log, kept: Mask) -> Iterator[UserBlock]:
    """Yield the kept entries as blocks, with all users of the log in its order."""
    for begin in range(0, len(log.user_ids), _USERS_A_BLOCK):
        end = min(begin + _USERS_A_BLOCK, len(log.user_ids))
        first, last = np.searchsorted(log.users, [begin, end])
        within = first + np.flatnonzero(kept[first:last])
        yield UserBlock(
            user_ids=log.user_ids[begin:end],
            item_ids=log.item_ids,
            indptr=np.searchsorted(log.users[within], np.arange(begin, end + 1)),
            items=log.items[within].astype(np.int32),
            weights=log.weights[within],
            times=log.times[within],
            is_purchase=log.is_purchase[within],
        )
