"""Measures how fast blocks are fitted and ranked, on a synthetic log with realistic tastes and popularity."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from kinds.recommendation.catalogue.interactions import UserBlock
from kinds.recommendation.catalogue.item import Item
from kinds.recommendation.ranking.fit import FittedModel, fit, history_matrix, places_of
from kinds.recommendation.ranking.ranker import Ranker, forbid, rank_block, segments_of
from kinds.recommendation.ranking.scores import largest_parts, parts_of, reasons_of, score, sources, top
from kinds.recommendation.ranking.selection import mix, own_entries
from kinds.recommendation.ranking.settings import PriceBand, RankingSettings, Rules

NUM_ITEMS = 10_000
NUM_TASTES = 20
PER_USER = 100
USERS_A_BLOCK = 1000
USERS_AT_ONCE = 250
TOP = 100
AIM = 1000.0
"""Target in users per second and process, for finding the candidates and the 100 best of them."""
_COMPARED_BLOCKS = 10

RULES = Rules(
    max_per_category=4,
    max_per_attribute={"brand": 2},
    price=PriceBand(max_ratio=3),
    blocked_categories=frozenset({"c7"}),
)
"""All kinds of rules at once, with the default diversity, lists of 10 and a reserve of 10."""

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class SyntheticBlocks:
    """Synthetic user blocks, generated anew in each iteration, so that none of them stays in memory."""

    num_blocks: int
    item_ids: tuple[str, ...]
    cumulated: npt.NDArray[np.float64]
    """(tastes, items): popularity by Zipf's law, with a taste's own items five times as likely."""

    @classmethod
    def of(cls, num_blocks: int) -> SyntheticBlocks:
        generator = np.random.default_rng(0)
        popularity = generator.permutation(1 / np.arange(1, NUM_ITEMS + 1) ** 0.7)
        own = np.arange(NUM_ITEMS) % NUM_TASTES == np.arange(NUM_TASTES)[:, None]
        likely = popularity * np.where(own, 5.0, 1.0)
        ids = tuple(f"i{number:05d}" for number in range(NUM_ITEMS))
        return cls(num_blocks, ids, np.cumsum(likely / likely.sum(axis=1, keepdims=True), axis=1))

    def __iter__(self) -> Iterator[UserBlock]:
        return (self.block(number) for number in range(self.num_blocks))

    def block(self, number: int) -> UserBlock:
        """Return a block of 1,000 users with 100 items each."""
        generator = np.random.default_rng(number + 1)
        rows = []
        for taste in generator.integers(0, NUM_TASTES, USERS_A_BLOCK).tolist():
            drawn = np.searchsorted(self.cumulated[taste], generator.random(PER_USER * 2)).clip(
                0, NUM_ITEMS - 1
            )
            _, first = np.unique(drawn, return_index=True)
            rows.append(np.sort(drawn[np.sort(first)[:PER_USER]]))
        items = np.concatenate(rows).astype(np.int32)
        indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
        return UserBlock(
            user_ids=tuple(f"u{number}-{user}" for user in range(USERS_A_BLOCK)),
            item_ids=self.item_ids,
            indptr=indptr.astype(np.int64),
            items=items,
            weights=np.ones(len(items), np.float32),
            times=generator.integers(1_700_000_000, 1_730_000_000, len(items)),
            is_purchase=np.zeros(len(items), np.bool_),
        )


def synthetic_items(item_ids: tuple[str, ...]) -> list[Item]:
    """Return items with one category for each taste, 300 brands, three colours and prices from 1 to 50."""
    colours = ("red", "green", "blue")
    return [
        Item(
            id=item_id,
            title=f"Item {number}",
            category=f"c{number % NUM_TASTES}",
            price=float(number % 50 + 1),
            attributes={"brand": f"b{number * 7 % 300}", "colour": colours[number % 3]},
        )
        for number, item_id in enumerate(item_ids)
    ]


@dataclass(slots=True)
class Clock:
    """Processor seconds of this process by stage; other load on the machine has little effect on them."""

    seconds: dict[str, float] = field(default_factory=dict)
    waited: dict[str, float] = field(default_factory=dict)
    """Wall-clock seconds by stage."""

    def timed(self, stage: str, work: Callable[[], ResultT]) -> ResultT:
        """Run the work, record its time and return its result."""
        begun, begun_at = time.process_time(), time.perf_counter()
        result = work()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.process_time() - begun
        self.waited[stage] = self.waited.get(stage, 0.0) + time.perf_counter() - begun_at
        return result


def measure_speed(num_users: int) -> dict[str, object]:
    """Fit and rank all blocks; on some of them, measure single stages and plain SciPy in turn."""
    blocks = SyntheticBlocks.of(max(1, num_users // USERS_A_BLOCK))
    items = synthetic_items(blocks.item_ids)
    settings = RankingSettings()
    clock = Clock()
    model = clock.timed("fit", lambda: fit(blocks, settings, blocks.item_ids))
    ranker = clock.timed("build", lambda: Ranker(model, items, None, RULES, settings, datetime.now(UTC)))
    stages = _by_stage(ranker, model, blocks)
    num_ranked = 0
    whole = Clock()
    for block in blocks:
        num_ranked += len(whole.timed("rank_block", partial(rank_block, ranker, block)))
    return {
        "seconds": "of processor time in all threads, unless stated otherwise",
        "num_users": num_ranked,
        "num_items": NUM_ITEMS,
        "entries_a_user": round(model.num_entries / model.num_users, 1),
        "fit_seconds": round(clock.seconds["fit"], 1),
        "ranker_seconds": round(clock.seconds["build"], 1),
        "model_megabytes": round(len(model.to_bytes()) / 2**20, 1),
        **stages,
        "whole_pipeline_users_per_second": round(num_ranked / whole.seconds["rank_block"]),
        "whole_pipeline_users_per_second_on_the_wall": round(num_ranked / whole.waited["rank_block"]),
        "load_average": os.getloadavg()[0],
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _by_stage(ranker: Ranker, model: FittedModel, blocks: SyntheticBlocks) -> dict[str, object]:
    num_blocks = min(_COMPARED_BLOCKS, blocks.num_blocks)
    clock, plain = Clock(), Clock()
    for number in range(num_blocks):
        block = blocks.block(number)
        histories = history_matrix(block, ranker.place, max_user_items=1000)
        own = own_entries(block, places_of(block, ranker.place), NUM_ITEMS, RULES)
        for begin in range(0, USERS_A_BLOCK, USERS_AT_ONCE):
            users = slice(begin, begin + USERS_AT_ONCE)
            plain.timed("plain", partial(_plain_scipy, model, histories[users]))
            _stages(ranker, histories[users], own[users], clock)
    num_users = num_blocks * USERS_A_BLOCK
    candidates = sum(clock.seconds[stage] for stage in ("score", "rules", "top"))
    waited = sum(clock.waited[stage] for stage in ("score", "rules", "top"))
    return {
        "aim_users_per_second": AIM,
        "candidates_and_top_users_per_second": round(num_users / candidates),
        "candidates_and_top_users_per_second_on_the_wall": round(num_users / waited),
        "plain_scipy_users_per_second": round(num_users / plain.seconds["plain"]),
        "times_plain_scipy": round(plain.seconds["plain"] / candidates, 2),
        "microseconds_a_user": {
            stage: round(seconds / num_users * 1e6, 1) for stage, seconds in clock.seconds.items()
        },
    }


def _plain_scipy(model: FittedModel, histories: sp.csr_matrix) -> npt.NDArray[np.int64]:
    """Rank with the most obvious code, for the same model without its low-rank part."""
    scores = (histories @ model.coefficients).toarray()
    scores[histories.nonzero()] = -np.inf
    best = np.argpartition(-scores, TOP, axis=1)[:, :TOP]
    order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
    return np.take_along_axis(best, order, 1)


def _stages(ranker: Ranker, histories: sp.csr_matrix, own: sp.csr_matrix, clock: Clock) -> None:
    """Run the stages of rank_block one after the other and discard the lists."""
    num = RULES.list_length + RULES.reserve
    scored = clock.timed("score", lambda: score(ranker.terms, histories))
    clock.timed("rules", lambda: forbid(scored.total, ranker, own, None))
    places, best = clock.timed("top", lambda: top(scored.total, TOP))
    chosen = clock.timed(
        "mix", lambda: mix(places, best, ranker.features, ranker.caps, num=num, diversity=RULES.diversity)
    )

    def explain() -> None:
        parts = parts_of(scored, ranker.terms.popularity, chosen)
        because = sources(ranker.terms, histories, largest_parts(parts), chosen)
        reasons_of(parts, because, chosen, ranker.items)

    clock.timed("reasons", explain)
    clock.timed("segments", lambda: segments_of(histories, ranker.categories))
