"""Stores a block of users as a resource in NumPy's own format, whose bytes depend on the content only.

The file is an uncompressed npz of .npy entries (NumPy Enhancement Proposal 1). Ids are joined as UTF-8, with
the end of each in a second array.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from kinds.recommendation.catalogue.interactions import UserBlock

MEDIA_TYPE = "application/x-npz"


def block_bytes(block: UserBlock) -> bytes:
    """Return the resource of a block, which takes 17 bytes per entry and the ids."""
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
