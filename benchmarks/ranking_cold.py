"""Measures the ranking of items without interactions: a tenth of the items of MovieLens-100k, held out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.ranking.content import ItemVectors
from kinds.recommendation.ranking.evaluation import Log, blocks_of
from kinds.recommendation.ranking.fit import fit
from kinds.recommendation.ranking.ranker import Ranker, rank_block
from kinds.recommendation.ranking.settings import RankingSettings, Rules

SHARE = 0.1
SEEDS = (0, 1, 2, 3, 4)
K = 10
AIM = 3.0
_RESAMPLES = 2000


def measure_cold(items: Sequence[Item], log: Log, vectors: ItemVectors | None) -> dict[str, object]:
    """Compare lists of only held-out items with random draws, and count held-out items in ordinary lists."""
    return {
        "aim": f"hit rate at least {AIM:g} times random",
        "hit_rate": "share of the held-out ratings whose item is among ten; random: any ten held-out items",
        "splits": [_measure(items, log, vectors, seed) for seed in SEEDS],
    }


def _measure(items: Sequence[Item], log: Log, vectors: ItemVectors | None, seed: int) -> dict[str, object]:
    drawn = np.random.default_rng(seed).permutation(len(log.item_ids))[: int(len(log.item_ids) * SHARE)]
    is_cold = np.zeros(len(log.item_ids), bool)
    is_cold[drawn] = True
    cold = {log.item_ids[place] for place in drawn.tolist()}
    kept = ~is_cold[log.items]
    truth: list[set[str]] = [set() for _ in log.user_ids]
    for user, item in zip(log.users[~kept].tolist(), log.items[~kept].tolist(), strict=True):
        truth[user].add(log.item_ids[item])
    blocks = list(blocks_of(log, kept))
    settings = RankingSettings()
    model = fit(blocks, settings, [item.id for item in items])

    def lists(rules: Rules) -> list[list[str]]:
        ranker = Ranker(model, items, vectors, rules, settings, datetime.now(UTC))
        ranked = [user_list for block in blocks for user_list in rank_block(ranker, block)]
        return [[item.item_id for item in user_list.items] for user_list in ranked]

    plain = Rules(list_length=K, reserve=0, diversity=0)
    warm = frozenset(item.id for item in items) - cold
    alone = lists(plain.model_copy(update={"blocked_items": warm}))
    users = [user for user, held_out_items in enumerate(truth) if held_out_items]
    hits = np.array([len(truth[user] & set(alone[user])) for user in users], float)
    num_held_out = np.array([len(truth[user]) for user in users], float)
    at_random = num_held_out * K / len(cold)
    mixed = lists(plain)
    return {
        "seed": seed,
        "num_items": len(cold),
        "num_ratings": int(num_held_out.sum()),
        "hit_rate": round(float(hits.sum() / num_held_out.sum()), 4),
        "random": round(K / len(cold), 4),
        "times_random": _ratio(hits, at_random),
        "per_user": {"recall": round(float((hits / num_held_out).mean()), 4)},
        "on_ordinary_lists": round(float(np.mean([len(set(ids) & cold) / K for ids in mixed])), 4),
        "lists_with_one": round(float(np.mean([bool(set(ids) & cold) for ids in mixed])), 4),
    }


def _ratio(hits: npt.NDArray[np.float64], at_random: npt.NDArray[np.float64]) -> dict[str, float]:
    """Return the ratio of sums with a percentile bootstrap over users."""
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, len(hits), (_RESAMPLES, len(hits)))
    ratios = hits[drawn].sum(axis=1) / at_random[drawn].sum(axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return {
        "mean": round(float(hits.sum() / at_random.sum()), 3),
        "low": round(float(low), 3),
        "high": round(float(high), 3),
    }
