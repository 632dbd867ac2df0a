"""The encoder's engine: a thread that batches rows by length and completes requests, over any executor."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from jobs.errors import DeadlineError, EngineError, EngineLostError, InputError, PressroomError
from workers.encoder import EncoderInfo, EncoderRequest, EncoderRow, Vector
from workers.engine import EngineOptions, EngineProgress
from workers.engines.batching import CLOSE_SECONDS
from workers.engines.containment import Containment
from workers.engines.length_batches import LengthBatches
from workers.engines.watchdog import StepWatchdog, end_process

logger = logging.getLogger(__name__)


class EncoderExecutor(Protocol):
    """Computes batches of rows. Only the engine's thread calls it.

    A call may be repeated with a part of its rows after an error. MemoryError means that fewer rows may fit;
    any other error is taken for a row's, or for the device's if every one of several rows has it.
    """

    @property
    def info(self) -> EncoderInfo: ...

    @property
    def num_tokens(self) -> int:
        """Ids must be below this."""
        ...

    @property
    def step_tokens(self) -> int:
        """What a call costs besides its tokens, counted in tokens."""
        ...

    def encode(self, rows: Sequence[EncoderRow]) -> list[Vector]:
        """The answer of each row."""
        ...

    def close(self) -> None:
        """Release the device's memory."""
        ...


@dataclass(slots=True, eq=False)
class _Flight:
    """A request between submit() and the end of its future; in a table under the engine's lock."""

    request: EncoderRequest
    future: Future[tuple[Vector, ...]]
    answers: list[Vector | None]
    num_missing: int

    @property
    def is_over(self) -> bool:
        return self.future.done()


@dataclass(slots=True, eq=False)
class _Asked:
    """A row that waits, and everyone who asked for it; only the engine's thread looks at it."""

    row: EncoderRow
    by: list[tuple[_Flight, int]] = field(default_factory=list)

    @property
    def is_dead(self) -> bool:
        return all(flight.is_over for flight, _ in self.by)


class EncodingEngine:
    """Implements workers.encoder.Encoder; any thread may call its public methods.

    Callers tokenise in threads of their own, so that it overlaps with the arithmetic here; after infinity's
    `BatchHandler` (encode_pre, encode_core, encode_post).
    """

    def __init__(self, executor: EncoderExecutor, options: EngineOptions) -> None:
        self._executor = executor
        self._info = info = executor.info
        self._batches: LengthBatches[_Asked] = LengthBatches(
            max_batch_tokens=info.max_batch_tokens, step_tokens=executor.step_tokens
        )
        self._asked: dict[EncoderRow, _Asked] = {}
        """Rows that wait, so that the same row is computed once."""
        self._containment = Containment(info.max_batch_tokens)
        self._changed = threading.Condition()
        self._inbox: list[_Flight] = []
        self._flights: dict[str, _Flight] = {}
        self._closed = False
        self._cancelled = False
        self._num_steps = 0
        self._num_running = 0
        self._on_broken = options.on_broken or end_process
        self._watchdog = StepWatchdog(options.step_timeout_seconds, self._on_broken)
        self._thread = threading.Thread(target=self._work, name="encoder", daemon=True)
        self._thread.start()

    @property
    def info(self) -> EncoderInfo:
        return self._info

    def submit(self, request: EncoderRequest) -> Future[tuple[Vector, ...]]:
        """Queue the rows; callbacks of the future run in the engine's thread and should be short."""
        future: Future[tuple[Vector, ...]] = Future()
        error = self._find_error(request)
        with self._changed:
            if self._closed:
                error = EngineLostError(f"request {request.request_id} came after the encoder was closed")
            elif request.request_id in self._flights:
                error = InputError(f"request {request.request_id} is already in flight; ids must be unique")
            if error is None and request.rows:
                num_rows = len(request.rows)
                flight = _Flight(request, future, [None] * num_rows, num_rows)
                self._flights[request.request_id] = flight
                self._inbox.append(flight)
                self._changed.notify()
        if error is not None:
            future.set_exception(error)
        elif not request.rows:
            future.set_result(())
        return future

    def _find_error(self, request: EncoderRequest) -> PressroomError | None:
        """Why the request may not touch the device, or None."""
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
            num_waiting=len(self._batches) + num_inbox,
            num_steps=self._num_steps,
            seconds_in_step=self._watchdog.seconds_in_step,
        )

    def warm(self) -> None:
        """One batch of the longest rows that the budget holds; returns when the device has computed it."""
        length = min(self._info.max_tokens, self._info.max_batch_tokens)
        count = max(1, self._info.max_batch_tokens // length)
        num_tokens = self._executor.num_tokens
        rows = (EncoderRow((number % num_tokens,) * length, (0,) * length) for number in range(count))
        self.submit(EncoderRequest(request_id="warm", rows=tuple(rows))).result()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_SECONDS)
        self._end("the encoder was closed before the request was finished")

    def _work(self) -> None:
        while self._wait_for_work():
            self._watchdog.begin()
            try:
                self._step()
            except Exception as error:
                logger.exception("the encoder cannot go on", extra={"action": "engine_lost"})
                self._on_broken()
                self._end(f"the encoder cannot go on: {error!r}")
                return
            finally:
                self._watchdog.end()
        self._executor.close()

    def _wait_for_work(self) -> bool:
        """Sleep until there is something to do; take in what arrived. False when the engine is closed."""
        with self._changed:
            while not (self._closed or self._inbox or len(self._batches)):
                self._changed.wait()
            inbox, self._inbox = self._inbox, []
            drop, self._cancelled = self._cancelled, False
            if self._closed:
                return False
        for flight in inbox:
            for place, row in enumerate(flight.request.rows):
                self._ask(row, flight, place)
        if self._fail_expired() or drop:
            self._batches.drop(lambda asked: asked.is_dead)
            self._asked = {row: asked for row, asked in self._asked.items() if not asked.is_dead}
        return True

    def _ask(self, row: EncoderRow, flight: _Flight, place: int) -> None:
        asked = self._asked.get(row)
        if asked is None:
            asked = self._asked[row] = _Asked(row)
            self._batches.add(len(row.token_ids), asked)
        asked.by.append((flight, place))

    def _fail_expired(self) -> bool:
        """End what is past its deadline; whether there was any."""
        now = time.monotonic()
        with self._changed:
            late = [
                flight
                for flight in self._flights.values()
                if flight.request.deadline_at is not None and flight.request.deadline_at <= now
            ]
        for flight in late:
            self._fail(flight, _deadline_error(flight.request))
        return bool(late)

    def _step(self) -> None:
        taken = self._batches.take()
        for asked in taken:
            del self._asked[asked.row]
        batch = [asked for asked in taken if not asked.is_dead]
        self._num_running = len(batch)
        for asked, outcome in self._containment.run(batch, self._compute):
            for flight, place in asked.by:
                self._accept(flight, place, outcome)
        self._num_running = 0
        self._num_steps += 1

    def _compute(self, batch: Sequence[_Asked]) -> list[Vector]:
        return self._executor.encode([asked.row for asked in batch])

    def _accept(self, flight: _Flight, place: int, outcome: Vector | Exception) -> None:
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

    def _fail(self, flight: _Flight, error: Exception) -> None:
        self._cancelled = True  # its other rows wait for nobody
        if self._remove(flight):
            flight.future.set_exception(error)

    def _remove(self, flight: _Flight) -> bool:
        """Take the request out of the table; whether its future is now the caller's to complete."""
        with self._changed:
            if self._flights.get(flight.request.request_id) is not flight:
                return False
            del self._flights[flight.request.request_id]
        return flight.future.set_running_or_notify_cancel()

    def _end(self, message: str) -> None:
        """Take in nothing more, and fail what is in flight."""
        self._watchdog.stop()
        with self._changed:
            self._closed = True
            flights, self._flights = list(self._flights.values()), {}
            self._inbox.clear()
        for flight in flights:
            if flight.future.set_running_or_notify_cancel():
                flight.future.set_exception(EngineLostError(message))


def _deadline_error(request: EncoderRequest) -> DeadlineError:
    return DeadlineError(f"request {request.request_id} was not finished by its deadline; allow more time")
