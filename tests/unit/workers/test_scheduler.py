"""The batching policy on its own: no request lost, none twice, slots and budget kept, order fair."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.inference import Sampling
from workers.engine import Request
from workers.prefix import MIN_PREFIX_TOKENS, PrefixIndex, common_prefix_length
from workers.scheduler import Generation, PrefillBatch, Scheduler

SHARED = tuple(range(1000, 1000 + 2 * MIN_PREFIX_TOKENS))
names = itertools.count()


def generation(*prompt_ids: int) -> Generation:
    return Generation(
        Request(
            request_id=f"r{next(names)}", prompt_ids=tuple(prompt_ids), sampling=Sampling(max_new_tokens=4)
        )
    )


def scheduler(num_slots: int = 4, max_prefill_tokens: int = 100, max_prefix_tokens: int = 1000) -> Scheduler:
    return Scheduler(
        num_slots=num_slots, max_prefill_tokens=max_prefill_tokens, max_prefix_tokens=max_prefix_tokens
    )


def plan(policy: Scheduler) -> PrefillBatch:
    batch = policy.plan_prefill()
    assert batch is not None
    return batch


def test_rows_run_in_order_of_arrival() -> None:
    policy = scheduler()
    arrivals = [generation(n) for n in range(6)]
    for arrival in arrivals:
        policy.add(arrival)
    assert [row.generation for row in plan(policy).rows] == arrivals[:4]
    assert policy.plan_prefill() is None
    assert list(policy.waiting) == arrivals[4:]


def test_budget_counts_padding() -> None:
    policy = scheduler(max_prefill_tokens=100)
    for length in (10, 40, 40):
        policy.add(generation(*range(length)))
    # Two rows of 40 columns fit a budget of 100, three do not.
    assert len(plan(policy).rows) == 2
    assert len(plan(policy).rows) == 1


def test_last_row_moves_into_a_freed_slot() -> None:
    policy = scheduler()
    rows = [generation(n, n) for n in range(3)]
    for row in rows:
        policy.add(row)
    plan(policy)
    move = policy.remove(rows[0])
    assert move is not None
    assert (move.source, move.target, move.num_tokens) == (2, 0, 2)
    assert [row.slot for row in policy.running] == [0, 1]
    assert policy.remove(rows[1]) is None


def test_shared_prefix_is_computed_once_and_copied_to_the_others() -> None:
    policy = scheduler(num_slots=4, max_prefill_tokens=400)
    rows = [generation(*SHARED, n) for n in range(3)]
    for row in rows:
        policy.add(row)
    assert [row.generation for row in plan(policy).rows] == rows[:1]
    second = plan(policy)
    assert [(row.start, row.stop) for row in second.rows] == [(len(SHARED), len(SHARED) + 1)] * 2
    assert [(save.slot, save.num_tokens) for save in second.saves] == [(0, len(SHARED))]
    assert [row.num_cached_tokens for row in rows] == [0, len(SHARED), len(SHARED)]


def test_kept_prefix_serves_a_request_that_comes_after_all_others_ended() -> None:
    policy = scheduler()
    first, second, late = (generation(*SHARED, n) for n in range(3))
    for early in (first, second):
        policy.add(early)
        plan(policy)
    for early in (first, second):
        policy.remove(early)
    policy.add(late)
    assert plan(policy).rows[0].start == len(SHARED)


def test_identical_prompts_still_compute_their_last_token() -> None:
    policy = scheduler(max_prefill_tokens=400)
    twins = [generation(*SHARED), generation(*SHARED)]
    for twin in twins:
        policy.add(twin)
        plan(policy)
    assert twins[1].num_cached_tokens == len(SHARED) - 1


def test_unrelated_request_passes_those_held_for_a_prefix() -> None:
    policy = scheduler(max_prefill_tokens=400)
    leader, follower, other = generation(*SHARED, 1), generation(*SHARED, 2), generation(5)
    for row in (leader, follower, other):
        policy.add(row)
    assert [row.generation for row in plan(policy).rows] == [leader, other]
    assert [row.generation for row in plan(policy).rows] == [follower]


def test_prompt_longer_than_the_budget_is_computed_in_chunks_between_steps() -> None:
    policy = scheduler(num_slots=2, max_prefill_tokens=40)
    short, long, last = generation(1), generation(*range(100)), generation(2)
    for row in (short, long, last):
        policy.add(row)
    assert [row.generation for row in plan(policy).rows] == [short]
    chunks = []
    for _ in range(3):
        chunk = plan(policy).rows[0]
        chunks.append((chunk.slot, chunk.start, chunk.stop, chunk.is_last))
        move = policy.prefilled(chunk)
    assert chunks == [(2, 0, 40, False), (2, 40, 80, False), (2, 80, 100, True)]
    assert move is not None
    assert (move.source, move.target, move.num_tokens) == (2, 1, 100)
    assert policy.running == [short, long]


def test_prefix_index_forgets_the_least_recently_used() -> None:
    index = PrefixIndex(max_tokens=2 * MIN_PREFIX_TOKENS)
    first, second, third = (tuple(range(n, n + MIN_PREFIX_TOKENS)) for n in (0, 100, 200))
    first_key, _ = index.add(first)
    second_key, _ = index.add(second)
    assert index.find((*first, 7)).key == first_key
    assert index.add(third)[1] == (second_key,)
    assert index.find((*second, 7)).key is None


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_common_prefix_length_is_that_of_a_walk(left: list[int], right: list[int]) -> None:
    walked = sum(
        1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    )
    assert common_prefix_length(tuple(left), tuple(right)) == walked


class Cache:
    """What the slots of a device would hold, by following the plan."""

    def __init__(self, num_slots: int) -> None:
        self.slots: list[tuple[int, ...]] = [()] * (num_slots + 1)
        self.prefixes: dict[int, tuple[int, ...]] = {}

    def apply(self, batch: PrefillBatch) -> None:
        for save in batch.saves:
            self.prefixes[save.key] = self.slots[save.slot][: save.num_tokens]
        for row in batch.rows:
            if row.prefix_key is not None:
                self.slots[row.slot] = self.prefixes[row.prefix_key][: row.start]
            assert len(self.slots[row.slot]) >= row.start
            kept = self.slots[row.slot][: row.start]
            self.slots[row.slot] = kept + row.generation.prompt_ids[row.start : row.stop]
        for key in batch.dropped_keys:
            del self.prefixes[key]


@given(
    prompts=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 120), st.integers(0, 10_000)), min_size=1, max_size=40
    ),
    num_slots=st.integers(1, 6),
    budget=st.integers(1, 200),
    max_prefix_tokens=st.sampled_from([0, 40, 100, 1000]),
    seed=st.integers(0, 1000),
)
def test_every_request_runs_once_in_a_slot_of_its_own_over_its_own_tokens(
    prompts: list[tuple[int, int, int]], num_slots: int, budget: int, max_prefix_tokens: int, seed: int
) -> None:
    policy = scheduler(num_slots, budget, max_prefix_tokens)
    draw = random.Random(seed)
    arrivals = [generation(*([group] * length), own) for group, length, own in prompts]
    to_come, finished = list(arrivals), []
    cache = Cache(num_slots)
    for _ in range(10_000):
        if not (to_come or policy.has_work):
            break
        for _ in range(draw.randint(0, 4)):
            if to_come:
                policy.add(to_come.pop(0))
        batch = policy.plan_prefill()
        if batch is not None:
            padded = len(batch.rows) * max(row.stop - row.start for row in batch.rows)
            assert padded <= budget
            cache.apply(batch)
            for row in batch.rows:
                move = policy.prefilled(row)
                if move is not None:
                    cache.slots[move.target] = cache.slots[move.source]
        assert len(policy.running) + (policy.staged is not None) <= num_slots
        assert [row.slot for row in policy.running] == list(range(len(policy.running)))
        for run in policy.running:
            assert cache.slots[run.slot] == run.prompt_ids
        for run in [run for run in policy.running if draw.random() < 0.3]:
            finished.append(run)
            move = policy.remove(run)
            if move is not None:
                cache.slots[move.target] = cache.slots[move.source][: move.num_tokens]
    assert sorted(map(id, finished)) == sorted(map(id, arrivals))


@given(st.lists(st.integers(0, 2), min_size=2, max_size=30), st.integers(1, 4))
def test_no_request_is_overtaken_by_more_than_the_slots_in_a_step(groups: list[int], num_slots: int) -> None:
    """A request is held for a prefix for one step only; then it is the first to run."""
    policy = scheduler(num_slots, 1000)
    arrivals = [generation(*([group] * 50), n) for n, group in enumerate(groups)]
    for arrival in arrivals:
        policy.add(arrival)
    order: list[Generation] = []
    while policy.has_work:
        batch = policy.plan_prefill()
        order += [row.generation for row in batch.rows] if batch is not None else []
        policy.remove(policy.running[0])
    positions = {id(row): place for place, row in enumerate(order)}
    for place, arrival in enumerate(arrivals):
        overtaking = sum(positions[id(later)] < positions[id(arrival)] for later in arrivals[place + 1 :])
        assert overtaking <= 2 * num_slots


@pytest.mark.parametrize("where", ["waiting", "staged", "running"])
def test_removed_request_leaves_nothing_behind(where: str) -> None:
    policy = scheduler(num_slots=1, max_prefill_tokens=40)
    row = generation(*range(100 if where == "staged" else 10))
    policy.add(row)
    if where != "waiting":
        plan(policy)
    policy.remove(row)
    assert not policy.has_work
    assert list(policy.generations()) == []
