"""The common part of both engines: the requests in flight, the threads that compute them, and the shutdown.

An error ends only the requests that cause it (Containment), a step that hangs ends the process
(StepWatchdog), and every future that an engine returned is completed in any case (RequestEngine).
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeGuard, TypeVar

from jobs.errors import DeadlineError, EngineLostError, InputError, PressroomError
from workers.engine import EngineOptions

AnswerT = TypeVar("AnswerT")
RowT = TypeVar("RowT")
OutcomeT = TypeVar("OutcomeT")

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 10.0
"""Time that close() waits for the current step; longer than any healthy step, shorter than a drain."""

HUNG_EXIT_CODE = 70
"""Exit code, EX_SOFTWARE of sysexits.h, by which the supervisor distinguishes a hung step or a lost device
from a crash."""

KILLED_EXIT_CODE = 73
"""Exit code when this process's encoder process was killed from outside, or because memory ran out."""


def end_process(exit_code: int = HUNG_EXIT_CODE) -> None:
    """Exit at once, without exit handlers, which might wait for the thread that hangs."""
    os._exit(exit_code)


@dataclass(slots=True, eq=False, kw_only=True)
class Flight(Generic[AnswerT]):
    """A request from submit() until its future is completed."""

    request_id: str
    deadline_at: float | None
    """Deadline on time.monotonic()."""
    future: Future[AnswerT] = field(default_factory=Future)


FlightT = TypeVar("FlightT", bound=Flight[Any])
WorkT = TypeVar("WorkT")


class RequestEngine(ABC, Generic[FlightT, WorkT]):
    """A table of requests in flight and the threads, called lanes, that compute them.

    Any thread may call the public methods. A subclass implements the five abstract methods, and calls
    `_start` once they can be called. Callbacks of futures run in a lane, possibly under the engine's lock,
    and should be short.
    """

    def __init__(self, name: str, options: EngineOptions, *, num_lanes: int, max_rows: int) -> None:
        """Prepare the lanes. Messages contain `name`; the executor gets at most `max_rows` rows at a time."""
        self._name = name
        self._on_broken = options.on_broken or end_process
        self._containment = Containment(max_rows)
        self._changed = threading.Condition()
        self._inbox: list[FlightT] = []
        self._flights: dict[str, FlightT] = {}
        self._closed = False
        self._has_dropped = False
        """Whether a request has ended early, so that the engine must drop the remaining work of that request.
        """
        self._num_steps = 0
        self._watchdogs = [
            StepWatchdog(options.step_timeout_seconds, self._on_broken) for _ in range(num_lanes)
        ]
        self._num_open = num_lanes
        self._lanes = [
            threading.Thread(target=self._run_lane, args=(watchdog,), name=name, daemon=True)
            for watchdog in self._watchdogs
        ]

    def _start(self) -> None:
        for lane in self._lanes:
            lane.start()

    def cancel(self, request_id: str) -> None:
        with self._changed:
            flight = self._flights.pop(request_id, None)
            self._has_dropped = True
        if flight is not None:
            flight.future.cancel()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        until = time.monotonic() + CLOSE_SECONDS
        for lane in self._lanes:
            if lane is not threading.current_thread():
                lane.join(max(0.0, until - time.monotonic()))
        self._end(f"the {self._name} was closed before the request was finished")

    @property
    def _seconds_in_step(self) -> float:
        return max(watchdog.seconds_in_step for watchdog in self._watchdogs)

    def _submit(self, flight: FlightT, error: PressroomError | None, *, is_ready: bool = True) -> None:
        """Queue the request, or fail it with `error` if a check of the request found one.

        A request that is not ready is queued by `_release`. Until then it can be cancelled like any other.
        """
        with self._changed:
            if self._closed:
                error = EngineLostError(
                    f"request {flight.request_id} was submitted after the {self._name} was closed"
                )
            elif flight.request_id in self._flights:
                error = InputError(f"request {flight.request_id} is already in flight; ids must be unique")
            if error is None:
                self._flights[flight.request_id] = flight
                if is_ready:
                    self._inbox.append(flight)
                    self._changed.notify()
        if error is not None:
            flight.future.set_exception(error)

    def _release(self, flight: FlightT) -> None:
        """Queue a request that was not ready when it was submitted."""
        with self._changed:
            if self._flights.get(flight.request_id) is flight:
                self._inbox.append(flight)
                self._changed.notify()

    def _run_lane(self, watchdog: StepWatchdog) -> None:
        try:
            while (work := self._next_work()) is not None:
                watchdog.begin()
                self._step(work)
                watchdog.end()
        except Exception as error:  # noqa: BLE001 - the engine ends with any error
            watchdog.end()
            self._break(error)
        with self._changed:
            self._num_open -= 1
            is_last = self._num_open == 0
        if is_last:
            self._close_executor()

    def _next_work(self) -> WorkT | None:
        """Sleep until there is work, and take it; return None when the engine is closed."""
        with self._changed:
            while not self._closed:
                self._admit_new()
                if (work := self._take()) is not None:
                    return work
                self._changed.wait()
        return None

    def _admit_new(self) -> None:
        """Hand new requests to the engine, and drop those that nobody waits for. Call it under the lock."""
        inbox, self._inbox = self._inbox, []
        for flight in inbox:
            self._admit(flight)
        now = time.monotonic()
        for flight in list(self._flights.values()):
            if flight.future.cancelled():
                self._has_dropped = True
                self._remove(flight)
            elif flight.deadline_at is not None and flight.deadline_at <= now:
                self._fail(flight, deadline_error(flight.request_id))
        if self._has_dropped:
            self._has_dropped = False
            self._drop_unwanted()

    def _complete(self, flight: FlightT, answer: object) -> None:
        if self._remove(flight):
            flight.future.set_result(answer)

    def _fail(self, flight: FlightT, error: Exception) -> None:
        self._has_dropped = True
        if self._remove(flight):
            flight.future.set_exception(error)

    def _remove(self, flight: FlightT) -> bool:
        """Remove the request from the table. Return whether the caller must now complete its future."""
        with self._changed:
            if self._flights.get(flight.request_id) is not flight:
                return False
            del self._flights[flight.request_id]
        return flight.future.set_running_or_notify_cancel()

    def _break(self, error: Exception) -> None:
        with self._changed:
            was_closed, self._closed = self._closed, True
        if was_closed:  # another lane, or the caller of close(), ends the engine
            return
        logger.error(
            "An engine cannot continue.",
            exc_info=error,
            extra={"action": "engine_lost", "engine": self._name},
        )
        self._on_broken()
        self._end(f"the {self._name} cannot continue: {error!r}")

    def _end(self, message: str) -> None:
        """Accept no more requests, and fail those in flight."""
        for watchdog in self._watchdogs:
            watchdog.stop()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            flights, self._flights = list(self._flights.values()), {}
            self._inbox.clear()
        for flight in flights:
            if flight.future.set_running_or_notify_cancel():
                flight.future.set_exception(EngineLostError(message))

    @abstractmethod
    def _admit(self, flight: FlightT) -> None:
        """Queue the work of a new request. Called under the lock."""

    @abstractmethod
    def _drop_unwanted(self) -> None:
        """Drop the work of requests that are no longer in the table. Called under the lock."""

    @abstractmethod
    def _take(self) -> WorkT | None:
        """Return the work of the next step; None if there is none. Called under the lock."""

    @abstractmethod
    def _step(self, work: WorkT) -> None:
        """Compute the work, and complete requests. Any error ends the engine."""

    @abstractmethod
    def _close_executor(self) -> None:
        """Release the device, after the last lane has ended."""


def deadline_error(request_id: str) -> DeadlineError:
    """Return the error of a request whose deadline has passed."""
    return DeadlineError(
        f"request {request_id} was not finished by its deadline: allow more time, or make the request smaller"
    )


class StepWatchdog:
    """Times the current step, and reports one that hangs.

    The engine's thread calls begin() and end(); any thread may call the other methods. A step that holds the
    interpreter lock forever stops the watchdog's thread, too; then the jobs' leases are lost, because they
    are not renewed.
    """

    def __init__(self, timeout_seconds: float, on_hang: Callable[[], None]) -> None:
        self._timeout_seconds = timeout_seconds
        self._on_hang = on_hang
        self._step_began_at: float | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="engine-watchdog", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Record that a step starts now."""
        self._step_began_at = time.monotonic()

    def end(self) -> None:
        """Record that the step is over."""
        self._step_began_at = None

    @property
    def seconds_in_step(self) -> float:
        """Return the duration of the current step so far; 0 between steps."""
        began_at = self._step_began_at
        return 0.0 if began_at is None else time.monotonic() - began_at

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()

    def _watch(self) -> None:
        # A tenth of the timeout keeps the error small; for long timeouts, once a second is often enough.
        interval = min(1.0, self._timeout_seconds / 10)
        while not self._stopped.wait(interval):
            if self.seconds_in_step > self._timeout_seconds:
                self._report()
                self._on_hang()
                return

    def _report(self) -> None:
        # sys.stderr may be a logging proxy without a file descriptor; the original is a real file.
        stream = sys.__stderr__
        if stream is not None:
            stream.write(
                f"engine step has hung for more than {self._timeout_seconds:g} s; stacks of all threads:\n"
            )
            stream.flush()
            faulthandler.dump_traceback(file=stream, all_threads=True)


class Containment:
    """Runs batches so that a bad row costs the other rows time, but never their result.

    A bad row among n costs about 2 log2(n) extra calls, and only once, because its request then fails. After
    a MemoryError, batches stay small, because memory would run out again.
    """

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows

    def run(
        self, rows: Sequence[RowT], compute: Callable[[Sequence[RowT]], list[OutcomeT]]
    ) -> list[tuple[RowT, OutcomeT | Exception]]:
        """Compute all rows, in order; return each with its outcome or with the error that it caused.

        Raises EngineLostError if `compute` does, or if every one of several rows fails for a reason other
        than a lack of memory. In the latter case the device itself has failed, as after a CUDA error, which
        every later call raises again.
        """
        outcomes: list[tuple[RowT, OutcomeT | Exception]] = []
        pending = [rows] if rows else []
        while pending:
            part = pending.pop()
            if len(part) > self.max_rows:
                pending += [part[self.max_rows :], part[: self.max_rows]]
                continue
            try:
                outcomes += zip(part, compute(part), strict=True)
            except EngineLostError:
                raise
            except Exception as error:  # noqa: BLE001  any error must be limited to its row
                half = len(part) // 2
                if not half:
                    outcomes.append((part[0], error))
                    continue
                if isinstance(error, MemoryError):
                    self.max_rows = half
                    logger.warning(
                        "Device memory is low; smaller batches are used from now on.",
                        extra={"max_rows": half},
                    )
                pending += [part[half:], part[:half]]
        errors = [outcome for _, outcome in outcomes if _is_lasting(outcome)]
        if len(errors) == len(rows) > 1:
            raise EngineLostError(f"all {len(rows)} rows of a batch failed: {errors[0]!r}") from errors[0]
        return outcomes


def _is_lasting(outcome: object) -> TypeGuard[Exception]:
    return isinstance(outcome, Exception) and not isinstance(outcome, MemoryError)
