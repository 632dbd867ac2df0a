"""Applies rules as masks over the catalogue: items excluded for everybody, and those excluded for a user."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from kinds.recommendation.catalogue.interactions import UserBlock
from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.ranking.rules import PriceBand, Rules

Mask = npt.NDArray[np.bool_]
Prices = npt.NDArray[np.float64]
"""Prices of items; NaN for an item without a price."""


def allowed_items(items: Sequence[Item], rules: Rules, as_of: datetime) -> Mask:
    """Return which items may be on a list: available, not blocked, and within the absolute price band."""
    return np.array(
        [
            item.is_available(as_of)
            and item.id not in rules.blocked_items
            and item.category not in rules.blocked_categories
            and _in_band(item.price, rules.price)
            for item in items
        ],
        bool,
    )


def _in_band(price: float | None, band: PriceBand) -> bool:
    if price is None:
        return True
    return (band.min is None or price >= band.min) and (band.max is None or price <= band.max)


def own_entries(
    block: UserBlock, columns: npt.NDArray[np.int64], num_items: int, rules: Rules
) -> sp.csr_matrix:
    """Return a matrix (users, items) with an entry for each item of the user's history that is excluded.

    The whole history counts, since items that are cut off for the score were bought nevertheless.
    """
    shape = (len(block.user_ids), num_items)
    if rules.exclude == "nothing":
        return sp.csr_matrix(shape, dtype=np.bool_)
    kept = columns[block.items] >= 0
    if rules.exclude == "purchased":
        kept &= block.is_purchase
    return _entries(block, columns, np.flatnonzero(kept), shape)


def _entries(
    block: UserBlock, columns: npt.NDArray[np.int64], kept: npt.NDArray[np.int64], shape: tuple[int, int]
) -> sp.csr_matrix:
    indptr = np.searchsorted(kept, block.indptr)
    return sp.csr_matrix((np.ones(len(kept), np.bool_), columns[block.items[kept]], indptr), shape)


def price_limits(
    block: UserBlock, columns: npt.NDArray[np.int64], prices: Prices, band: PriceBand
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """Return each user's lowest and highest price, by the history's median; None without such a rule."""
    if band.min_ratio is None and band.max_ratio is None:
        return None
    medians = np.full(len(block.user_ids), np.nan)
    of_entries = np.where(columns[block.items] >= 0, prices[columns[block.items]], np.nan)
    for user, (begin, end) in enumerate(zip(block.indptr[:-1], block.indptr[1:], strict=True)):
        known = of_entries[begin:end]
        known = known[~np.isnan(known)]
        if len(known):
            medians[user] = np.median(known)
    lowest = medians * band.min_ratio if band.min_ratio is not None else np.full_like(medians, np.nan)
    highest = medians * band.max_ratio if band.max_ratio is not None else np.full_like(medians, np.nan)
    return np.nan_to_num(lowest, nan=-np.inf), np.nan_to_num(highest, nan=np.inf)
