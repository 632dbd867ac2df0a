"""Access to a worker's models for one job, with a record of every call for the provenance."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field, replace
from typing import TypeVar

from jobs.errors import DeadlineError, TransientError
from jobs.inference import (
    Completion,
    Embedding,
    FinishReason,
    LabelProbabilities,
    Prompt,
    RawPrompt,
    Sampling,
    TextPair,
)
from jobs.job import ClaimedJob
from jobs.provenance import (
    Encoding,
    EngineFacts,
    Generation,
    ModelFacts,
    ThinkingFacts,
    row_bytes,
    token_digest,
    vector_bytes,
)
from jobs.text.thoughts import DEFAULT_MARKS
from workers.engine import EncoderRequest, EncoderRow, EncoderTask, Request, Tokenizer, Vector
from workers.model_pool import EncoderModel, LanguageModel, ModelPool
from workers.models.calibration import Calibration
from workers.thinking import ThoughtPlan, ThoughtUnfinishedError

ENGINE_GRACE_SECONDS = 30.0
"""Seconds after a job's deadline at which an unanswered request is given up. This is only a safeguard: the
engine normally ends a request at its deadline."""

MAX_REASONING_CHARACTERS = 100_000
"""Maximum length of the thoughts that a kind receives; the rest is left out. Ten thousand tokens of English
have half as many characters, but a token of a run of blanks may have a hundred."""

AnswerT = TypeVar("AnswerT")


class JobAbandonedError(TransientError):
    """The worker no longer holds the job: its lease was lost, its time is up, or the worker is stopping."""

    code = "job_abandoned"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    """The models that a job used and the calls that it made to them."""

    model: ModelFacts | None
    engine: EngineFacts | None
    """Facts about the engine of the first language model that was used; None if none was used."""
    models: tuple[ModelFacts, ...]
    generations: tuple[Generation, ...]
    encodings: tuple[Encoding, ...]


@dataclass(slots=True)
class _EncodingLog:
    encoder: EncoderModel
    calibration: Calibration | None
    num_calls: int = 0
    num_inputs: int = 0
    inputs: hashlib._Hash = field(default_factory=hashlib.sha256)
    outputs: hashlib._Hash = field(default_factory=hashlib.sha256)

    def facts(self) -> Encoding:
        return Encoding(
            task=self.encoder.engine.info.task,
            model=self.encoder.model_facts(),
            engine=self.encoder.engine_facts(),
            num_calls=self.num_calls,
            num_inputs=self.num_inputs,
            inputs_sha256=self.inputs.hexdigest(),
            outputs_sha256=self.outputs.hexdigest(),
            calibration=None if self.calibration is None else self.calibration.facts(),
        )


def _thought_tokens(model: LanguageModel, prompt_ids: tuple[int, ...], sampling: Sampling) -> int:
    """Return the maximum tokens of a thought: the setting, or what is left of the context if that is less."""
    room = model.engine.info.max_context_tokens - len(prompt_ids) - sampling.max_new_tokens
    return max(0, min(model.thinking.max_tokens, room))


def _prompt_ids(prompt: Prompt | RawPrompt, tokenizer: Tokenizer) -> tuple[int, ...]:
    if isinstance(prompt, RawPrompt):
        return tokenizer.encode_text(prompt.text)
    messages = tuple((message.role, message.content) for message in prompt.messages)
    return tokenizer.encode_chat(messages, prompt.template_arguments)


def _thinking_facts(model: LanguageModel, prompt: Prompt | RawPrompt, thoughts: ThoughtPlan) -> ThinkingFacts:
    return ThinkingFacts(
        is_requested=model.thinking.is_requested,
        template_settings=() if isinstance(prompt, RawPrompt) else model.template_settings,
        max_tokens=thoughts.max_tokens,
    )


def _constrained(completion: Completion, thoughts: ThoughtPlan | None, model: str) -> Completion:
    """Return the completion of a request with a constraint, whose answer the engine has separated.

    Raises ThoughtUnfinishedError if there is no answer.
    """
    if thoughts is not None and not completion.text:
        raise _unfinished(completion, model)
    if completion.reasoning is None:
        return completion
    return replace(completion, reasoning=_reasoning(completion.reasoning, thoughts))


def _without_thoughts(completion: Completion, thoughts: ThoughtPlan | None, model: str) -> Completion:
    """Return the completion with its thoughts apart from its text, as the kind receives it.

    Raises ThoughtUnfinishedError if there is no answer.
    """
    marks = DEFAULT_MARKS if thoughts is None else thoughts.marks
    is_inside = thoughts is not None and thoughts.is_inside
    text, is_open = marks.answer(completion.text, is_inside=is_inside)
    is_cut = completion.finish_reason is FinishReason.LENGTH
    if is_open or (is_cut and not text and completion.text):
        raise _unfinished(completion, model)
    if text == completion.text:
        return completion
    return replace(completion, text=text, reasoning=_reasoning(completion.text, thoughts))


def _reasoning(text: str, thoughts: ThoughtPlan | None) -> str | None:
    """Return the thoughts in a text without their marks; None if there are none."""
    marks = DEFAULT_MARKS if thoughts is None else thoughts.marks
    reasoning = marks.reasoning(text, is_inside=thoughts is not None and thoughts.is_inside)
    if reasoning is not None and len(reasoning) > MAX_REASONING_CHARACTERS:
        return reasoning[:MAX_REASONING_CHARACTERS] + "\N{HORIZONTAL ELLIPSIS}"
    return reasoning


def _unfinished(completion: Completion, model: str) -> ThoughtUnfinishedError:
    return ThoughtUnfinishedError(
        f"the model {model!r} was still thinking after {completion.usage.new_tokens} tokens, so there "
        "is no answer: raise PRESSROOM_MAX_THOUGHT_TOKENS or PRESSROOM_MAX_CONTEXT_TOKENS, or use a "
        "model whose chat template can turn thinking off"
    )


class JobInference:
    """`jobs.inference.Inference` for one job. One thread may make calls while another calls `abandon`."""

    def __init__(self, job: ClaimedJob, models: ModelPool, *, deadline_at: float) -> None:
        """Create the inference for one attempt at the job. `deadline_at` is on time.monotonic()."""
        self._request_prefix = f"{job.id}/{job.attempt}"
        self._model = job.model
        self._models = models
        self.deadline_at = deadline_at
        """Deadline on time.monotonic()."""
        self._lock = threading.Lock()
        self._num_calls = 0
        self._cancel_current: Callable[[], None] | None = None
        self._generations: list[Generation] = []
        self._language_models: dict[str, LanguageModel] = {}
        self._encodings: dict[tuple[str, bool], _EncodingLog] = {}
        self._calibrations: dict[str, Calibration | None] = {}
        self.abandoned = threading.Event()
        """Event that is set when this attempt must stop."""

    def generate(
        self, prompt: Prompt | RawPrompt, sampling: Sampling, *, model: str | None = None
    ) -> Completion:
        """Generate a text; block until it is complete.

        Raises as described in jobs.inference.Inference, and JobAbandonedError.
        """
        name = self._model if model is None else model
        self._language_models[name] = language_model = self._models.generator(name)
        prompt_ids = _prompt_ids(prompt, language_model.tokenizer)
        request_id = self._next_id()
        thoughts = language_model.plan_thoughts(
            prompt_ids, _thought_tokens(language_model, prompt_ids, sampling)
        )
        request = Request(
            request_id=request_id,
            prompt_ids=prompt_ids,
            sampling=sampling,
            deadline_at=self.deadline_at,
            thoughts=thoughts,
        )
        completion = self._wait(
            lambda: language_model.engine.submit(request), lambda: language_model.engine.cancel(request_id)
        )
        self._generations.append(
            Generation(
                prompt_sha256=token_digest(prompt_ids),
                output_sha256=token_digest(completion.token_ids),
                sampling=sampling,
                usage=completion.usage,
                finish_reason=completion.finish_reason,
                num_near_ties=completion.num_near_ties,
                model_name=name,
                thinking=None if thoughts is None else _thinking_facts(language_model, prompt, thoughts),
                template_arguments=prompt.template_arguments if isinstance(prompt, Prompt) else (),
                is_raw=isinstance(prompt, RawPrompt),
            )
        )
        if sampling.constraint is not None:
            return _constrained(completion, thoughts, name)
        return _without_thoughts(completion, thoughts, name)

    def classify(
        self, pairs: Sequence[TextPair], *, model: str | None = None, calibrated: bool = True
    ) -> tuple[LabelProbabilities, ...]:
        """Classify the pairs; block until all are done. Raises as `generate` and `read_calibration` do."""
        labels = self._encoder(model, "classify").engine.info.labels
        _, answers = self._encode(pairs, model, "classify", calibrated=calibrated)
        return tuple(LabelProbabilities(labels, values) for values in answers)

    def model_sha256(self, *, model: str | None = None) -> str:
        """Return the digest that identifies a classifier and its calibration. Raises as `classify` does."""
        encoder = self._encoder(model, "classify")
        manifest = encoder.manifest
        calibration = self._calibration(encoder)
        parts = (
            manifest.weights_sha256,
            manifest.tokenizer_sha256,
            encoder.classifier_sha256 or "",
            *([] if calibration is None else [calibration.sha256]),
        )
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def embed(self, texts: Sequence[str], *, model: str | None = None) -> tuple[Vector, ...]:
        """Embed the texts; block until every text has its vector. Raises as `generate` does."""
        return self._encode([TextPair(text) for text in texts], model, "embed")[1]

    def embeddings(self, texts: Sequence[str], *, model: str | None = None) -> tuple[Embedding, ...]:
        """Embed the texts like `embed`; also return how much of each was used."""
        rows, vectors = self._encode([TextPair(text) for text in texts], model, "embed")
        return tuple(
            Embedding(vector, len(row.token_ids), row.is_truncated)
            for row, vector in zip(rows, vectors, strict=True)
        )

    def _calibration(self, encoder: EncoderModel) -> Calibration | None:
        """Return the calibration as it was when this job first used it.

        It is read once per job, because `model_sha256` must identify the calibration that was applied to the
        job's answers.
        """
        name = encoder.manifest.name
        if name not in self._calibrations:
            self._calibrations[name] = encoder.read_calibration()
        return self._calibrations[name]

    def _encoder(self, model: str | None, task: EncoderTask) -> EncoderModel:
        return self._models.encoder(self._model if model is None else model, task)

    def _encode(
        self, pairs: Sequence[TextPair], model: str | None, task: EncoderTask, *, calibrated: bool = False
    ) -> tuple[tuple[EncoderRow, ...], tuple[Vector, ...]]:
        """Return the row of each text or pair, and its answer."""
        encoder = self._encoder(model, task)
        calibration = self._calibration(encoder) if calibrated else None
        rows = encoder.tokenizer.encode(pairs)  # in the job's thread, while the engine computes other rows
        request_id = self._next_id()
        request = EncoderRequest(request_id=request_id, rows=rows, deadline_at=self.deadline_at)
        answers = self._wait(
            lambda: encoder.engine.submit(request), lambda: encoder.engine.cancel(request_id)
        )
        if calibration is not None:
            answers = tuple(calibration.apply(answers, encoder.engine.info.labels))
        key = (encoder.manifest.name, calibration is not None)
        log = self._encodings.setdefault(key, _EncodingLog(encoder, calibration))
        log.num_calls += 1
        log.num_inputs += len(rows)
        for row, answer in zip(rows, answers, strict=True):
            log.inputs.update(row_bytes(row.token_ids, row.type_ids))
            log.outputs.update(vector_bytes(answer))
        return rows, answers

    def _next_id(self) -> str:
        self._num_calls += 1
        return f"{self._request_prefix}/{self._num_calls}"

    def _wait(self, submit: Callable[[], Future[AnswerT]], cancel: Callable[[], None]) -> AnswerT:
        with self._lock:
            self.require_held()
            self._cancel_current = cancel
            future = submit()  # never blocks; a later abandon() finds the request to cancel
        try:
            return future.result(timeout=self.deadline_at - time.monotonic() + ENGINE_GRACE_SECONDS)
        except CancelledError as error:
            raise JobAbandonedError("the job was taken from this worker") from error
        except FutureTimeoutError as error:
            cancel()
            raise DeadlineError("the engine did not answer by the job's deadline") from error

    def require_held(self) -> None:
        """Raise JobAbandonedError if this attempt must stop."""
        if self.abandoned.is_set():
            raise JobAbandonedError("the job was taken from this worker")

    def abandon(self) -> None:
        """Make the current call, all later calls and the wait for the store raise JobAbandonedError."""
        with self._lock:
            self.abandoned.set()
            cancel = self._cancel_current
        if cancel is not None:
            cancel()

    def model_use(self) -> ModelUse:
        """Return the models that the job has used so far. Call it once the kind has returned."""
        first = next(iter(self._language_models.values()), None)
        encodings = tuple(log.facts() for log in self._encodings.values())
        generators = (model.model_facts() for model in self._language_models.values())
        return ModelUse(
            model=None if first is None else first.model_facts(),
            engine=None if first is None else first.engine_facts(),
            models=tuple(dict.fromkeys((*generators, *(encoding.model for encoding in encodings)))),
            generations=tuple(self._generations),
            encodings=encodings,
        )
