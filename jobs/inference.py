"""Requests to models and their answers, as types that do not depend on tensors, tokenizers or engines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
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


TemplateArguments = tuple[tuple[str, str | int | float | bool], ...]
"""Names and values of variables for a model's chat template."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A chat prompt. The worker turns it into token ids with the model's own chat template."""

    messages: tuple[Message, ...]
    template_arguments: TemplateArguments = ()
    """Variables for the chat template, such as ("enable_thinking", True). They take precedence over the
    worker's own setting for thinking. A template ignores a variable that it does not read, so a misspelt name
    has no effect and is not reported."""


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """A prompt without a chat template: the model continues the text.

    The tokenizer adds the tokens with which it begins every text, if it has any. Control tokens in the text
    are read as such, so a kind that fills in texts of others must check these itself.
    """

    text: str


class ConstraintForm(StrEnum):
    """The language in which a constraint is written."""

    JSON_SCHEMA = "json_schema"
    """The source is a JSON schema. The order of its properties is the order in which the text has them."""
    JSON_OBJECT = "json_object"
    """Any JSON object. The source is empty."""
    REGEX = "regex"
    """The source is a regular expression in the syntax of Rust's regex crate. The whole text matches it."""
    CHOICE = "choice"
    """The source is a JSON list of strings, of which the text is one."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """What a text must look like. Equal constraints are equal objects, so that engines can cache their
    grammars.

    A text whose finish reason is STOP satisfies its constraint. A text that reached max_new_tokens may not.
    """

    form: ConstraintForm
    source: str

    @classmethod
    def of_schema(cls, schema: Mapping[str, object]) -> Constraint:
        """Return the constraint to a JSON schema. Its keys keep their order, because models write in it.

        >>> Constraint.of_schema({"type": "integer", "maximum": 9}).source
        '{"type":"integer","maximum":9}'
        """
        return cls(ConstraintForm.JSON_SCHEMA, _compact(schema))

    @classmethod
    def of_json_object(cls) -> Constraint:
        """Return the constraint to any JSON object."""
        return cls(ConstraintForm.JSON_OBJECT, "")

    @classmethod
    def of_regex(cls, pattern: str) -> Constraint:
        """Return the constraint to a regular expression."""
        return cls(ConstraintForm.REGEX, pattern)

    @classmethod
    def of_choice(cls, choices: Sequence[str]) -> Constraint:
        """Return the constraint to one of several texts."""
        return cls(ConstraintForm.CHOICE, _compact(list(choices)))


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Sampling parameters. The defaults are greedy decoding without penalties.

    Logits are changed in this order: logit bias, repetition penalty, frequency and presence penalty, minimum
    number of tokens, constraint, temperature, top-k, top-p, min-p.
    """

    max_new_tokens: int
    """Maximum number of tokens to generate; at least 1."""
    min_new_tokens: int = 0
    """Number of tokens that a text has at least. Until then, neither the end-of-text token nor a stop string
    ends it. Thoughts do not count."""
    temperature: float = 0.0
    """Sampling temperature. 0 always takes the most likely token; otherwise, logits are divided by the
    temperature before a token is drawn."""
    top_p: float = 1.0
    """Nucleus sampling: tokens are drawn from the smallest set whose total probability reaches this value; 1
    keeps all tokens."""
    top_k: int = 0
    """Number of most likely tokens from which one is drawn; 0 keeps all tokens."""
    min_p: float = 0.0
    """Minimum probability of a token relative to the most likely one (Nguyen et al. 2024, arXiv:2407.01082);
    0 keeps all tokens."""
    repetition_penalty: float = 1.0
    """Repetition penalty of Keskar et al. 2019, section 4.1: logits of tokens in the prompt or the output are
    divided by it if positive, and multiplied by it if negative; 1 changes nothing."""
    presence_penalty: float = 0.0
    """Number from -2 to 2 that is subtracted from the logit of each token that the output contains. The
    prompt does not count (OpenAI's definition, as for `frequency_penalty`)."""
    frequency_penalty: float = 0.0
    """Number from -2 to 2 that is subtracted from the logit of a token once for each time that the output
    contains it."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Token ids and the numbers from -100 to 100 that are added to their logits; -100 practically excludes a
    token, and 100 practically enforces it."""
    seed: int = 0
    """Seed of the request's own random generator, so that the same request draws the same tokens in any
    batch. Only a draw between two tokens that rounding can exchange may depend on the batch, mostly among
    very many improbable tokens, as at a high temperature without top-k or min-p. `Completion.num_near_ties`
    counts such draws."""
    stop: tuple[str, ...] = ()
    """Strings that end generation. The text does not include the string that ended it."""
    ignore_end_of_text: bool = False
    """Whether to continue after the end-of-text token, up to max_new_tokens; for benchmarks."""
    num_logprobs: int | None = None
    """Number of most likely tokens, at most 20, whose log-probabilities are returned at each place together
    with that of the generated token. None returns no log-probabilities at all."""
    constraint: Constraint | None = None
    """What the text must look like; None leaves the model free."""


@dataclass(frozen=True, slots=True)
class RequestSize:
    """An upper bound on the size of a request."""

    roles: tuple[Role, ...] | None
    """Roles of the turns of the request's prompt; None for a raw prompt."""
    num_bytes: int
    """Maximum total size of the contents of these turns, or of the raw prompt, in bytes of UTF-8. A token has
    at least one byte."""
    max_new_tokens: int
    template_arguments: TemplateArguments = ()
    constraint: Constraint | None = None
    """What the text must look like. At intake, the worker's engine is asked whether it can serve this."""

    @classmethod
    def of(cls, prompt: Prompt | RawPrompt, sampling: Sampling) -> RequestSize:
        """Return the exact size of a request."""
        if isinstance(prompt, RawPrompt):
            num_bytes = len(prompt.text.encode())
            return cls(None, num_bytes, sampling.max_new_tokens, constraint=sampling.constraint)
        return cls(
            tuple(message.role for message in prompt.messages),
            sum(len(message.content.encode()) for message in prompt.messages),
            sampling.max_new_tokens,
            prompt.template_arguments,
            sampling.constraint,
        )


class FinishReason(StrEnum):
    """Why generation ended."""

    STOP = "stop"
    """The model ended the text, or generated a stop string."""
    LENGTH = "length"
    """The text reached max_new_tokens."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts, which can be added up over requests, jobs and batches."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Number of prompt tokens whose keys and values were reused rather than computed again."""
    new_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.new_tokens + other.new_tokens,
        )


LEAST_LOGPROB = -9999.0
"""Log-probability that stands for all smaller ones, because JSON has no infinity; OpenAI's API uses the same
value."""


@dataclass(frozen=True, slots=True)
class TopLogprob:
    """The log-probability of a token that the model could have generated at a place."""

    token_id: int
    token: str
    """The token's text. A part of a character is U+FFFD."""
    utf8: bytes
    """The token's bytes, which may be a part of a character. Those of a special token, such as end-of-text,
    are its name."""
    logprob: float
    """Natural logarithm of the probability; at least LEAST_LOGPROB."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The log-probability of a generated token, and those of the most likely tokens at its place.

    They are the model's own, as OpenAI defines them: before any penalty, bias, constraint or temperature.
    """

    token_id: int
    token: str
    """The token's text. A part of a character is U+FFFD."""
    utf8: bytes
    """The token's bytes, as in TopLogprob."""
    logprob: float
    """Natural logarithm of the probability; at least LEAST_LOGPROB."""
    top: tuple[TopLogprob, ...] = ()
    """The `Sampling.num_logprobs` most likely tokens, the most likely first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The text that the model generated for one request."""

    text: str
    token_ids: tuple[int, ...]
    """Ids of the new tokens, including end-of-text if the model generated it."""
    finish_reason: FinishReason
    usage: Usage
    num_near_ties: int = 0
    """Number of steps in which two tokens differed by less than the precision of the engine's arithmetic: the
    two highest logits of a greedy step, or a sampled token and the next one that could have been drawn. In
    such a step, a different batch shape may select the other token."""
    stop_string: str | None = field(default=None)
    """Stop string that ended the text; None if no stop string did."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    """One entry for each of `token_ids`, and so also for tokens of thoughts, stop strings and end-of-text;
    None if the sampling requests none."""
    reasoning: str | None = None
    """Thoughts of a model that thinks before it answers, which `text` does not contain; None without
    thoughts."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """The embedding of one text."""

    vector: tuple[float, ...]
    """Embedding of norm 1."""
    num_tokens: int
    """Number of tokens that it was computed from, including those that the model requires around a text."""
    is_truncated: bool
    """Whether the text is longer than the model can read, so that only its beginning was used."""


@dataclass(frozen=True, slots=True)
class TextPair:
    """A text to classify, optionally with respect to a target."""

    text: str
    target: str = ""
    """Target as the text names it; empty to classify the text as a whole."""


class ModelTaskError(PermanentError):
    """A request is for a task that the model cannot do."""

    code = "model_task_mismatch"


class OtherLabelsError(PermanentError):
    """A classifier's labels differ from those that the caller needs."""

    code = "model_labels_mismatch"

    def __init__(self, has: Sequence[str], needs: Sequence[str], *, model: str = "") -> None:
        super().__init__(
            f"the model{f' {model!r}' if model else ''} answers with the labels {', '.join(has)}, but the "
            f"required labels are {', '.join(needs)}: name a classifier that has them, or install this one "
            "again with --labels"
        )


@dataclass(frozen=True, slots=True)
class LabelProbabilities:
    """A classifier's answer for one text: a probability for each of its labels. They sum to 1.

    >>> answer = LabelProbabilities(("spam", "ham"), (0.25, 0.75))
    >>> answer["ham"], answer.of(("ham", "spam"))
    (0.75, (0.75, 0.25))
    """

    labels: tuple[str, ...]
    """Labels in the order of the model's outputs. All answers of a call share this object."""
    values: tuple[float, ...]

    def __getitem__(self, label: str) -> float:
        """Return the probability of one label. Raises OtherLabelsError."""
        if label not in self.labels:
            raise OtherLabelsError(self.labels, (label,))
        return self.values[self.labels.index(label)]

    def of(self, labels: tuple[str, ...]) -> tuple[float, ...]:
        """Return the probabilities in the order of these labels.

        Raises OtherLabelsError if the classifier has different labels.
        """
        if self.labels == labels:  # true of most models, which need no reordering
            return self.values
        check_labels(self.labels, labels)
        return tuple(self.values[self.labels.index(label)] for label in labels)


def check_labels(has: Sequence[str], needs: Sequence[str], *, model: str = "") -> None:
    """Raise OtherLabelsError unless both contain the same labels, in any order."""
    if set(has) != set(needs):
        raise OtherLabelsError(has, needs, model=model)


class Inference(Protocol):
    """The port through which a kind calls the models of its worker. Any thread may call it.

    `model` selects a loaded model other than the batch's own. Each method raises DeadlineError, EngineError,
    or ModelTaskError for a model that is made for a different task.
    """

    def generate(
        self, prompt: Prompt | RawPrompt, sampling: Sampling, *, model: str | None = None
    ) -> Completion:
        """Generate a text, and block until it is complete. Also raises PromptTooLongError and InputError."""
        ...

    def classify(
        self, pairs: Sequence[TextPair], *, model: str | None = None, calibrated: bool = True
    ) -> tuple[LabelProbabilities, ...]:
        """Return one answer per pair, in order. Of a text that is too long, only the beginning is used.

        With `calibrated`, the calibration stored with the model is applied, if there is one. All calls of a
        job use the same calibration, even if it is replaced in the meantime. Without `calibrated`, the
        probabilities are those of the model itself.
        """
        ...

    def model_sha256(self, *, model: str | None = None) -> str:
        """Return a digest of everything that determines a classifier's calibrated answers, except the
        texts."""
        ...

    def embed(self, texts: Sequence[str], *, model: str | None = None) -> tuple[tuple[float, ...], ...]:
        """Return an embedding of norm 1 for each text, in order."""
        ...

    def embeddings(self, texts: Sequence[str], *, model: str | None = None) -> tuple[Embedding, ...]:
        """Do the same as `embed`, and also return how much of each text was used."""
        ...


def embedded(
    texts: Sequence[str], inference: Inference, *, model: str | None
) -> list[tuple[float, ...] | Refusal]:
    """Return an embedding for each text, in order, or a Refusal for a text that cannot be embedded."""
    vectors = apart(texts, lambda some: inference.embed(some, model=model))
    return [
        vector if isinstance(vector, Refusal) or math.isfinite(sum(vector)) else _NO_NUMBER
        for vector in vectors
    ]


def classified(
    pairs: Sequence[TextPair], inference: Inference, *, calibrated: bool = True
) -> list[LabelProbabilities | Refusal]:
    """Return probabilities for each pair, in order, or a Refusal for a pair that cannot be classified."""
    answers = apart(pairs, lambda some: inference.classify(some, calibrated=calibrated))
    return [
        answer if isinstance(answer, Refusal) or math.isfinite(sum(answer.values)) else _NO_NUMBER
        for answer in answers
    ]


_NO_NUMBER = Refusal("answer_not_finite", "the model's answer contains a number that is not finite")
