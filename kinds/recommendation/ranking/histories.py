"""Turns histories of a block's users into rows of a sparse matrix over a fixed order of items."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from kinds.recommendation.catalogue.interactions import UserBlock

SECONDS_A_DAY = 86_400


def places_of(block: UserBlock, place: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """Return the place of each of the block's items in the order; -1 for an unknown one."""
    return np.array([place.get(item_id, -1) for item_id in block.item_ids], np.int64)


def latest_entries(
    block: UserBlock, columns: npt.NDArray[np.int64], max_user_items: int
) -> npt.NDArray[np.int64]:
    """Return the positions of each user's latest entries with a known item, in the block's order."""
    users = np.repeat(np.arange(len(block.user_ids)), np.diff(block.indptr))
    known = np.flatnonzero(columns[block.items] >= 0) if len(block.items) else np.zeros(0, np.int64)
    counts = np.bincount(users[known], minlength=len(block.user_ids))
    if counts.max(initial=0) <= max_user_items:
        return known
    # Sorted by user, latest first; equal times keep the block's order, which is that of the item ids.
    order = known[np.lexsort((known, -block.times[known], users[known]))]
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[rank < max_user_items])


def history_matrix(
    block: UserBlock,
    place: Mapping[str, int],
    *,
    max_user_items: int,
    half_life_days: float | None = None,
    last_event_at: int = 0,
) -> sp.csr_matrix:
    """Return a float32 matrix (users, len(place)): 1 for an entry, or less for an old one with a half-life.

    `last_event_at` is that of the log, so that a history has the same weight tomorrow.
    """
    columns = places_of(block, place)
    kept = latest_entries(block, columns, max_user_items)
    values = np.ones(len(kept), np.float32)
    if half_life_days is not None:
        age = np.maximum(last_event_at - block.times[kept], 0) / SECONDS_A_DAY
        values = np.exp2(-age / half_life_days).astype(np.float32)
    indptr = np.searchsorted(kept, block.indptr)
    shape = (len(block.user_ids), len(place))
    matrix = sp.csr_matrix((values, columns[block.items[kept]], indptr), shape)
    matrix.sort_indices()
    return matrix
