"""Chooses a list from candidates: the best first, dissimilar to each other, and within the caps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.ranking.content import CATEGORY
from kinds.recommendation.ranking.rules import Rules

Codes = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Cap:
    """A limit on the items of a list that share a value."""

    max_items: int
    codes: Codes
    """(items, values): codes of an item's values, padded with -1."""


def caps_of(items: Sequence[Item], rules: Rules) -> tuple[Cap, ...]:
    """Return the caps of the rules for a catalogue; items without a value are not capped."""
    wanted = dict(rules.max_per_attribute)
    if rules.max_per_category is not None:
        wanted[CATEGORY] = min(rules.max_per_category, wanted.get(CATEGORY, rules.max_per_category))
    return tuple(Cap(most, _codes([_values(item, name) for item in items])) for name, most in wanted.items())


def _values(item: Item, name: str) -> tuple[str, ...]:
    if name == CATEGORY:
        return (item.category,) if item.category else ()
    value = item.attributes.get(name)
    if value is None:
        return ()
    return tuple(dict.fromkeys(value)) if isinstance(value, tuple) else (str(value),)


def _codes(values: Sequence[tuple[str, ...]]) -> Codes:
    code: Mapping[str, int] = {
        said: n for n, said in enumerate(sorted({one for row in values for one in row}))
    }
    codes = np.full((len(values), max(map(len, values), default=0)), -1, np.int32)
    for place, row in enumerate(values):
        codes[place, : len(row)] = [code[one] for one in row]
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
    """Choose `num` of each user's candidates one after the other; -1 where nothing is left.

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
    """Return the candidates with a value that has reached its cap; `picked` items are added to `count`."""
    codes = cap.codes[places]
    added = np.where(is_found[:, None], cap.codes[picked], -2)
    for column in range(added.shape[1]):
        count += codes == added[:, None, column, None]
    return np.asarray(((count >= cap.max_items) & (codes >= 0)).any(axis=2), np.bool_)
