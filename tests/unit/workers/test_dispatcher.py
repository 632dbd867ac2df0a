"""Places in a queue: bounded, wanted, by priority, and even between tenants."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from db.dispatch import Capacity, Demand
from workers.dispatcher import (
    AHEAD_SECONDS,
    MAX_WINDOW_JOBS,
    MIN_WINDOW_JOBS,
    WINDOW_FACTOR,
    allocate,
    shard_size,
    window,
)


def demand(number: int, *, unsent: int, sent: int = 0, tenant: str = "a", priority: int = 0) -> Demand:
    return Demand(UUID(int=number), tenant, priority, None, sent, unsent)


demands = st.lists(
    st.builds(
        lambda tenant, priority, sent, unsent: (tenant, priority, sent, unsent),
        st.sampled_from("abc"),
        st.integers(-1, 1),
        st.integers(0, 20),
        st.integers(0, 50),
    ),
    max_size=8,
).map(
    lambda rows: [
        demand(n, tenant=tenant, priority=priority, sent=sent, unsent=unsent)
        for n, (tenant, priority, sent, unsent) in enumerate(rows)
    ]
)
places = st.integers(0, 100)


@given(demands, places)
def test_never_more_than_the_places_and_never_more_than_wanted(some: list[Demand], free: int) -> None:
    shares = allocate(some, free)
    assert shares.keys() == {d.batch_id for d in some}
    assert sum(shares.values()) <= free
    assert all(0 <= shares[d.batch_id] <= d.num_unsent for d in some)


@given(demands, places)
def test_no_place_stays_empty_while_somebody_wants_it(some: list[Demand], free: int) -> None:
    fresh = [demand(n, unsent=d.num_unsent, tenant=d.tenant, priority=d.priority) for n, d in enumerate(some)]
    assert sum(allocate(fresh, free).values()) == min(free, sum(d.num_unsent for d in fresh))


@given(demands, places)
def test_a_lower_priority_gets_nothing_while_a_higher_one_goes_without(some: list[Demand], free: int) -> None:
    fresh = [demand(n, unsent=d.num_unsent, tenant=d.tenant, priority=d.priority) for n, d in enumerate(some)]
    shares = allocate(fresh, free)
    unserved = [d.priority for d in fresh if shares[d.batch_id] < d.num_unsent]
    if unserved:
        assert all(shares[d.batch_id] == 0 for d in fresh if d.priority < max(unserved))


def test_a_newcomer_gets_its_share_although_the_window_is_full_of_another() -> None:
    shares = allocate([demand(1, sent=60, unsent=60), demand(2, unsent=60, tenant="b")], 60)
    assert shares == {UUID(int=1): 0, UUID(int=2): 30}


def test_tenants_share_evenly_whatever_the_number_of_their_batches() -> None:
    shares = allocate(
        [
            demand(1, unsent=100, tenant="a"),
            demand(2, unsent=100, tenant="a"),
            demand(3, unsent=100, tenant="a"),
            demand(4, unsent=100, tenant="b"),
        ],
        60,
    )
    assert shares == {UUID(int=1): 10, UUID(int=2): 10, UUID(int=3): 10, UUID(int=4): 30}


def test_what_one_tenant_does_not_want_goes_to_the_others() -> None:
    shares = allocate([demand(1, unsent=3), demand(2, unsent=100, tenant="b")], 60)
    assert shares == {UUID(int=1): 3, UUID(int=2): 57}


def test_a_higher_priority_is_served_first() -> None:
    shares = allocate([demand(1, unsent=50), demand(2, unsent=50, priority=1, tenant="b")], 60)
    assert shares == {UUID(int=1): 10, UUID(int=2): 50}


def test_the_window_follows_the_workers_and_has_a_floor() -> None:
    assert window(Capacity(0, 0)) == MIN_WINDOW_JOBS
    assert window(Capacity(2, 1000)) == WINDOW_FACTOR * 1000


def test_the_window_grows_while_jobs_end_quickly_and_is_bounded() -> None:
    assert window(Capacity(1, 4), 10 * MIN_WINDOW_JOBS) == 10 * MIN_WINDOW_JOBS * AHEAD_SECONDS
    assert window(Capacity(1, 4), 1.0) == MIN_WINDOW_JOBS
    assert window(Capacity(1, 4), 10**7) == MAX_WINDOW_JOBS
    assert window(Capacity(1, 10**5), 10**7) == WINDOW_FACTOR * 10**5


@given(st.integers(0, 10**7), st.integers(0, 100), st.integers(1, 1000))
def test_shards_are_never_empty_and_never_too_large(queued: int, workers: int, at_most: int) -> None:
    assert 1 <= shard_size(queued, workers, at_most=at_most) <= at_most
