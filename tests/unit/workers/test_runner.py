"""What limits the jobs of a worker: the gate that claims wait at, and the threads of limited stages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import cast

import pytest

from jobs.job import ClaimedJob
from jobs.kind import Stage
from workers.runner import AHEAD_SECONDS, MAX_AHEAD, RATE_SECONDS, Capacity, StageThreads

SECONDS = 10.0
"""Until a wait that ought to end is a hang."""


@pytest.fixture
def pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(8)


def held_back(future: Future[int] | Future[bool]) -> bool:
    """True if the call has had every chance to end and has not."""
    threading.Event().wait(0.05)
    return not future.done()


def test_as_many_are_taken_as_are_free() -> None:
    capacity = Capacity(4)
    assert (capacity.take(3), capacity.take(3)) == (3, 1)
    assert capacity.num_in_use == 4
    capacity.give_back(2)
    assert capacity.num_in_use == 2


def test_take_waits_for_a_place(pool: ThreadPoolExecutor) -> None:
    capacity = Capacity(1)
    capacity.take(1)
    waiting = pool.submit(capacity.take, 1)
    assert held_back(waiting)
    capacity.give_back(1)
    assert waiting.result(SECONDS) == 1


def test_closing_lets_the_waiting_go_with_nothing(pool: ThreadPoolExecutor) -> None:
    capacity = Capacity(1)
    capacity.take(1)
    waiting = [pool.submit(capacity.take, 1) for _ in range(3)]
    capacity.close()
    assert [future.result(SECONDS) for future in waiting] == [0, 0, 0]
    assert capacity.take(1) == 0
    assert capacity.num_in_use == 1  # what is inside stays until it is given back
    capacity.give_back(1)
    assert capacity.wait_until_free(SECONDS)


def test_waiting_until_free_gives_up_after_its_time() -> None:
    capacity = Capacity(2)
    capacity.take(1)
    assert not capacity.wait_until_free(0.01)


def test_alone_waits_for_the_others_and_keeps_newcomers_out(pool: ThreadPoolExecutor) -> None:
    capacity = Capacity(3)
    capacity.take(2)
    inside, leave = threading.Event(), threading.Event()

    def alone() -> bool:
        with capacity.alone() as admitted:
            inside.set()
            leave.wait(SECONDS)
            capacity.give_back(int(admitted))
        return bool(admitted)

    exclusive = pool.submit(alone)
    assert held_back(exclusive)
    assert not inside.is_set()
    newcomer = pool.submit(capacity.take, 1)
    assert held_back(newcomer)  # else it would never be free
    capacity.give_back(2)
    assert inside.wait(SECONDS)
    assert capacity.num_in_use == 1
    assert held_back(newcomer)
    leave.set()
    assert exclusive.result(SECONDS)
    assert newcomer.result(SECONDS) == 1


def test_short_jobs_are_claimed_in_advance_and_long_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("workers.runner.time.monotonic", lambda: now)
    capacity = Capacity(4)
    capacity.note_succeeded(40)  # in the last second
    assert capacity.take(1000) == 4 + 40 * AHEAD_SECONDS
    capacity.give_back(24)
    now += RATE_SECONDS + 0.1  # nothing has ended since
    assert capacity.take(1000) == 4


def test_configured_maximum_is_never_exceeded() -> None:
    capacity = Capacity(4, max_ahead=0)
    capacity.note_succeeded(10**6)
    assert capacity.take(1000) == 4


def test_jobs_in_advance_are_bounded() -> None:
    capacity = Capacity(4)
    capacity.note_succeeded(10**6)
    assert capacity.take(10**6) == 4 + MAX_AHEAD


def test_alone_no_job_is_claimed_in_advance() -> None:
    capacity = Capacity(4)
    capacity.note_succeeded(10**6)
    with capacity.alone(100) as num_places:
        assert num_places == 4
        capacity.give_back(4)


def test_two_who_want_to_be_alone_go_one_after_the_other(pool: ThreadPoolExecutor) -> None:
    capacity = Capacity(3)
    most = 0

    def alone() -> None:
        nonlocal most
        with capacity.alone() as admitted:
            most = max(most, capacity.num_in_use)
            capacity.give_back(int(admitted))

    for future in [pool.submit(alone) for _ in range(20)]:
        future.result(SECONDS)
    assert most == 1
    assert capacity.num_in_use == 0


def test_closing_refuses_whoever_waits_to_be_alone(pool: ThreadPoolExecutor) -> None:
    capacity = Capacity(2)
    capacity.take(1)

    def alone() -> bool:
        with capacity.alone() as admitted:
            return bool(admitted)

    waiting = pool.submit(alone)
    assert held_back(waiting)
    capacity.close()
    assert not waiting.result(SECONDS)
    assert capacity.num_in_use == 1


def test_many_threads_never_hold_more_than_the_places(pool: ThreadPoolExecutor) -> None:
    capacity = Capacity(3)
    lock = threading.Lock()
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(50):
            taken = capacity.take(2)
            with lock:
                inside += taken
                most = max(most, inside)
            with lock:
                inside -= taken
            capacity.give_back(taken)

    for future in [pool.submit(work) for _ in range(8)]:
        future.result(SECONDS)
    assert 0 < most <= 3
    assert capacity.num_in_use == 0


class LimitedKind:
    """A kind whose stage `narrow` runs two jobs at a time."""

    stages = (Stage("narrow", max_running=2), Stage("wide"))


def job_of(stage: str) -> ClaimedJob:
    return cast("ClaimedJob", SimpleNamespace(kind="limited", stage=stage))


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[StageThreads]:
    monkeypatch.setattr("workers.runner.load_kind", lambda _: LimitedKind)
    threads = StageThreads(8)
    yield threads
    threads.close()


def test_of_a_stage_with_a_limit_no_more_jobs_run_at_the_same_time(threads: StageThreads) -> None:
    num_running, most, lock, done = 0, 0, threading.Lock(), threading.Semaphore(0)

    def run() -> None:
        nonlocal num_running, most
        with lock:
            num_running += 1
            most = max(most, num_running)
        threading.Event().wait(0.01)
        with lock:
            num_running -= 1
        done.release()

    for _ in range(12):
        threads.submit(job_of("narrow"), run)
    for _ in range(12):
        assert done.acquire(timeout=SECONDS)
    assert most == 2


def test_jobs_of_another_stage_do_not_wait_for_a_limited_one(threads: StageThreads) -> None:
    opened, done = threading.Event(), threading.Semaphore(0)

    def wait() -> None:
        opened.wait(SECONDS)
        done.release()

    for _ in range(4):
        threads.submit(job_of("narrow"), wait)
    for _ in range(6):
        threads.submit(job_of("wide"), done.release)
    for _ in range(6):
        assert done.acquire(timeout=SECONDS)
    opened.set()
    for _ in range(4):
        assert done.acquire(timeout=SECONDS)


def test_jobs_that_wait_for_their_stage_do_not_start_once_closed(threads: StageThreads) -> None:
    opened, started = threading.Event(), threading.Semaphore(0)

    def run() -> None:
        started.release()
        opened.wait(SECONDS)

    for _ in range(4):
        threads.submit(job_of("narrow"), run)
    for _ in range(2):
        assert started.acquire(timeout=SECONDS)
    threads.close()
    opened.set()
    assert not started.acquire(timeout=0.1)
