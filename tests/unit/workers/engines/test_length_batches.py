"""What an encoder computes next: each item once, the oldest first, no batch over its budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.engines.length_batches import LengthBatches

BUDGET = 64
lengths = st.integers(1, 100)
arrivals = st.lists(st.one_of(lengths, st.none()), max_size=60)
"""A length arrives, or a batch is taken."""


def new_batches(step_tokens: int = 8) -> LengthBatches[int]:
    return LengthBatches(max_batch_tokens=BUDGET, step_tokens=step_tokens)


@given(arrivals, st.integers(0, 100))
def test_every_item_is_taken_once_and_the_oldest_goes_with_the_next_batch(
    events: list[int | None], step_tokens: int
) -> None:
    batches = new_batches(step_tokens)
    sizes: list[int] = []
    waiting: list[int] = []
    for event in [*events, *[None] * len(events)]:
        if event is not None:
            batches.add(event, len(sizes))
            waiting.append(len(sizes))
            sizes.append(event)
            continue
        taken = batches.take()
        if not waiting:
            assert taken == []
            continue
        assert waiting[0] in taken
        assert len(taken) == 1 or len(taken) * max(sizes[item] for item in taken) <= BUDGET
        assert [sizes[item] for item in taken] == sorted(sizes[item] for item in taken)
        waiting = [item for item in waiting if item not in taken or taken.count(item) != 1]
        assert len(batches) == len(waiting)
    assert waiting == []


def test_a_row_much_longer_than_the_others_is_computed_alone() -> None:
    batches = new_batches()
    for number, length in enumerate((3, 3, 3, 20)):
        batches.add(length, number)
    assert [batches.take(), batches.take()] == [[0, 1, 2], [3]]


def test_taking_a_batch_does_not_cut_the_others_anew() -> None:
    batches = new_batches(step_tokens=10_000)
    for number in range(30):
        batches.add(8 + number % 3, number)
    alone = new_batches(step_tokens=10_000)
    for number in range(30):
        alone.add(8 + number % 3, number)
    whole = [alone.take() for _ in range(5)]
    batches.take()
    batches.drop(lambda _: False)
    assert [batches.take() for _ in range(4)] == whole[1:]


@given(st.lists(lengths, max_size=40), st.sets(st.integers(0, 40)))
def test_what_is_dropped_is_never_taken(sizes: list[int], dead: set[int]) -> None:
    batches = new_batches()
    for number, length in enumerate(sizes):
        batches.add(length, number)
    batches.take()
    before = len(batches)
    batches.drop(lambda item: item in dead)
    assert len(batches) <= before
    rest: list[int] = []
    while batch := batches.take():
        rest += batch
    assert dead.isdisjoint(rest)
    assert len(batches) == 0
