"""A block of users with their interactions, as arrays and as a resource."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from kinds.recommendation.catalogue.inputs import MAX_BLOCKS

BLOCK_TYPE = "application/x-npz"


@dataclass(frozen=True, slots=True, eq=False)
class UserBlock:
    """The users of one block and their interactions, one entry per item; it is stored as a resource.

    Entries of user u are indptr[u]:indptr[u + 1], ordered by item id.
    """

    user_ids: tuple[str, ...]
    """Sorted ids of the users."""
    item_ids: tuple[str, ...]
    """Sorted ids of the items that occur; `items` contains positions in this tuple."""
    indptr: npt.NDArray[np.int64]
    """(num_users + 1,): position of each user's first entry, followed by the number of entries."""
    items: npt.NDArray[np.int32]
    """(num_entries,): position of each entry's item in `item_ids`."""
    weights: npt.NDArray[np.float32]
    """(num_entries,): sum of the weights of the user's events for the item; always positive."""
    times: npt.NDArray[np.int64]
    """(num_entries,): time of the last event in seconds since 1970 UTC; 0 if no event has a time."""
    is_purchase: npt.NDArray[np.bool_]
    """(num_entries,): whether any of the events was a purchase."""


def histories_of(block: UserBlock) -> dict[str, bytes]:
    """Return each user's history as bytes, which are equal exactly if the histories are."""
    ids = np.asarray(block.item_ids, dtype=object)
    histories = {}
    for user_id, start, stop in zip(block.user_ids, block.indptr[:-1], block.indptr[1:], strict=True):
        arrays = (block.weights, block.times, block.is_purchase)
        names = "\n".join(ids[block.items[start:stop]]).encode()
        histories[user_id] = b"\n\n".join((names, *(values[start:stop].tobytes() for values in arrays)))
    return histories


def only_users(block: UserBlock, user_ids: Collection[str]) -> UserBlock:
    """Return the block with only those of its users that are in `user_ids`."""
    chosen = set(user_ids)
    places = np.array([n for n, user_id in enumerate(block.user_ids) if user_id in chosen], np.int64)
    indptr, entries = entries_of(block.indptr, places)
    used, items = np.unique(block.items[entries], return_inverse=True)
    return UserBlock(
        user_ids=tuple(block.user_ids[place] for place in places),
        item_ids=tuple(block.item_ids[item] for item in used),
        indptr=indptr,
        items=items.astype(np.int32),
        weights=block.weights[entries],
        times=block.times[entries],
        is_purchase=block.is_purchase[entries],
    )


def entries_of(
    indptr: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the index pointer of these rows alone, and the positions of their entries.

    >>> entries_of(np.array([0, 2, 2, 5]), np.array([2, 0]))
    (array([0, 3, 5]), array([2, 3, 4, 0, 1]))
    """
    lengths = np.diff(indptr)[rows]
    of_rows = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return of_rows, np.repeat(indptr[rows] - of_rows[:-1], lengths) + np.arange(of_rows[-1])


def block_of(user_id: str, num_blocks: int) -> int:
    """Return the number of a user's block, from the leading bits of a hash of the id.

    New users therefore do not change the blocks of others. `num_blocks` is a power of two; when it is
    doubled, block b is split into blocks 2b and 2b + 1.

    >>> block_of("ann", 1), block_of("ann", 2) * 2 <= block_of("ann", 4) <= block_of("ann", 2) * 2 + 1
    (0, True)
    """
    leading = int.from_bytes(hashlib.sha256(user_id.encode()).digest()[:2], "big")
    return leading * num_blocks // MAX_BLOCKS


def block_bytes(block: UserBlock) -> bytes:
    """Return the bytes of a block's resource: 17 bytes per entry, plus the ids and their offsets."""
    users, user_ends = _joined(block.user_ids)
    items, item_ends = _joined(block.item_ids)
    file = io.BytesIO()
    np.savez(
        file,
        users=users,
        user_ends=user_ends,
        item_ids=items,
        item_ends=item_ends,
        indptr=block.indptr.astype("<i8"),
        items=block.items.astype("<i4"),
        weights=block.weights.astype("<f4"),
        times=block.times.astype("<i8"),
        is_purchase=block.is_purchase.astype(np.bool_),
    )
    return file.getvalue()


def read_block_bytes(body: bytes) -> UserBlock:
    """Return the block. Raises ValueError, KeyError or zipfile.BadZipFile if block_bytes did not write it."""
    with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
        return UserBlock(
            user_ids=_split(arrays["users"], arrays["user_ends"]),
            item_ids=_split(arrays["item_ids"], arrays["item_ends"]),
            indptr=arrays["indptr"],
            items=arrays["items"],
            weights=arrays["weights"],
            times=arrays["times"],
            is_purchase=arrays["is_purchase"],
        )


def _joined(ids: Sequence[str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    encoded = [each.encode() for each in ids]
    ends = np.cumsum([len(each) for each in encoded], dtype="<i8")
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), ends


def _split(joined: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> tuple[str, ...]:
    body = joined.tobytes()
    return tuple(body[begin:end].decode() for begin, end in pairwise([0, *ends.tolist()]))
