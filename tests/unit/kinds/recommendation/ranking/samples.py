"""Small catalogues and logs for the tests of ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from kinds.recommendation.catalogue.interactions import UserBlock
from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.ranking.fit import fit
from kinds.recommendation.ranking.ranker import Ranker
from kinds.recommendation.ranking.settings import RankingSettings, Rules

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NUM_ITEMS = 60
NUM_USERS = 90

SETTINGS = RankingSettings(ease_lambda=5.0, rank=8, num_neighbours=20, num_candidates=20)
"""Settings for logs as small as these."""


def block_of(
    histories: Mapping[str, Sequence[str]],
    *,
    times: Mapping[tuple[str, str], int] | None = None,
    purchases: frozenset[tuple[str, str]] = frozenset(),
) -> UserBlock:
    """Return a block of users with these items."""
    users = sorted(histories)
    item_ids = sorted({item for items in histories.values() for item in items})
    place = {item: number for number, item in enumerate(item_ids)}
    pairs = [(user, item) for user in users for item in sorted(set(histories[user]))]
    lengths = [len(set(histories[user])) for user in users]
    return UserBlock(
        user_ids=tuple(users),
        item_ids=tuple(item_ids),
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.array([place[item] for _, item in pairs], np.int32),
        weights=np.ones(len(pairs), np.float32),
        times=np.array([(times or {}).get(pair, 0) for pair in pairs], np.int64),
        is_purchase=np.array([pair in purchases for pair in pairs], np.bool_),
    )


def catalogue(num_items: int = NUM_ITEMS) -> list[Item]:
    """Return items of six categories in turn, priced 1 to 20; i009, i019, ... are cold in `histories`."""
    return [
        Item(
            id=f"i{number:03d}",
            title=f"Thing {number} of kind {number % 6}",
            category=f"c{number % 6}",
            price=float(number % 20 + 1),
            attributes={"brand": f"b{number % 7}", "use": (f"u{number % 3}", f"v{number % 4}")},
        )
        for number in range(num_items)
    ]


def histories(seed: int = 0, num_users: int = NUM_USERS) -> dict[str, list[str]]:
    """Return users who mostly keep to one category; nobody has i009, i019, ..."""
    generator = np.random.default_rng(seed)
    warm = [number for number in range(NUM_ITEMS) if number % 10 != 9]
    items_of = {}
    for user in range(num_users):
        likely = np.array([6.0 if number % 6 == user % 6 else 1.0 for number in warm])
        drawn = generator.choice(warm, size=8, replace=False, p=likely / likely.sum())
        items_of[f"u{user:03d}"] = [f"i{number:03d}" for number in drawn]
    return items_of


def ranker(
    rules: Rules | None = None,
    *,
    items: Sequence[Item] | None = None,
    settings: RankingSettings = SETTINGS,
    block: UserBlock | None = None,
) -> Ranker:
    """Return a ranker fitted to the block, or to `histories()`."""
    items = catalogue() if items is None else items
    known = [block_of(histories())] if block is None else [block]
    model = fit(known, settings, [item.id for item in items])
    return Ranker(model, items, None, rules or Rules(), settings, NOW)
