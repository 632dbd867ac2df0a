"""The encoder's engine: threads that batch rows by length and complete requests, over any executor.

Equal rows in flight are computed once, and the answer goes to all requests for them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from jobs.errors import EngineError, InputError, PressroomError
from workers.engine import (
    EncoderInfo,
    EncoderRequest,
    EncoderRow,
    EngineOptions,
    EngineProgress,
    Vector,
)
from workers.engines.length_batches import LengthBatches
from workers.engines.request_engine import Flight, RequestEngine, deadline_error


@dataclass(slots=True, eq=False, kw_only=True)
class _EncoderFlight(Flight[tuple[Vector, ...]]):
    rows: tuple[EncoderRow, ...]
    answers: list[Vector | None]
    num_missing: int

    @property
    def is_over(self) -> bool:
        return self.future.done()


@dataclass(slots=True, eq=False)
class PendingRow:
    """A row that waits or is being computed, with all requests for it."""

    row: EncoderRow
    by: list[tuple[_EncoderFlight, int]] = field(default_factory=list)

    @property
    def is_dead(self) -> bool:
        """Whether all requests for the row have ended."""
        return all(flight.is_over for flight, _ in self.by)


class PendingRows:
    """The waiting rows, which are batched by length. Not thread-safe: the engine calls it under its lock."""

    def __init__(self, *, max_batch_tokens: int, step_tokens: int, num_lanes: int) -> None:
        self._batches: LengthBatches[PendingRow] = LengthBatches(
            max_batch_tokens=max_batch_tokens, step_tokens=step_tokens, num_lanes=num_lanes
        )
        self._rows: dict[EncoderRow, PendingRow] = {}

    def __len__(self) -> int:
        """Return the number of waiting rows."""
        return len(self._batches)

    def add(self, flight: _EncoderFlight) -> None:
        """Queue the rows of a request; rows that are already queued or being computed are only linked to
        it."""
        for place, row in enumerate(flight.rows):
            pending = self._rows.get(row)
            if pending is None:
                pending = self._rows[row] = PendingRow(row)
                self._batches.add(len(row.token_ids), pending)
            pending.by.append((flight, place))

    def take(self) -> list[PendingRow]:
        """Return the next batch of rows that some request waits for; empty if there is none."""
        while candidates := self._batches.take():
            self.forget([pending for pending in candidates if pending.is_dead])
            if batch := [pending for pending in candidates if not pending.is_dead]:
                return batch
        return []

    def forget(self, rows: Sequence[PendingRow]) -> None:
        """Remove rows that have been answered; such a row is computed again for a later request."""
        for pending in rows:
            if self._rows.get(pending.row) is pending:
                del self._rows[pending.row]

    def drop_dead(self) -> None:
        """Remove the rows that no request waits for any more."""
        self._batches.drop(lambda pending: pending.is_dead)
        self._rows = {row: pending for row, pending in self._rows.items() if not pending.is_dead}


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
        """Fixed cost of a call, expressed as a number of tokens."""
        ...

    def encode(self, rows: Sequence[EncoderRow]) -> list[Vector]:
        """Return the answer of each row."""
        ...

    def close(self) -> None:
        """Release the device's memory."""
        ...


class EncodingEngine(RequestEngine[_EncoderFlight, list[PendingRow]]):
    """Implements workers.engine.Encoder; any thread may call its public methods.

    Callers tokenise in their own threads, so that tokenising overlaps with the computation here, as in
    infinity's `BatchHandler` (encode_pre, encode_core, encode_post). Each lane computes its own batch on the
    executor. On a CPU there is one lane per core, because cores that share a matrix product wait for one
    another.
    """

    def __init__(self, executor: EncoderExecutor, options: EngineOptions, *, num_lanes: int = 1) -> None:
        self._info = info = executor.info
        super().__init__("encoder", options, num_lanes=num_lanes, max_rows=info.max_batch_tokens)
        self._executor = executor
        self._rows = PendingRows(
            max_batch_tokens=info.max_batch_tokens, step_tokens=executor.step_tokens, num_lanes=num_lanes
        )
        self._num_running = 0
        self._start()

    @property
    def info(self) -> EncoderInfo:
        return self._info

    def submit(self, request: EncoderRequest) -> Future[tuple[Vector, ...]]:
        """Queue the rows.

        Callbacks of the future run in a lane, under the engine's lock, and should be short.
        """
        num_rows = len(request.rows)
        flight = _EncoderFlight(
            request_id=request.request_id,
            deadline_at=request.deadline_at,
            rows=request.rows,
            answers=[None] * num_rows,
            num_missing=num_rows,
        )
        self._submit(flight, self._find_error(request))
        if not request.rows:
            self._complete(flight, ())
        return flight.future

    def _find_error(self, request: EncoderRequest) -> PressroomError | None:
        """Return why the request cannot be computed, or None."""
        num_tokens, max_tokens = self._executor.num_tokens, self._info.max_tokens
        for number, row in enumerate(request.rows):
            where = f"request {request.request_id}, row {number}"
            if not 0 < len(row.token_ids) <= max_tokens:
                return InputError(f"{where} has {len(row.token_ids)} tokens; it must have 1 to {max_tokens}")
            if len(row.type_ids) != len(row.token_ids):
                return InputError(
                    f"{where} has {len(row.token_ids)} token ids but {len(row.type_ids)} type ids; the "
                    "numbers must be equal"
                )
            if min(row.token_ids) < 0 or max(row.token_ids) >= num_tokens:
                return InputError(
                    f"{where} has a token id that is not below {num_tokens}: was it encoded with another "
                    "model's tokenizer?"
                )
        if request.deadline_at is not None and request.deadline_at <= time.monotonic():
            return deadline_error(request.request_id)
        return None

    def progress(self) -> EngineProgress:
        with self._changed:
            num_inbox = sum(flight.num_missing for flight in self._inbox)
        return EngineProgress(
            num_running=self._num_running,
            num_waiting=len(self._rows) + num_inbox,
            num_steps=self._num_steps,
            seconds_in_step=self._seconds_in_step,
        )

    def warm(self) -> None:
        """Compute one full batch of rows of the maximum length; return when it is finished."""
        length = min(self._info.max_tokens, self._info.max_batch_tokens)
        count = max(1, self._info.max_batch_tokens // length)
        num_tokens = self._executor.num_tokens
        rows = (EncoderRow((number % num_tokens,) * length, (0,) * length) for number in range(count))
        self.submit(EncoderRequest(request_id="warm", rows=tuple(rows))).result()

    def _admit(self, flight: _EncoderFlight) -> None:
        self._rows.add(flight)

    def _drop_unwanted(self) -> None:
        self._rows.drop_dead()

    def _take(self) -> list[PendingRow] | None:
        batch = self._rows.take()
        self._num_running += len(batch)
        if batch and len(self._rows):
            self._changed.notify()  # wakes another lane, if one is waiting
        return batch or None

    def _step(self, work: list[PendingRow]) -> None:
        outcomes = self._containment.run(work, self._compute)
        with self._changed:
            self._admit_new()  # requests for these rows that arrived meanwhile are answered, too
            self._rows.forget(work)
            for pending, outcome in outcomes:
                for flight, place in pending.by:
                    self._accept(flight, place, outcome)
            self._num_running -= len(work)
            self._num_steps += 1

    def _close_executor(self) -> None:
        self._executor.close()

    def _compute(self, batch: Sequence[PendingRow]) -> list[Vector]:
        return self._executor.encode([pending.row for pending in batch])

    def _accept(self, flight: _EncoderFlight, place: int, outcome: Vector | Exception) -> None:
        if flight.is_over:
            self._remove(flight)
            return
        if not isinstance(outcome, Exception) and not all(map(math.isfinite, outcome)):
            outcome = ArithmeticError("no finite answer")
        if isinstance(outcome, Exception):
            error = EngineError(
                f"the encoder's step of request {flight.request_id} failed for row {place}: {outcome!r}"
            )
            error.__cause__ = outcome
            self._fail(flight, error)
            return
        flight.answers[place] = outcome
        flight.num_missing -= 1
        if not flight.num_missing:
            self._complete(flight, tuple(answer for answer in flight.answers if answer is not None))
