"""The generation engine: a thread that admits, computes and completes requests in batches, over any executor.

Life of a request: submit() checks it and puts it into the inbox; the thread moves it to the scheduler,
prefills it into a slot, decodes it with all other running rows, one token per step, and completes its future.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass

from jobs.errors import EngineError, EngineLostError, InputError
from jobs.inference import Completion, FinishReason, Sampling, Usage
from workers.engine import EngineInfo, EngineOptions, EngineProgress, Request, Tokenizer
from workers.engines.admission import deadline_error, find_error
from workers.engines.containment import Containment
from workers.engines.executor import Executor, NextToken
from workers.engines.text import TextStream
from workers.engines.watchdog import StepWatchdog, end_process
from workers.scheduler import Generation, PrefillBatch, PrefillRow, Scheduler

CLOSE_SECONDS = 10.0
"""Time that close() waits for the current step; longer than any healthy step, shorter than a drain."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Flight:
    """A request between submit() and the end of its future, in a table under the engine's lock."""

    generation: Generation
    future: Future[Completion]
    text: TextStream | None


class BatchingEngine:
    """Implements workers.engine.Engine; any thread may call its public methods."""

    def __init__(self, executor: Executor, tokenizer: Tokenizer, options: EngineOptions) -> None:
        self._executor = executor
        self._tokenizer = tokenizer
        self._info = executor.info
        self._scheduler = Scheduler(
            num_slots=self._info.num_slots,
            max_prefill_tokens=executor.max_prefill_tokens,
            max_prefix_tokens=options.max_prefix_tokens,
        )
        self._containment = Containment(self._info.num_slots)
        self._changed = threading.Condition()
        self._inbox: list[Generation] = []
        self._flights: dict[str, _Flight] = {}
        self._closed = False
        self._num_steps = 0
        self._on_broken = options.on_broken or end_process
        self._watchdog = StepWatchdog(options.step_timeout_seconds, self._on_broken)
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def info(self) -> EngineInfo:
        return self._info

    def submit(self, request: Request) -> Future[Completion]:
        """Queue the request; callbacks of the future run in the engine's thread and should be short."""
        future: Future[Completion] = Future()
        error = find_error(
            request,
            num_tokens=self._executor.num_tokens,
            max_context_tokens=self._info.max_context_tokens,
        )
        with self._changed:
            if self._closed:
                error = EngineLostError(f"request {request.request_id} came after the engine was closed")
            elif request.request_id in self._flights:
                error = InputError(f"request {request.request_id} is already in flight; ids must be unique")
            if error is None:
                stop, thoughts = request.sampling.stop, request.thoughts
                text = TextStream(self._tokenizer, stop, thoughts) if stop or thoughts else None
                flight = _Flight(Generation(request), future, text)
                self._flights[request.request_id] = flight
                self._inbox.append(flight.generation)
                self._changed.notify()
        if error is not None:
            future.set_exception(error)
        return future

    def cancel(self, request_id: str) -> None:
        with self._changed:
            flight = self._flights.pop(request_id, None)
        if flight is not None:
            flight.future.cancel()

    def progress(self) -> EngineProgress:
        with self._changed:
            num_inbox = len(self._inbox)
        return EngineProgress(
            num_running=self._scheduler.num_running,
            num_waiting=len(self._scheduler.waiting) + num_inbox,
            num_steps=self._num_steps,
            seconds_in_step=self._watchdog.seconds_in_step,
        )

    def warm(self) -> None:
        """Fill every slot once for two tokens; return when the device has computed them."""
        sampling = Sampling(max_new_tokens=2, ignore_end_of_text=True)
        futures = [
            self.submit(Request(request_id=f"warm-{slot}", prompt_ids=(0,), sampling=sampling))
            for slot in range(self._info.num_slots)
        ]
        for future in futures:
            future.result()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_SECONDS)
        self._end("the engine was closed before the text was finished")

    def _work(self) -> None:
        while self._wait_for_work():
            self._watchdog.begin()
            try:
                self._step()
            except Exception as error:
                logger.exception("the engine cannot go on", extra={"action": "engine_lost"})
                self._on_broken()
                self._end(f"the engine cannot go on: {error!r}")
                return
            finally:
                self._watchdog.end()
        self._executor.close()

    def _wait_for_work(self) -> bool:
        """Sleep until there is work, and pass it to the scheduler; return False when the engine is closed."""
        with self._changed:
            while not (self._closed or self._inbox or self._scheduler.has_work):
                self._changed.wait()
            inbox, self._inbox = self._inbox, []
            for generation in inbox:
                self._scheduler.add(generation)
            return not self._closed

    def _step(self) -> None:
        self._drop_cancelled_and_expired()
        batch = self._scheduler.plan_prefill()
        if batch is not None:
            self._prefill(batch)
        running = list(self._scheduler.running)
        for generation, outcome in self._containment.run(running, self._executor.decode):
            self._accept(generation, outcome)
        self._num_steps += 1

    def _drop_cancelled_and_expired(self) -> None:
        now = time.monotonic()
        for generation in list(self._scheduler.generations()):
            request = generation.request
            flight = self._flights.get(request.request_id)
            # After a cancel, another request may have the same id: the flight must belong to this generation.
            if flight is None or flight.generation is not generation or flight.future.cancelled():
                self._remove(generation)
            elif request.deadline_at is not None and request.deadline_at <= now:
                self._fail(generation, deadline_error(request))

    def _prefill(self, batch: PrefillBatch) -> None:
        rows = self._save_prefixes(batch)
        for row, outcome in self._containment.run(rows, self._executor.prefill):
            if isinstance(outcome, Exception):
                self._fail(row.generation, _row_error(row.generation, outcome))
                continue
            move = self._scheduler.prefilled(row)
            if move is not None:
                self._executor.move(move)
            if row.is_last:
                self._accept(row.generation, outcome)
        for key in batch.dropped_keys:
            self._executor.drop_prefix(key)

    def _save_prefixes(self, batch: PrefillBatch) -> list[PrefillRow]:
        """Save the prefixes that the batch begins from.

        Rows whose prefix could not be saved are computed whole.
        """
        lost = set()
        for save in batch.saves:
            try:
                self._executor.save_prefix(save)
            except Exception as error:  # noqa: BLE001  a prefix only saves time
                logger.warning("a prompt prefix was not kept", extra={"reason": repr(error)})
                self._scheduler.forget_prefix(save.key)
                lost.add(save.key)
        for index, row in enumerate(batch.rows):
            if row.prefix_key in lost:
                row.generation.num_cached_tokens = 0
                batch.rows[index] = PrefillRow(row.generation, row.slot, 0, row.stop)
        return batch.rows

    def _accept(self, generation: Generation, outcome: NextToken | Exception) -> None:
        """Add a token to its row, and complete the row if the token was the last."""
        if isinstance(outcome, Exception):
            self._fail(generation, _row_error(generation, outcome))
            return
        if not outcome.is_finite:
            self._executor.clear(generation.slot)
            self._fail(generation, _row_error(generation, ArithmeticError("no finite logits")))
            return
        generation.output_ids.append(outcome.token_id)
        generation.num_near_ties += outcome.is_near_tie
        flight = self._flights.get(generation.request.request_id)
        if flight is None or flight.generation is not generation:
            return  # cancelled meanwhile; the next step drops it
        reason = self._finish_reason(generation, flight.text)
        if reason is not None:
            self._complete(generation, flight.text, reason)

    def _finish_reason(self, generation: Generation, text: TextStream | None) -> FinishReason | None:
        sampling, token_id = generation.request.sampling, generation.output_ids[-1]
        if token_id in self._tokenizer.end_of_text_ids and not sampling.ignore_end_of_text:
            return FinishReason.STOP
        if text is not None and text.push(token_id) is not None:
            return FinishReason.STOP
        max_new_tokens = sampling.max_new_tokens + (0 if text is None else text.num_thought_tokens)
        return FinishReason.LENGTH if len(generation.output_ids) >= max_new_tokens else None

    def _complete(self, generation: Generation, text: TextStream | None, reason: FinishReason) -> None:
        token_ids = tuple(generation.output_ids)
        stop_string = None if text is None else text.finish()
        completion = Completion(
            text=self._tokenizer.decode(token_ids) if text is None else text.text,
            token_ids=token_ids,
            finish_reason=reason if stop_string is None else FinishReason.STOP,
            usage=Usage(len(generation.prompt_ids), generation.num_cached_tokens, len(token_ids)),
            num_near_ties=generation.num_near_ties,
            stop_string=stop_string,
        )
        future = self._remove(generation)
        if future is not None and future.set_running_or_notify_cancel():
            future.set_result(completion)

    def _fail(self, generation: Generation, error: Exception) -> None:
        future = self._remove(generation)
        if future is not None and future.set_running_or_notify_cancel():
            future.set_exception(error)

    def _remove(self, generation: Generation) -> Future[Completion] | None:
        """Remove the generation from every table; return its future, if still there, for the caller."""
        move = self._scheduler.remove(generation)
        if move is not None:
            self._executor.move(move)
        with self._changed:
            flight = self._flights.get(generation.request.request_id)
            if flight is None or flight.generation is not generation:
                return None
            return self._flights.pop(generation.request.request_id).future

    def _end(self, message: str) -> None:
        """Accept no more requests, and fail those in flight."""
        self._watchdog.stop()
        with self._changed:
            self._closed = True
            flights, self._flights = list(self._flights.values()), {}
            self._inbox.clear()
        for flight in flights:
            if flight.future.set_running_or_notify_cancel():
                flight.future.set_exception(EngineLostError(message))


def _row_error(generation: Generation, cause: Exception) -> EngineError:
    error = EngineError(f"the engine step of request {generation.request.request_id} failed: {cause!r}")
    error.__cause__ = cause
    return error
