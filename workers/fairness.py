"""Shares the places in a queue between batches: by priority, then evenly by tenant and batch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from uuid import UUID

from db.dispatch import Capacity, Demand

WINDOW_FACTOR = 3
"""Messages in the queue per job that the live workers hold. The queue never runs dry, and a later batch waits
only a little."""

MIN_WINDOW_JOBS = 64
"""Window of a queue whose workers are still loading."""

SHARDS_PER_WORKER = 8
"""Minimum messages per worker into which a backlog is divided, so that workers finish at about the same time.
"""


def window(capacity: Capacity) -> int:
    """Return how many jobs of a queue may be sent and not yet claimed."""
    return max(MIN_WINDOW_JOBS, WINDOW_FACTOR * capacity.max_jobs_in_flight)


def shard_size(num_queued: int, num_workers: int, *, at_most: int) -> int:
    """Return the job ids per message: many while the backlog is long, one near its end.

    >>> shard_size(10_000, 2, at_most=16), shard_size(20, 2, at_most=16)
    (16, 1)
    """
    return max(1, min(at_most, num_queued // (SHARDS_PER_WORKER * max(1, num_workers))))


def allocate(demands: Sequence[Demand], places: int) -> dict[UUID, int]:
    """Return how many more jobs of each batch to send so that the window is shared fairly.

    Batches of a higher priority are served first. Within a priority, the places are dealt one round at a time
    over tenants, and within a tenant over its batches, in the given order (deadline, then age). What a batch
    already has in the queue counts towards its share.
    """
    shares: dict[UUID, int] = {}
    ordered = sorted(demands, key=lambda demand: -demand.priority)
    for _, same_priority in groupby(ordered, key=lambda demand: demand.priority):
        by_tenant: dict[str, list[Demand]] = {}
        for demand in same_priority:
            by_tenant.setdefault(demand.tenant, []).append(demand)
        wanted = [sum(map(_wanted, batches)) for batches in by_tenant.values()]
        for batches, share in zip(by_tenant.values(), _fill(wanted, places), strict=True):
            for demand, number in zip(batches, _fill(list(map(_wanted, batches)), share), strict=True):
                shares[demand.batch_id] = min(demand.num_unsent, max(0, number - demand.num_sent))
                places -= max(number, demand.num_sent)
        places = max(0, places)
    return shares


def _wanted(demand: Demand) -> int:
    return demand.num_sent + demand.num_unsent


def _fill(wanted: Sequence[int], places: int) -> list[int]:
    """Return max-min fair shares: nobody gets more than wanted, and the smallest demands are met first.

    >>> _fill([1, 10, 10], 9), _fill([5, 5], 3), _fill([], 3)
    ([1, 4, 4], [2, 1], [])
    """
    shares = [0] * len(wanted)
    open_ = [index for index, want in enumerate(wanted) if want]
    while open_ and places:
        each, extra = divmod(places, len(open_))
        for rank, index in enumerate(open_):
            given = min(wanted[index] - shares[index], each + (rank < extra))
            shares[index] += given
            places -= given
        open_ = [index for index in open_ if shares[index] < wanted[index]]
    return shares
