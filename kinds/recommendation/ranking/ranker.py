"""Ranks items for a block of users. A ranker is built once per worker, and any thread may call it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from kinds.recommendation.catalogue.interactions import UserBlock
from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.ranking.content import (
    ItemVectors,
    content_of,
    diversity_features,
    factors_by_content,
)
from kinds.recommendation.ranking.fit import FittedModel, history_matrix, places_of
from kinds.recommendation.ranking.lists import NEW, RankedItem, UserList, segment_of
from kinds.recommendation.ranking.scores import (
    Neighbours,
    Scores,
    Terms,
    largest_parts,
    parts_of,
    reasons_of,
    score,
    sources,
    top,
)
from kinds.recommendation.ranking.selection import allowed_items, caps_of, mix, own_entries, price_limits
from kinds.recommendation.ranking.settings import RankingSettings, Rules

_MAX_CELLS = 4_000_000
"""Maximum number of cells of a dense array of scores, which takes 16 MB; several are in memory at once."""
_MAX_USERS = 256
_WIDER = 10
"""Factor by which the number of candidates is increased for users whose lists stay short because of the
caps."""

_NEARLY_WARM = 0.01
"""Share of the full content weight below which an item gets weight 0, so that most products involve few
items."""


class Ranker:
    """Model, catalogue and rules as arrays whose items are ordered by id."""

    def __init__(
        self,
        model: FittedModel,
        catalogue: Sequence[Item],
        vectors: ItemVectors | None,
        rules: Rules,
        settings: RankingSettings,
        as_of: datetime,
    ) -> None:
        """Build the arrays; `as_of` only affects availability.

        This takes seconds for 10,000 items and grows with the square of their number.
        """
        self.items = tuple(sorted(catalogue, key=lambda item: item.id))
        self.place = {item.id: number for number, item in enumerate(self.items)}
        self.rules = rules
        self.settings = settings
        self.last_event_at = model.last_event_at
        self.allowed = allowed_items(self.items, rules, as_of)
        self.prices = np.array([np.nan if item.price is None else item.price for item in self.items])
        self.categories = tuple(item.category for item in self.items)
        self.caps = caps_of(self.items, rules)
        self.features = np.zeros((len(self.items), 0), np.float32)
        if rules.diversity or settings.cold_content_weight:
            self.features = diversity_features(content_of(self.items, vectors, settings.text_share))
        self.terms = _terms(model, self.place, self.features, settings)


def rank_block(ranker: Ranker, block: UserBlock) -> list[UserList]:
    """Return the list of each user of the block, in the block's order."""
    if not ranker.items:
        return [UserList(user_id=user_id, segment=NEW, items=()) for user_id in block.user_ids]
    step = max(1, min(_MAX_USERS, _MAX_CELLS // len(ranker.items)))
    histories = history_matrix(
        block,
        ranker.place,
        max_user_items=ranker.settings.max_user_items,
        half_life_days=ranker.settings.half_life_days,
        last_event_at=ranker.last_event_at,
    )
    columns = places_of(block, ranker.place)
    own = own_entries(block, columns, len(ranker.items), ranker.rules)
    limits = price_limits(block, columns, ranker.prices, ranker.rules.price)
    lists: list[UserList] = []
    for begin in range(0, len(block.user_ids), step):
        end = begin + step
        of_users = None if limits is None else (limits[0][begin:end], limits[1][begin:end])
        lists += _rank(ranker, block.user_ids[begin:end], histories[begin:end], own[begin:end], of_users)
    return lists


def _terms(
    model: FittedModel,
    place: dict[str, int],
    features: npt.NDArray[np.float32],
    settings: RankingSettings,
) -> Terms:
    """Return the model's terms for the items of the catalogue, in the catalogue's order."""
    num_items = len(place)
    places = np.array([place.get(item_id, -1) for item_id in model.item_ids], np.int64)
    entries = model.coefficients.tocoo()
    rows, columns = places[entries.row], places[entries.col]
    kept = (rows >= 0) & (columns >= 0)
    behaviour = sp.csr_matrix((entries.data[kept], (rows[kept], columns[kept])), (num_items, num_items))
    known, is_there = places[places >= 0], places >= 0
    history, items = np.zeros((2, num_items, model.item_factors.shape[1]), np.float32)
    history[known], items[known] = model.history_factors[is_there], model.item_factors[is_there]
    users = np.zeros(num_items)
    users[known] = model.num_users_of_item[is_there]
    popularity = settings.popularity_weight * np.log1p(users) / np.log1p(max(users.max(initial=0), 1))
    is_fitted = np.asarray(items.any(axis=1), np.bool_)
    weight = _content_weights(users, is_fitted, settings)[:, None]
    history_content, item_content = np.zeros_like(history), np.zeros_like(items)
    if settings.cold_content_weight:
        history_content = factors_by_content(features, history, is_fitted, settings.content_ridge)
        history_content[is_fitted] = 0
        item_content = factors_by_content(features, items, is_fitted, settings.content_ridge)
    return Terms(
        neighbours=Neighbours.of(behaviour),
        history_factors=history,
        item_factors=items,
        history_content=history_content,
        item_content=(weight * item_content).astype(np.float32),
        popularity=popularity.astype(np.float32),
    )


def _content_weights(
    users: npt.NDArray[np.float64], is_fitted: npt.NDArray[np.bool_], settings: RankingSettings
) -> npt.NDArray[np.float64]:
    """Return the content weight of each item, which decreases with the number of its users.

    Items that are not in the model have the full weight.
    """
    coldness = np.where(is_fitted, settings.cold_users / (settings.cold_users + users), 1.0)
    coldness[coldness < _NEARLY_WARM] = 0
    return settings.cold_content_weight * coldness


def _rank(
    ranker: Ranker,
    user_ids: Sequence[str],
    histories: sp.csr_matrix,
    own: sp.csr_matrix,
    limits: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None,
) -> list[UserList]:
    user_scores = score(ranker.terms, histories)
    forbid(user_scores.total, ranker, own, limits)
    chosen, scores = _choose(ranker, user_scores.total)
    parts = parts_of(user_scores, ranker.terms.popularity, chosen)
    because = sources(ranker.terms, histories, largest_parts(parts), chosen)
    reasons = reasons_of(parts, because, chosen, ranker.items)
    segments = segments_of(histories, ranker.categories)
    ids = [item.id for item in ranker.items]
    return [
        UserList(
            user_id=user_id,
            segment=segment,
            items=tuple(
                RankedItem(item_id=ids[place], score=value, reason=reason)
                for place, value, reason in zip(row, values, why, strict=False)
            ),
        )
        for user_id, segment, row, values, why in zip(
            user_ids,
            segments,
            chosen.tolist(),
            np.round(scores.astype(float), 6).tolist(),
            reasons,
            strict=True,
        )
    ]


def forbid(
    scores: Scores,
    ranker: Ranker,
    own: sp.csr_matrix,
    limits: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None,
) -> None:
    """Set scores to -inf for items that the rules exclude and for items without any evidence."""
    # An item with users is a candidate whatever its score; one without users needs a score above 0.
    scores[(scores <= 0) & (ranker.terms.popularity == 0)] = -np.inf
    scores[:, ~ranker.allowed] = -np.inf
    scores[np.repeat(np.arange(len(scores)), np.diff(own.indptr)), own.indices] = -np.inf
    if limits is not None:
        lowest, highest = limits
        # Comparisons with NaN are false: items without a price stay.
        scores[(ranker.prices < lowest[:, None]) | (ranker.prices > highest[:, None])] = -np.inf


def _choose(ranker: Ranker, scores: Scores) -> tuple[npt.NDArray[np.int64], Scores]:
    """Return the places of each list's items, shape (users, list and reserve), and their scores.

    Lists that are too short are filled up with -1.
    """
    num = ranker.rules.list_length + ranker.rules.reserve
    num_candidates = min(max(ranker.settings.num_candidates, num), scores.shape[1])
    chosen = _mixed(ranker, scores, num_candidates, num)
    if ranker.caps and num_candidates < scores.shape[1]:
        short = np.flatnonzero(chosen[:, -1] < 0)
        if len(short):
            wider = min(num_candidates * _WIDER, scores.shape[1])
            chosen[short] = _mixed(ranker, scores[short], wider, num)
    return chosen, np.take_along_axis(scores, np.maximum(chosen, 0), 1)


def _mixed(ranker: Ranker, scores: Scores, num_candidates: int, num: int) -> npt.NDArray[np.int64]:
    places, best = top(scores, num_candidates)
    return mix(places, best, ranker.features, ranker.caps, num=num, diversity=ranker.rules.diversity)


def segments_of(histories: sp.csr_matrix, categories: Sequence[str | None]) -> list[str]:
    """Return the segment of each row of histories (users, items), given the category of each item."""
    names = sorted({category for category in categories if category})
    code = {name: column for column, name in enumerate(names)}
    codes = np.array([code.get(category or "", len(names)) for category in categories], np.int64)
    named = [*names, None]
    segments = []
    for begin, end in zip(histories.indptr[:-1], histories.indptr[1:], strict=True):
        sums = np.bincount(codes[histories.indices[begin:end]], histories.data[begin:end])
        present = np.flatnonzero(sums)
        segments.append(segment_of({named[place]: float(sums[place]) for place in present.tolist()}))
    return segments
