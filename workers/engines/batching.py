"""The generation engine: a thread that admits, computes and completes requests in batches, over any executor.

Life of a request: submit() checks it and puts it into the inbox; the thread moves it to the scheduler,
prefills it into a slot, decodes it with all other running rows, one token per step, and completes its future.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from concurrent.futures import Future
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from jobs.errors import EngineError, InputError, PermanentError, PressroomError, PromptTooLongError
from jobs.inference import Completion, FinishReason, Sampling, TokenLogprob, TopLogprob, Usage
from workers.engine import EngineInfo, EngineOptions, EngineProgress, Request, Tokenizer
from workers.engines.constraints import Grammars, Matcher
from workers.engines.request_engine import Flight, RequestEngine, deadline_error
from workers.engines.text import TextStream
from workers.scheduler import Generation, PrefillBatch, PrefillRow, PrefixSave, Scheduler, SlotMove

logger = logging.getLogger(__name__)

_MIN_SEED, _MAX_SEED = -(2**63), 2**64 - 1
"""The range that torch.Generator.manual_seed accepts."""

MAX_LOGPROBS = 20
"""Maximum number of most likely tokens per place, as in OpenAI's API."""


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Log-probabilities at one place of a text, as the model computed them."""

    logprob: float
    """Of the token chosen."""
    top: tuple[tuple[int, float], ...]
    """Ids and log-probabilities of the `Sampling.num_logprobs` most likely tokens, the most likely first."""


@dataclass(frozen=True, slots=True)
class NextToken:
    """The token chosen to follow a row, with two facts about the row's logits."""

    token_id: int
    is_near_tie: bool = False
    """Whether a greedy choice was made between logits closer than the arithmetic's precision."""
    is_finite: bool = True
    """False if the row's logits have no finite maximum, so its token is meaningless."""
    scores: TokenScores | None = None
    """Log-probabilities, if the row requests them."""
    error: PermanentError | None = None
    """Why the row cannot be continued; its token is then meaningless."""


class Executor(Protocol):
    """Computes batches of slots. The slots of one call are adjacent and in order.

    A call may be repeated with some of its rows after an error, so the repeated call must not rely on what
    the failed one wrote into their slots. MemoryError means that fewer rows may fit; any other error is
    attributed to a row, or to the device if every one of several rows raises it.
    """

    @property
    def info(self) -> EngineInfo: ...

    @property
    def num_tokens(self) -> int:
        """Upper bound of prompt ids, exclusive."""
        ...

    @property
    def max_prefill_tokens(self) -> int:
        """Maximum prompt tokens per step, including padding."""
        ...

    def prefill(self, rows: Sequence[PrefillRow]) -> list[NextToken]:
        """Compute prompt tokens; return each row's next token, which is used only if the prompt is then
        complete."""
        ...

    def decode(self, rows: Sequence[Generation]) -> list[NextToken]:
        """Compute each row's last token and choose the next one."""
        ...

    def move(self, move: SlotMove) -> None:
        """Copy a slot's state to another slot."""
        ...

    def clear(self, slot: int) -> None:
        """Clear a slot whose content is not finite, so that it cannot affect later rows."""
        ...

    def save_prefix(self, save: PrefixSave) -> None:
        """Keep a copy of the first `save.num_tokens` of a slot as a prefix."""
        ...

    def drop_prefix(self, key: int) -> None:
        """Release a kept prefix; an unknown key is ignored."""
        ...

    def close(self) -> None:
        """Release the device's memory."""
        ...


@dataclass(slots=True, eq=False, kw_only=True)
class _GenerationFlight(Flight[Completion]):
    generation: Generation
    text: TextStream | None
    scores: list[TokenScores] = field(default_factory=list)
    """Log-probabilities at each place, if the request asks for them."""
    grammar: Matcher | None = None
    """From which the answer's matcher begins, if the request has a constraint."""


class BatchingEngine(RequestEngine[_GenerationFlight, PrefillBatch]):
    """Implements workers.engine.Engine with one lane; any thread may call its public methods."""

    def __init__(self, executor: Executor, tokenizer: Tokenizer, options: EngineOptions) -> None:
        self._info = executor.info
        super().__init__("engine", options, num_lanes=1, max_rows=self._info.num_slots)
        self._executor = executor
        self._tokenizer = tokenizer
        self._num_tokens = executor.num_tokens
        self._grammars = Grammars(tokenizer, executor.num_tokens)
        self._scheduler = Scheduler(
            num_slots=self._info.num_slots,
            max_prefill_tokens=executor.max_prefill_tokens,
            max_prefix_tokens=options.max_prefix_tokens,
        )
        self._start()

    @property
    def info(self) -> EngineInfo:
        return self._info

    def submit(self, request: Request) -> Future[Completion]:
        """Queue the request; callbacks of the future run in the engine's thread and should be short."""
        error = find_error(
            request,
            num_tokens=self._executor.num_tokens,
            max_context_tokens=self._info.max_context_tokens,
        )
        stop, thoughts = request.sampling.stop, request.thoughts
        needs_text = stop or thoughts
        min_tokens = request.sampling.min_new_tokens
        flight = _GenerationFlight(
            request_id=request.request_id,
            deadline_at=request.deadline_at,
            generation=Generation(request),
            text=TextStream(self._tokenizer, stop, thoughts, min_tokens) if needs_text else None,
        )
        self._bar_end(flight)
        constraint = request.sampling.constraint
        self._submit(flight, error, is_ready=constraint is None)
        if constraint is not None and error is None:
            # A slow constraint delays only its own requests.
            self._grammars.find(constraint).add_done_callback(partial(self._constrain, flight))
        return flight.future

    def _constrain(self, flight: _GenerationFlight, grammar: Future[Matcher]) -> None:
        """Queue a request whose constraint has been compiled, or fail it."""
        error = grammar.exception()
        if isinstance(error, Exception):
            self._fail(flight, copy(error))
            return
        flight.grammar = grammar.result()
        generation, text = flight.generation, flight.text
        if text is None or text.has_answer:
            generation.matcher = flight.grammar.begin()
        if text is not None:
            text.may_stop = partial(_is_satisfied, flight.grammar)
            generation.extra_ids = text.thought_begin_ids
        self._release(flight)

    def progress(self) -> EngineProgress:
        with self._changed:
            num_inbox = len(self._inbox)
        return EngineProgress(
            num_running=self._scheduler.num_running,
            num_waiting=len(self._scheduler.waiting) + num_inbox,
            num_steps=self._num_steps,
            seconds_in_step=self._seconds_in_step,
        )

    def warm(self) -> None:
        """Run a request for two new tokens in every slot; return when the device has computed them."""
        sampling = Sampling(max_new_tokens=2, ignore_end_of_text=True)
        futures = [
            self.submit(Request(request_id=f"warm-{slot}", prompt_ids=(0,), sampling=sampling))
            for slot in range(self._info.num_slots)
        ]
        for future in futures:
            future.result()

    def _admit(self, flight: _GenerationFlight) -> None:
        self._scheduler.add(flight.generation)

    def _drop_unwanted(self) -> None:
        for generation in list(self._scheduler.generations()):
            if self._flight_of(generation) is None:
                self._leave_slot(generation)

    def _take(self) -> PrefillBatch | None:
        """Return the prompts to prefill in the next step, which also decodes all running rows."""
        if not self._scheduler.has_work:
            return None
        return self._scheduler.plan_prefill() or PrefillBatch()

    def _step(self, work: PrefillBatch) -> None:
        if work.rows:
            self._prefill(work)
        running = list(self._scheduler.running)
        for generation, outcome in self._containment.run(running, self._executor.decode):
            self._accept(generation, outcome)
        self._num_steps += 1

    def _close_executor(self) -> None:
        self._executor.close()

    def _prefill(self, batch: PrefillBatch) -> None:
        rows = self._save_prefixes(batch)
        for row, outcome in self._containment.run(rows, self._executor.prefill):
            if isinstance(outcome, Exception):
                self._fail_row(row.generation, outcome)
                continue
            move = self._scheduler.prefilled(row)
            if move is not None:
                self._executor.move(move)
            if row.is_last:
                self._accept(row.generation, outcome)
        for key in batch.dropped_keys:
            self._executor.drop_prefix(key)

    def _save_prefixes(self, batch: PrefillBatch) -> list[PrefillRow]:
        """Save the prefixes from which rows of the batch start, and return the rows.

        A row whose prefix could not be saved is computed from its first token.
        """
        lost = set()
        for save in batch.saves:
            try:
                self._executor.save_prefix(save)
            except Exception as error:  # noqa: BLE001  a prefix is only an optimisation
                logger.warning("A prompt prefix could not be stored.", extra={"reason": repr(error)})
                self._scheduler.forget_prefix(save.key)
                lost.add(save.key)
        for index, row in enumerate(batch.rows):
            if row.prefix_key in lost:
                row.generation.num_cached_tokens = 0
                batch.rows[index] = PrefillRow(row.generation, row.slot, 0, row.stop)
        return batch.rows

    def _accept(self, generation: Generation, outcome: NextToken | Exception) -> None:
        """Add a token to its generation, and complete the request if it was the last token."""
        if isinstance(outcome, Exception):
            self._fail_row(generation, outcome)
            return
        if outcome.error is not None:
            self._fail_row(generation, outcome.error)
            return
        if not outcome.is_finite:
            self._executor.clear(generation.slot)
            self._fail_row(generation, ArithmeticError("no finite logits"))
            return
        generation.output_ids.append(outcome.token_id)
        generation.num_near_ties += outcome.is_near_tie
        flight = self._flight_of(generation)
        if flight is None:
            return  # cancelled meanwhile; it is dropped before the next step
        if outcome.scores is not None:
            flight.scores.append(outcome.scores)
        try:
            self._advance(flight, outcome.token_id)
            reason = self._finish_reason(generation, flight.text)
            self._begin_answer(flight)
        except PermanentError as error:
            self._fail_row(generation, error)
            return
        if reason is not None:
            self._leave_slot(generation)
            self._complete(flight, self._completion(flight, reason))
        else:
            self._bar_end(flight)

    def _advance(self, flight: _GenerationFlight, token_id: int) -> None:
        """Add a token to the answer under a constraint. Raises ConstraintFailedError."""
        generation = flight.generation
        if generation.matcher is None:
            return
        is_thought = token_id in generation.extra_ids
        generation.extra_ids = ()
        if is_thought:
            generation.matcher = None
            return
        if flight.text is not None:
            flight.text.begin_answer()
        if token_id not in self._tokenizer.end_of_text_ids:
            generation.matcher.accept(token_id)

    def _begin_answer(self, flight: _GenerationFlight) -> None:
        """Constrain a text whose thoughts have just ended. Raises ConstraintFailedError."""
        text = flight.text
        if (
            flight.grammar is None
            or flight.generation.matcher is not None
            or text is None
            or not text.has_answer
        ):
            return
        matcher = flight.grammar.begin()
        if beginning := text.begin_answer():  # the last token of the thought may contain more than its mark
            matcher.accept_text(beginning)
        flight.generation.matcher = matcher

    def _bar_end(self, flight: _GenerationFlight) -> None:
        """Exclude the end-of-text tokens from the next step if the text is shorter than its minimum."""
        generation, sampling = flight.generation, flight.generation.request.sampling
        if not sampling.min_new_tokens or sampling.ignore_end_of_text:
            return
        num_thought_tokens = 0 if flight.text is None else flight.text.num_thought_tokens
        is_short = len(generation.output_ids) - num_thought_tokens < sampling.min_new_tokens
        ends = (token_id for token_id in self._tokenizer.end_of_text_ids if 0 <= token_id < self._num_tokens)
        generation.barred_ids = tuple(sorted(ends)) if is_short else ()

    def _finish_reason(self, generation: Generation, text: TextStream | None) -> FinishReason | None:
        sampling, token_id = generation.request.sampling, generation.output_ids[-1]
        if token_id in self._tokenizer.end_of_text_ids and not sampling.ignore_end_of_text:
            return FinishReason.STOP
        if text is not None and text.push(token_id) is not None:
            return FinishReason.STOP
        if generation.matcher is not None and generation.matcher.is_finished:
            return FinishReason.STOP
        max_new_tokens = sampling.max_new_tokens + (0 if text is None else text.num_thought_tokens)
        return FinishReason.LENGTH if len(generation.output_ids) >= max_new_tokens else None

    def _completion(self, flight: _GenerationFlight, reason: FinishReason) -> Completion:
        generation, text = flight.generation, flight.text
        token_ids = tuple(generation.output_ids)
        stop_string = None if text is None else text.finish()
        return Completion(
            text=self._text(flight, stop_string),
            reasoning=None if text is None else text.thought,
            token_ids=token_ids,
            finish_reason=reason if stop_string is None else FinishReason.STOP,
            usage=Usage(len(generation.prompt_ids), generation.num_cached_tokens, len(token_ids)),
            num_near_ties=generation.num_near_ties,
            stop_string=stop_string,
            logprobs=self._logprobs(flight),
        )

    def _text(self, flight: _GenerationFlight, stop_string: str | None) -> str:
        """Return the text of a completion: under a constraint, exactly what its grammar accepted."""
        generation, text = flight.generation, flight.text
        if flight.grammar is not None and (text is None or stop_string is None):
            return "" if generation.matcher is None else generation.matcher.text
        if text is None:
            return self._tokenizer.decode(tuple(generation.output_ids))
        return text.text if flight.grammar is None else text.answer

    def _logprobs(self, flight: _GenerationFlight) -> tuple[TokenLogprob, ...] | None:
        if flight.generation.request.sampling.num_logprobs is None:
            return None
        return tuple(
            TokenLogprob(
                token_id,
                *self._token(token_id),
                scores.logprob,
                tuple(TopLogprob(other, *self._token(other), logprob) for other, logprob in scores.top),
            )
            for token_id, scores in zip(flight.generation.output_ids, flight.scores, strict=True)
        )

    def _token(self, token_id: int) -> tuple[str, bytes]:
        """Return the text and the bytes of a token."""
        utf8 = self._tokenizer.token_bytes(token_id)
        return utf8.decode(errors="replace"), utf8

    def _fail_row(self, generation: Generation, cause: Exception) -> None:
        flight = self._flight_of(generation)
        self._leave_slot(generation)
        if flight is not None:
            if isinstance(cause, PermanentError):
                self._fail(flight, cause)
                return
            error = EngineError(f"the engine step of request {flight.request_id} failed: {cause!r}")
            error.__cause__ = cause
            self._fail(flight, error)

    def _leave_slot(self, generation: Generation) -> None:
        """Remove the generation from the scheduler; another row may move into its slot."""
        move = self._scheduler.remove(generation)
        if move is not None:
            self._executor.move(move)

    def _flight_of(self, generation: Generation) -> _GenerationFlight | None:
        """Return the request of a generation, or None if nobody waits for it any more.

        After a cancellation, another request may have the same id, so the flight must belong to this
        generation.
        """
        flight = self._flights.get(generation.request.request_id)
        return flight if flight is not None and flight.generation is generation else None


def _is_satisfied(grammar: Matcher, text: str) -> bool:
    """Return whether a whole text satisfies a constraint."""
    matcher = grammar.begin()
    try:
        matcher.accept_text(text)
    except PermanentError:
        return False
    return matcher.is_satisfied


def find_error(request: Request, *, num_tokens: int, max_context_tokens: int) -> PressroomError | None:
    """Return why the request cannot run, or None. num_tokens is the model's number of token ids."""
    prompt_ids, sampling = request.prompt_ids, request.sampling
    if not prompt_ids:
        return InputError(f"request {request.request_id}: the prompt is empty; it needs at least one token")
    if min(prompt_ids) < 0 or max(prompt_ids) >= num_tokens:
        bad = next(token for token in prompt_ids if not 0 <= token < num_tokens)
        return InputError(
            f"request {request.request_id}: token id {bad} is not below {num_tokens}; "
            "was the prompt encoded with another model's tokenizer?"
        )
    problem = sampling_problem(sampling, num_tokens)
    if problem is not None:
        return InputError(f"request {request.request_id}: {problem}")
    if len(prompt_ids) + request.max_new_tokens > max_context_tokens:
        return PromptTooLongError(len(prompt_ids), request.max_new_tokens, max_context_tokens)
    if request.deadline_at is not None and request.deadline_at <= time.monotonic():
        return deadline_error(request.request_id)
    return None


def sampling_problem(sampling: Sampling, num_tokens: int) -> str | None:
    """Return what is wrong with the sampling parameters for a model with num_tokens token ids, or None.

    >>> sampling_problem(Sampling(max_new_tokens=0), 100)
    'max_new_tokens is 0; it must be at least 1'
    """
    checks = (
        (sampling.max_new_tokens >= 1, "max_new_tokens", sampling.max_new_tokens, "at least 1"),
        (sampling.temperature >= 0, "temperature", sampling.temperature, "0 or above"),
        (math.isfinite(sampling.temperature), "temperature", sampling.temperature, "finite"),
        (sampling.min_new_tokens >= 0, "min_new_tokens", sampling.min_new_tokens, "0 or above"),
        (
            sampling.min_new_tokens <= sampling.max_new_tokens,
            "min_new_tokens",
            sampling.min_new_tokens,
            f"at most max_new_tokens, which is {sampling.max_new_tokens}",
        ),
        (0 < sampling.top_p <= 1, "top_p", sampling.top_p, "above 0 and at most 1"),
        (sampling.top_k >= 0, "top_k", sampling.top_k, "0 or above"),
        (0 <= sampling.min_p <= 1, "min_p", sampling.min_p, "from 0 to 1"),
        (sampling.repetition_penalty > 0, "repetition_penalty", sampling.repetition_penalty, "above 0"),
        (math.isfinite(sampling.repetition_penalty), "repetition_penalty", "infinite", "finite"),
        (-2 <= sampling.presence_penalty <= 2, "presence_penalty", sampling.presence_penalty, "from -2 to 2"),
        (
            -2 <= sampling.frequency_penalty <= 2,
            "frequency_penalty",
            sampling.frequency_penalty,
            "from -2 to 2",
        ),
        (_MIN_SEED <= sampling.seed <= _MAX_SEED, "seed", sampling.seed, "a 64-bit integer"),
        (all(sampling.stop), "stop", sampling.stop, "without empty strings"),
        (
            sampling.constraint is None or not sampling.ignore_end_of_text,
            "ignore_end_of_text",
            sampling.ignore_end_of_text,
            "false with a constraint, which decides where a text may end",
        ),
        (
            all(-100 <= bias <= 100 for _, bias in sampling.logit_bias),
            "logit_bias",
            dict(sampling.logit_bias),
            "from -100 to 100 for each token",
        ),
        (
            all(0 <= token_id < num_tokens for token_id, _ in sampling.logit_bias),
            "logit_bias",
            dict(sampling.logit_bias),
            f"for token ids from 0 to {num_tokens - 1}, which are those of the model",
        ),
        (
            len(dict(sampling.logit_bias)) == len(sampling.logit_bias),
            "logit_bias",
            list(sampling.logit_bias),
            "a list without repeated token ids",
        ),
        (
            sampling.num_logprobs is None or 0 <= sampling.num_logprobs <= MAX_LOGPROBS,
            "num_logprobs",
            sampling.num_logprobs,
            f"from 0 to {MAX_LOGPROBS}",
        ),
    )
    return next(
        (f"{name} is {value}; it must be {wanted}" for ok, name, value, wanted in checks if not ok), None
    )
