"""Selects lists by the rules: excludes items, and picks the best of the others, dissimilar to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from kinds.recommendation.catalogue.interactions import UserBlock
from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.ranking.content import CATEGORY
from kinds.recommendation.ranking.settings import PriceBand, Rules

Mask = npt.NDArray[np.bool_]
Prices = npt.NDArray[np.float64]
"""Prices of items; NaN for an item without a price."""

Codes = npt.NDArray[np.int32]


def allowed_items(items: Sequence[Item], rules: Rules, as_of: datetime) -> Mask:
    """Return which items are allowed on lists: available, not blocked, and within the absolute price band."""
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
    """Return a matrix (users, items) with an entry for each item that the user's own history excludes.

    The whole history counts, including entries that are too old to affect the score.
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
    """Return the lowest and the highest price for each user: ratios of the median price of the history.

    A limit is infinite if its ratio or the median is unknown. The result is None if the price band has no
    ratios.
    """
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


@dataclass(frozen=True, slots=True, eq=False)
class Cap:
    """A limit on the number of items of a list that share a value."""

    max_items: int
    codes: Codes
    """(items, values): codes of an item's values, padded with -1."""


def caps_of(items: Sequence[Item], rules: Rules) -> tuple[Cap, ...]:
    """Return the caps of the rules for a catalogue; items without a value are not capped."""
    limits = dict(rules.max_per_attribute)
    if rules.max_per_category is not None:
        limits[CATEGORY] = min(rules.max_per_category, limits.get(CATEGORY, rules.max_per_category))
    return tuple(Cap(most, _codes([_values(item, name) for item in items])) for name, most in limits.items())


def _values(item: Item, name: str) -> tuple[str, ...]:
    if name == CATEGORY:
        return (item.category,) if item.category else ()
    value = item.attributes.get(name)
    if value is None:
        return ()
    return tuple(dict.fromkeys(value)) if isinstance(value, tuple) else (str(value),)


def _codes(values: Sequence[tuple[str, ...]]) -> Codes:
    code: Mapping[str, int] = {
        value: number for number, value in enumerate(sorted({value for row in values for value in row}))
    }
    codes = np.full((len(values), max(map(len, values), default=0)), -1, np.int32)
    for place, row in enumerate(values):
        codes[place, : len(row)] = [code[value] for value in row]
    return codes


def mix(
    places: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    features: npt.NDArray[np.float32],
    caps: Sequence[Cap],
    *,
    num: int,
    diversity: float,
) -> npt.NDArray[np.int64]:
    """Choose `num` of each user's candidates one after the other; -1 if no candidate is left.

    This is MMR (Carbonell and Goldstein 1998): the next item has the largest (1 - diversity) * relevance -
    diversity * similarity to the most similar chosen item; relevance is the score scaled to [0, 1] over the
    candidates. `places` and `scores` have shape (users, candidates), best first and -inf after the last;
    `features` (items, width) has rows whose products are similarities.
    """
    users = np.arange(len(places))
    is_open = np.isfinite(scores)
    value = (1 - diversity) * _relevance(scores, is_open)
    likest = np.zeros_like(value)
    candidates = features[places] if diversity else None
    counts = [np.zeros((*places.shape, cap.codes.shape[1]), np.int32) for cap in caps]
    chosen = np.full((len(places), num), -1, np.int64)
    for step in range(min(num, places.shape[1])):
        gain = np.where(is_open, value - diversity * likest, -np.inf)
        best = gain.argmax(axis=1)
        is_found = is_open[users, best]
        picked = places[users, best]
        chosen[is_found, step] = picked[is_found]
        is_open[users, best] = False
        if candidates is not None:
            likeness = np.matmul(candidates, candidates[users, best][:, :, None])[:, :, 0]
            np.maximum(likest, likeness, out=likest)
        for cap, count in zip(caps, counts, strict=True):
            is_open &= ~_is_full(cap, count, places, picked, is_found)
    return chosen


def _relevance(scores: npt.NDArray[np.float32], is_open: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    finite = np.where(is_open, scores, np.nan)
    if not is_open.any():
        return np.zeros_like(scores)
    highest = np.max(finite, axis=1, keepdims=True, initial=-np.inf, where=is_open)
    lowest = np.min(finite, axis=1, keepdims=True, initial=np.inf, where=is_open)
    spread = highest - lowest
    spread[~(spread > 0) | ~np.isfinite(spread)] = 1
    relevance: npt.NDArray[np.float32] = np.where(
        is_open, (scores - np.where(is_open, lowest, 0)) / spread, 0
    )
    return relevance.astype(np.float32)


def _is_full(
    cap: Cap,
    count: npt.NDArray[np.int32],
    places: npt.NDArray[np.int64],
    picked: npt.NDArray[np.int64],
    is_found: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    """Add the `picked` items to `count` in place, then return which candidates have a value that has reached
    its cap."""
    codes = cap.codes[places]
    added = np.where(is_found[:, None], cap.codes[picked], -2)
    for column in range(added.shape[1]):
        count += codes == added[:, None, column, None]
    return np.asarray(((count >= cap.max_items) & (codes >= 0)).any(axis=2), np.bool_)
