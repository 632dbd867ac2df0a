"""A block of users with their interactions, as arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kinds.recommendation.catalogue.options import MAX_BLOCKS


@dataclass(frozen=True, slots=True, eq=False)
class UserBlock:
    """The users of one block and their interactions, one entry per item; it is stored as a resource.

    Entries of user u are indptr[u]:indptr[u + 1], ordered by item id.
    """

    user_ids: tuple[str, ...]
    """Sorted ids of the users."""
    item_ids: tuple[str, ...]
    """Sorted ids of the items that occur; `items` are positions in it."""
    indptr: npt.NDArray[np.int64]
    """(num_users + 1,)"""
    items: npt.NDArray[np.int32]
    """(num_entries,)"""
    weights: npt.NDArray[np.float32]
    """(num_entries,), positive: the sum over the events of this user and item."""
    times: npt.NDArray[np.int64]
    """(num_entries,): time of the last event in seconds since 1970 UTC; 0 if the log has no times."""
    is_purchase: npt.NDArray[np.bool_]
    """(num_entries,): whether any of the events was a purchase."""


def histories_of(block: UserBlock) -> dict[str, bytes]:
    """Return each user's history as bytes, which are equal exactly if the histories are."""
    ids = np.asarray(block.item_ids, dtype=object)
    found = {}
    for user_id, start, stop in zip(block.user_ids, block.indptr[:-1], block.indptr[1:], strict=True):
        arrays = (block.weights, block.times, block.is_purchase)
        names = "\n".join(ids[block.items[start:stop]]).encode()
        found[user_id] = b"\n\n".join((names, *(values[start:stop].tobytes() for values in arrays)))
    return found


def only_users(block: UserBlock, user_ids: Collection[str]) -> UserBlock:
    """Return the block with only these of its users."""
    wanted = set(user_ids)
    places = np.array([n for n, user_id in enumerate(block.user_ids) if user_id in wanted], np.int64)
    lengths = np.diff(block.indptr)[places]
    kept = np.repeat(block.indptr[places] - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    used, items = np.unique(block.items[kept], return_inverse=True)
    return UserBlock(
        user_ids=tuple(block.user_ids[place] for place in places),
        item_ids=tuple(block.item_ids[item] for item in used),
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=items.astype(np.int32),
        weights=block.weights[kept],
        times=block.times[kept],
        is_purchase=block.is_purchase[kept],
    )


def block_of(user_id: str, num_blocks: int) -> int:
    """Return a user's block, by the leading bits of a hash so that new users do not change it.

    `num_blocks` is a power of two; when it is doubled, block b is split into 2b and 2b + 1.

    >>> block_of("ann", 1), block_of("ann", 2) * 2 <= block_of("ann", 4) <= block_of("ann", 2) * 2 + 1
    (0, True)
    """
    leading = int.from_bytes(hashlib.sha256(user_id.encode()).digest()[:2], "big")
    return leading * num_blocks // MAX_BLOCKS
