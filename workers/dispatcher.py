"""Sends messages for queued jobs, within a bounded and fairly shared window per queue, and resends lost
messages."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from itertools import groupby
from uuid import UUID

from celery import Celery
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from db import dispatch
from db.dispatch import Capacity, Demand, JobListener
from db.faults import DatabaseFault, fault_of
from db.leads import DISPATCHER
from workers.broker import BROKER_ERRORS, require_queue
from workers.celery import RUN_ALONE, RUN_SHARD, make_app
from workers.lead import Lead
from workers.outage import Outage
from workers.reconciler import reconcile
from workers.redis_server import RedisServer
from workers.settings import Settings

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.2
"""Interval between two checks of the tables while jobs are being sent; well below the time of the shortest
job."""

IDLE_TICK_SECONDS = 0.5
"""Wait after a check that found nothing to send; it ends early when a stage starts. A check costs 8 ms of CPU
time."""

RECONCILE_SECONDS = 1.0
"""Interval between two runs of the reconciler."""

STANDBY_SECONDS = 2.0
"""Interval between two attempts to become the leader, and the wait after an error."""

EMPTY_QUEUE_GRACE_SECONDS = 2.0
"""Age after which an unclaimed message counts as lost if its queue is empty. A queue may look empty for a
moment while its messages are handed over. An older message is either lost or waiting in a worker, where a
second message does no harm."""


class Dispatcher:
    """Sends queued jobs to the broker. Only the dispatcher with the lease is active; the others stand by."""

    def __init__(self, database: Engine, redis_url: str, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._app: Celery = make_app(lambda: redis_url)
        self._redis = RedisServer.from_url(redis_url).client()
        self._lead = Lead(database, DISPATCHER)
        self._listener = JobListener(database)
        self._postgres = Outage(logger, "Postgres", meanwhile="the dispatcher waits")
        self._broker = Outage(logger, "Valkey", meanwhile="queued jobs wait in Postgres")
        self._ended: defaultdict[str, deque[tuple[float, int]]] = defaultdict(deque)
        """Instants on time.monotonic() and the number of jobs that had ended in running batches, by queue."""
        self._has_worked = False
        self._reconciled_at = 0.0

    def run(self, stopped: threading.Event) -> None:
        """Lead or stand by until the event is set, even through outages of Postgres and Redis.

        Raises SQLAlchemyError if Postgres refuses a statement before any round has succeeded.
        """
        try:
            while not stopped.is_set():
                stopped.wait(self._round())
        finally:
            self.close()

    def close(self) -> None:
        """Give up the lead and close every connection."""
        self._lead.give_up()
        self._listener.close()
        self._app.close()
        self._redis.close()

    def _round(self) -> float:
        """Lead if possible, and wait for jobs; return the seconds to wait before the next round."""
        try:
            if not self._lead.is_held():
                wait = STANDBY_SECONDS
            else:
                self._listener.wait(TICK_SECONDS if self.tick() else IDLE_TICK_SECONDS)
                wait = 0.0
        except SQLAlchemyError as error:
            fault = fault_of(error)
            if fault is DatabaseFault.MISUSE and not self._has_worked:
                raise
            self._postgres.note(error, fault)
            return STANDBY_SECONDS
        self._has_worked = True
        self._postgres.end()
        return wait

    def tick(self) -> bool:
        """Run one round and return whether anything was sent.

        Raises SQLAlchemyError. An unavailable broker is logged, and its jobs stay queued in Postgres.
        """
        has_sent = False
        if time.monotonic() - self._reconciled_at >= RECONCILE_SECONDS:
            reconcile(self._database, self._settings)
            self._reconciled_at = time.monotonic()
        failures = []
        for profile in dispatch.running_profiles(self._database):
            try:
                if self._broker.is_on:
                    require_queue(self._redis, profile)
                self._forget_lost(profile)
                has_sent |= self._send_due(profile)
            except BROKER_ERRORS as error:
                failures.append(error)
                self._broker.note(error)
        if not failures:
            self._broker.end()
        return has_sent

    def _forget_lost(self, profile: str) -> None:
        """Mark jobs as unsent if the queue contains too few messages for them, so that they are sent again.

        A message carries at most `shard_jobs` ids. While the queue has enough messages for all jobs that were
        sent and not claimed, those jobs may simply be waiting, so nothing is sent again, and the number of
        messages stays bounded. Once workers have emptied the queue, it is clear which messages were lost.
        """
        num_messages = self._redis.llen(profile)
        if num_messages * self._settings.shard_jobs >= dispatch.num_sent(self._database, profile):
            return
        age = self._settings.resend_seconds if num_messages else EMPTY_QUEUE_GRACE_SECONDS
        forgotten = dispatch.forget_stale(self._database, profile, older_than_seconds=age)
        if forgotten:
            logger.info("Lost messages will be sent again.", extra={"num_jobs": forgotten, "queue": profile})

    def _send_due(self, profile: str) -> bool:
        capacity = dispatch.capacity(self._database, profile)
        places = window(capacity, self._rate(profile))
        demands = dispatch.demands(self._database, profile, limit=places)
        num_queued = sum(demand.num_sent + demand.num_unsent for demand in demands)
        size = shard_size(num_queued, capacity.num_workers, at_most=self._settings.shard_jobs)
        shares = {batch_id: number for batch_id, number in allocate(demands, places).items() if number}
        for batch_id, number in shares.items():
            job_ids = dispatch.take(self._database, batch_id, number)
            self._send(RUN_SHARD, profile, job_ids, size)
        suspects = dispatch.take_suspects(self._database, profile)
        if suspects:
            self._send(RUN_ALONE, profile, suspects, len(suspects))
        return bool(shares or suspects)

    def _rate(self, profile: str) -> float:
        """Return how many jobs of a queue ended per second, over about the last RATE_SECONDS."""
        now, ended = time.monotonic(), self._ended[profile]
        ended.append((now, dispatch.num_ended(self._database, profile)))
        while len(ended) > 1 and ended[1][0] <= now - RATE_SECONDS:
            ended.popleft()
        # A batch that ends takes its jobs with it, which makes the difference negative.
        return max(0, ended[-1][1] - ended[0][1]) / max(RATE_SECONDS, now - ended[0][0])

    def _send(self, task: str, queue: str, job_ids: Sequence[UUID], size: int) -> None:
        try:
            with self._app.producer_or_acquire() as producer:
                for shard in _shards(job_ids, size):
                    self._app.send_task(
                        task,
                        ([str(job_id) for job_id in shard],),
                        queue=queue,
                        producer=producer,
                        retry=False,
                    )
        except BROKER_ERRORS:
            dispatch.unsend(self._database, job_ids)  # some may be sent twice, but only one claim succeeds
            raise


def _shards(job_ids: Sequence[UUID], size: int) -> Iterator[Sequence[UUID]]:
    for start in range(0, len(job_ids), size):
        yield job_ids[start : start + size]


WINDOW_FACTOR = 3
"""Number of jobs in the window, sent and not yet claimed, per job that the live workers can hold. With this
factor, the queue never runs dry, and a later batch waits only a little."""

MIN_WINDOW_JOBS = 64
"""Minimum window in jobs. It applies while the workers of a queue are still loading, and when they can hold
only a few jobs."""

MAX_WINDOW_JOBS = 10_000
"""Maximum window in jobs. Only short jobs lead to so large a window; its ids take about 400 KB in the
broker."""

AHEAD_SECONDS = 0.5
"""Seconds of work that are sent in advance. It is longer than a round, so that the rate can grow, and short,
because what was sent is ahead of any batch that follows."""

RATE_SECONDS = 1.0
"""Time over which the rate is measured."""

SHARDS_PER_WORKER = 8
"""Minimum messages per worker into which a backlog is divided, so that workers finish at about the same time.
"""


def window(capacity: Capacity, rate: float = 0.0) -> int:
    """Return how many jobs of a queue may be sent and not yet claimed, if `rate` jobs ended in a second.

    It grows while short jobs empty the queue faster than rounds fill it, and shrinks as soon as long jobs
    follow.
    """
    least = max(MIN_WINDOW_JOBS, WINDOW_FACTOR * capacity.max_jobs_in_flight)
    return max(least, min(MAX_WINDOW_JOBS, int(AHEAD_SECONDS * rate)))


def shard_size(num_queued: int, num_workers: int, *, at_most: int) -> int:
    """Return the number of job ids per message: many while the backlog is long, one near its end.

    >>> shard_size(10_000, 2, at_most=16), shard_size(20, 2, at_most=16)
    (16, 1)
    """
    return max(1, min(at_most, num_queued // (SHARDS_PER_WORKER * max(1, num_workers))))


def allocate(demands: Sequence[Demand], places: int) -> dict[UUID, int]:
    """Return how many more jobs of each batch to send so that the window is shared fairly.

    Batches of a higher priority are served first. Within a priority, the places are shared evenly among the
    tenants, and each tenant's places among its batches; places left over by the division go to the first of
    them in the given order (deadline, then age). Jobs that a batch already has in the queue count towards its
    share.
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
    """Return max-min fair shares: no share exceeds its demand, and the smallest demands are met first.

    >>> _fill([1, 10, 10], 9), _fill([5, 5], 3), _fill([], 3)
    ([1, 4, 4], [2, 1], [])
    """
    shares = [0] * len(wanted)
    open_ = [index for index, want in enumerate(wanted) if want]
    while open_ and places:
        each, extra = divmod(places, len(open_))
        for rank, index in enumerate(open_):
            num_places = min(wanted[index] - shares[index], each + (rank < extra))
            shares[index] += num_places
            places -= num_places
        open_ = [index for index in open_ if shares[index] < wanted[index]]
    return shares
