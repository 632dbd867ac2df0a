"""Requests to models and their answers, free of tensors, tokenizers and engines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

from jobs.errors import PermanentError
from jobs.rejection import Refusal, apart

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat prompt."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A chat prompt. The worker turns it into token ids with the model's own chat template."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Sampling parameters. The defaults are greedy decoding without penalties."""

    max_new_tokens: int
    """Maximum number of tokens to generate; at least 1."""
    temperature: float = 0.0
    """With 0 the most likely token is taken; above 0 the logits are divided by it and a token is drawn."""
    top_p: float = 1.0
    """Nucleus sampling: tokens are drawn from the smallest set whose probability reaches this; 1 keeps
    all."""
    top_k: int = 0
    """Tokens are drawn from the k most likely ones only; 0 keeps all."""
    repetition_penalty: float = 1.0
    """Keskar et al. 2019, section 4.1: logits of tokens seen in prompt or output are divided (if positive)
    or multiplied (if negative) by it; 1 is off."""
    seed: int = 0
    """Seed of the request's own random generator: the same request draws the same tokens in any batch."""
    stop: tuple[str, ...] = ()
    """Strings that end generation. The string itself is not part of the text."""
    ignore_end_of_text: bool = False
    """Whether to generate up to max_new_tokens past the end-of-text token, for benchmarks."""


class FinishReason(StrEnum):
    """Why the text ended."""

    STOP = "stop"
    """The model ended the text, or a stop string was met."""
    LENGTH = "length"
    """max_new_tokens was reached."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts, which can be added up over requests, jobs and batches."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Number of prompt_tokens whose keys and values were reused rather than computed again."""
    new_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.new_tokens + other.new_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The text that the model generated for one request."""

    text: str
    token_ids: tuple[int, ...]
    """The new tokens, including end-of-text if the model generated it."""
    finish_reason: FinishReason
    usage: Usage
    num_near_ties: int = 0
    """Greedy steps in which the two best logits were closer than the precision of the engine's arithmetic. In
    such a step, another batch shape may choose the other token."""
    stop_string: str | None = field(default=None)
    """The stop string that ended the text, if one did."""


@dataclass(frozen=True, slots=True)
class TextPair:
    """A text to classify, optionally with respect to a target."""

    text: str
    target: str = ""
    """Target of the question, as the text names it; empty asks about the text as a whole."""


class ModelTaskError(PermanentError):
    """A model was asked to do a task that it was not made for."""

    code = "model_task_mismatch"


class OtherLabelsError(PermanentError):
    """A classifier's labels differ from those that a kind of content needs."""

    code = "model_labels_mismatch"

    def __init__(self, has: Sequence[str], needs: Sequence[str], *, model: str = "") -> None:
        super().__init__(
            f"the model{f' {model!r}' if model else ''} answers with the labels {', '.join(has)}; needed are "
            f"{', '.join(needs)}: name a classifier that has them, or install this one again with --labels"
        )


@dataclass(frozen=True, slots=True)
class LabelProbabilities:
    """A classifier's answer for one text: a probability for each of its labels, which sum to 1.

    >>> answer = LabelProbabilities(("spam", "ham"), (0.25, 0.75))
    >>> answer["ham"], answer.of(("ham", "spam"))
    (0.75, (0.75, 0.25))
    """

    labels: tuple[str, ...]
    """Labels in the order of the model's outputs; the same object in all answers of a call."""
    values: tuple[float, ...]

    def __getitem__(self, label: str) -> float:
        """Return the probability of one label. Raises OtherLabelsError."""
        if label not in self.labels:
            raise OtherLabelsError(self.labels, (label,))
        return self.values[self.labels.index(label)]

    def of(self, labels: tuple[str, ...]) -> tuple[float, ...]:
        """Return the probabilities in the order of these labels. Raises OtherLabelsError for any others."""
        if self.labels == labels:  # true of most models: no reordering is needed
            return self.values
        check_labels(self.labels, labels)
        return tuple(self.values[self.labels.index(label)] for label in labels)


def check_labels(has: Sequence[str], needs: Sequence[str], *, model: str = "") -> None:
    """Raise OtherLabelsError unless both contain the same labels, in any order."""
    if set(has) != set(needs):
        raise OtherLabelsError(has, needs, model=model)


class Inference(Protocol):
    """The port through which a kind reaches its worker's models; any thread may call it.

    `model` selects a loaded model other than the batch's own. Each method raises ModelTaskError for a model
    of another task, DeadlineError or EngineError.
    """

    def generate(self, prompt: Prompt, sampling: Sampling, *, model: str | None = None) -> Completion:
        """Generate a text; block until it is complete. Also raises PromptTooLongError."""
        ...

    def classify(
        self, pairs: Sequence[TextPair], *, model: str | None = None, calibrated: bool = True
    ) -> tuple[LabelProbabilities, ...]:
        """Return one answer per pair, in order. A text that is too long is judged by its beginning.

        With `calibrated`, the calibration stored with the model is applied, if there is one; all calls of a
        job use the same calibration, even if it changes meanwhile. Without, the probabilities are those of
        the model itself.
        """
        ...

    def model_sha256(self, *, model: str | None = None) -> str:
        """Return a digest of everything but the question that a classifier's calibrated answers depend on."""
        ...

    def embed(self, texts: Sequence[str], *, model: str | None = None) -> tuple[tuple[float, ...], ...]:
        """Return a vector of norm 1 for each text, in order."""
        ...


def embedded(
    texts: Sequence[str], inference: Inference, *, model: str | None
) -> list[tuple[float, ...] | Refusal]:
    """Return a vector for each text, in order; a text that cannot be embedded becomes a Refusal."""
    vectors = apart(texts, lambda some: inference.embed(some, model=model))
    return [
        vector if isinstance(vector, Refusal) or math.isfinite(sum(vector)) else _NO_NUMBER
        for vector in vectors
    ]


def classified(
    pairs: Sequence[TextPair], inference: Inference, *, calibrated: bool = True
) -> list[LabelProbabilities | Refusal]:
    """Return probabilities for each pair, in order; a pair that cannot be classified becomes a Refusal."""
    answers = apart(pairs, lambda some: inference.classify(some, calibrated=calibrated))
    return [
        answer if isinstance(answer, Refusal) or math.isfinite(sum(answer.values)) else _NO_NUMBER
        for answer in answers
    ]


_NO_NUMBER = Refusal("answer_not_finite", "the model answers with no finite number")
