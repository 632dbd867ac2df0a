"""Who had to do with what: a block of users with their interactions, as arrays."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAX_BLOCKS = 65_536


@dataclass(frozen=True, slots=True, eq=False)
class UserBlock:
    """The users of one block with what each of them did, one entry an item; a digest names it as a resource.

    Entries of user u are indptr[u]:indptr[u + 1], ordered by item id.
    """

    user_ids: tuple[str, ...]
    """Ordered."""
    item_ids: tuple[str, ...]
    """Those that occur, ordered; `items` are positions in it."""
    indptr: npt.NDArray[np.int64]
    """(num_users + 1,)"""
    items: npt.NDArray[np.int32]
    """(num_entries,)"""
    weights: npt.NDArray[np.float32]
    """(num_entries,), positive: the sum over the events of this user and item."""
    times: npt.NDArray[np.int64]
    """(num_entries,), of the last event, seconds since 1970 UTC; 0 where the log has no times."""
    is_purchase: npt.NDArray[np.bool_]
    """(num_entries,): whether any of the events was one."""


def block_of(user_id: str, num_blocks: int) -> int:
    """Which block a user is in: by the leading bits of a hash, so that it stays when other users come.

    `num_blocks` is a power of two; with twice as many, block b becomes 2b and 2b + 1.

    >>> block_of("ann", 1), block_of("ann", 2) * 2 <= block_of("ann", 4) <= block_of("ann", 2) * 2 + 1
    (0, True)
    """
    leading = int.from_bytes(hashlib.sha256(user_id.encode()).digest()[:2], "big")
    return leading * num_blocks // MAX_BLOCKS
