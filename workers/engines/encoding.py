"""The encoder's engine: threads that batch rows by length and complete requests, over any executor."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from jobs.errors import DeadlineError, EngineError, EngineLostError, InputError, PressroomError
from workers.encoder import EncoderInfo, EncoderRequest, EncoderRow, Vector
from workers.engine import EngineOptions, EngineProgress
from workers.engines.asked_rows import Asked, AskedRows, Flight
from workers.engines.batching import CLOSE_SECONDS
from workers.engines.containment import Containment
from workers.engines.watchdog import StepWatchdog, end_process

logger = logging.getLogger(__name__)


class EncoderExecutor(Protocol):
    """Computes batches of rows. Only the engine's lanes call it, and all of them may do so at once.

    A call may be repeated with some of its rows after an error. MemoryError means that fewer rows may fit,
    and EngineLostError that nothing can be computed any more. Any other error is attributed to a row, or to
    the device if every one of several rows raises it.
    """

    @property
    def info(self) -> EncoderInfo: ...

    @property
    def num_tokens(self) -> int:
        """Upper bound of token ids, exclusive."""
        ...

    @property
    def step_tokens(self) -> int:
        """Fixed cost of a call besides its tokens, expressed in tokens."""
        ...

    def encode(self, rows: Sequence[EncoderRow]) -> list[Vector]:
        """Return the answer of each row."""
        ...

    def close(self) -> None:
        """Release the device's memory."""
        ...


class EncodingEngine:
    """Implements workers.encoder.Encoder; any thread may call its public methods.

    Callers tokenise in their own threads, so that this overlaps with the computation here; after infinity's
    `BatchHandler` (encode_pre, encode_core, encode_post). Each lane has its own batch at the executor. On a
    CPU there is one lane per core, because cores that share a product wait for one another.
    """

    def __init__(self, executor: EncoderExecutor, options: EngineOptions, *, num_lanes: int = 1) -> None:
        self._executor = executor
        self._info = info = executor.info
        self._rows = AskedRows(
            max_batch_tokens=info.max_batch_tokens, step_tokens=executor.step_tokens, num_lanes=num_lanes
        )
        self._containment = Containment(info.max_batch_tokens)
        self._changed = threading.Condition()
        self._inbox: list[Flight] = []
        self._flights: dict[str, Flight] = {}
        self._closed = False
        self._cancelled = False
        self._num_steps = 0
        self._num_running = 0
        self._on_broken = options.on_broken or end_process
        self._watchdogs = [
            StepWatchdog(options.step_timeout_seconds, self._on_broken) for _ in range(num_lanes)
        ]
        self._num_open = num_lanes
        self._lanes = [
            threading.Thread(target=self._work, args=(watchdog,), name="encoder", daemon=True)
            for watchdog in self._watchdogs
        ]
        for lane in self._lanes:
            lane.start()

    @property
    def info(self) -> EncoderInfo:
        return self._info

    def submit(self, request: EncoderRequest) -> Future[tuple[Vector, ...]]:
        """Queue the rows.

        Callbacks of the future run in a lane, under the engine's lock, and should be short.
        """
        future: Future[tuple[Vector, ...]] = Future()
        error = self._find_error(request)
        with self._changed:
            if self._closed:
                error = EngineLostError(f"request {request.request_id} came after the encoder was closed")
            elif request.request_id in self._flights:
                error = InputError(f"request {request.request_id} is already in flight; ids must be unique")
            if error is None and request.rows:
                num_rows = len(request.rows)
                flight = Flight(request, future, [None] * num_rows, num_rows)
                self._flights[request.request_id] = flight
                self._inbox.append(flight)
                self._changed.notify()
        if error is not None:
            future.set_exception(error)
        elif not request.rows:
            future.set_result(())
        return future

    def _find_error(self, request: EncoderRequest) -> PressroomError | None:
        """Return why the request may not reach the device, or None."""
        num_tokens, max_tokens = self._executor.num_tokens, self._info.max_tokens
        for number, row in enumerate(request.rows):
            where = f"request {request.request_id}, row {number}"
            if not 0 < len(row.token_ids) <= max_tokens or len(row.type_ids) != len(row.token_ids):
                return InputError(f"{where}: {len(row.token_ids)} tokens; it must have 1 to {max_tokens}")
            if min(row.token_ids) < 0 or max(row.token_ids) >= num_tokens:
                return InputError(
                    f"{where}: a token id is not below {num_tokens}: another model's tokenizer?"
                )
        if request.deadline_at is not None and request.deadline_at <= time.monotonic():
            return _deadline_error(request)
        return None

    def cancel(self, request_id: str) -> None:
        with self._changed:
            flight = self._flights.pop(request_id, None)
            self._cancelled = True
        if flight is not None:
            flight.future.cancel()

    def progress(self) -> EngineProgress:
        with self._changed:
            num_inbox = sum(flight.num_missing for flight in self._inbox)
        return EngineProgress(
            num_running=self._num_running,
            num_waiting=len(self._rows) + num_inbox,
            num_steps=self._num_steps,
            seconds_in_step=max(watchdog.seconds_in_step for watchdog in self._watchdogs),
        )

    def warm(self) -> None:
        """Compute one batch of the longest rows that fit the budget; return when it is finished."""
        length = min(self._info.max_tokens, self._info.max_batch_tokens)
        count = max(1, self._info.max_batch_tokens // length)
        num_tokens = self._executor.num_tokens
        rows = (EncoderRow((number % num_tokens,) * length, (0,) * length) for number in range(count))
        self.submit(EncoderRequest(request_id="warm", rows=tuple(rows))).result()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        until = time.monotonic() + CLOSE_SECONDS
        for lane in self._lanes:
            if lane is not threading.current_thread():
                lane.join(max(0.0, until - time.monotonic()))
        self._end("the encoder was closed before the request was finished")

    def _work(self, watchdog: StepWatchdog) -> None:
        """Run one lane from start to end."""
        try:
            while batch := self._next_batch():
                watchdog.begin()
                self._step(batch)
                watchdog.end()
        except Exception as error:  # noqa: BLE001 - the engine ends with any error
            watchdog.end()
            self._break(error)
        with self._changed:
            self._num_open -= 1
            is_last = self._num_open == 0
        if is_last:
            self._executor.close()

    def _break(self, error: Exception) -> None:
        with self._changed:
            was_closed, self._closed = self._closed, True
        if was_closed:  # another lane, or the caller of close(), ends the engine
            return
        logger.error("the encoder cannot go on", exc_info=error, extra={"action": "engine_lost"})
        self._on_broken()
        self._end(f"the encoder cannot go on: {error!r}")

    def _next_batch(self) -> list[Asked]:
        """Sleep until there is work, and take it; return an empty list when the engine is closed."""
        with self._changed:
            while not self._closed:
                self._take_in()
                if batch := self._rows.take():
                    self._num_running += len(batch)
                    if len(self._rows):
                        self._changed.notify()  # wake another lane, if one sleeps
                    return batch
                self._changed.wait()
        return []

    def _take_in(self) -> None:
        """Queue the rows of new requests, and forget rows that no request waits for any more."""
        inbox, self._inbox = self._inbox, []
        for flight in inbox:
            self._rows.ask(flight)
        self._fail_expired()
        if self._cancelled:
            self._cancelled = False
            self._rows.drop_dead()

    def _fail_expired(self) -> None:
        """Fail requests that are past their deadline."""
        now = time.monotonic()
        late = [
            flight
            for flight in self._flights.values()
            if flight.request.deadline_at is not None and flight.request.deadline_at <= now
        ]
        for flight in late:
            self._fail(flight, _deadline_error(flight.request))

    def _step(self, batch: Sequence[Asked]) -> None:
        outcomes = self._containment.run(batch, self._compute)
        with self._changed:
            self._take_in()  # requests for these rows that arrived meanwhile are answered, too
            self._rows.forget(batch)
            for asked, outcome in outcomes:
                for flight, place in asked.by:
                    self._accept(flight, place, outcome)
            self._num_running -= len(batch)
            self._num_steps += 1

    def _compute(self, batch: Sequence[Asked]) -> list[Vector]:
        return self._executor.encode([asked.row for asked in batch])

    def _accept(self, flight: Flight, place: int, outcome: Vector | Exception) -> None:
        if flight.is_over:
            self._remove(flight)
            return
        if not isinstance(outcome, Exception) and not all(map(math.isfinite, outcome)):
            outcome = ArithmeticError("no finite answer")
        if isinstance(outcome, Exception):
            error = EngineError(
                f"the encoder's step of request {flight.request.request_id} failed for row {place}: "
                f"{outcome!r}"
            )
            error.__cause__ = outcome
            self._fail(flight, error)
            return
        flight.answers[place] = outcome
        flight.num_missing -= 1
        if not flight.num_missing and self._remove(flight):
            flight.future.set_result(tuple(answer for answer in flight.answers if answer is not None))

    def _fail(self, flight: Flight, error: Exception) -> None:
        self._cancelled = True  # no request waits for its other rows
        if self._remove(flight):
            flight.future.set_exception(error)

    def _remove(self, flight: Flight) -> bool:
        """Remove the request from the table. Return whether the caller must now complete its future."""
        with self._changed:
            if self._flights.get(flight.request.request_id) is not flight:
                return False
            del self._flights[flight.request.request_id]
        return flight.future.set_running_or_notify_cancel()

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


def _deadline_error(request: EncoderRequest) -> DeadlineError:
    return DeadlineError(f"request {request.request_id} was not finished by its deadline; allow more time")
