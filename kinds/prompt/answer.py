"""The answers to a row's request, and the artifacts that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter

from jobs.errors import PermanentError
from jobs.inference import Completion, FinishReason, TokenLogprob
from jobs.kind import Artifact
from jobs.rejection import quoted
from jobs.shown import json_text
from kinds.prompt.payload import PromptSettings
from kinds.prompt.schema import answer_fields
from kinds.prompt.truncation import Cut

if TYPE_CHECKING:
    from db.reports import JobResult
    from pressroom.results import Result

TEXT_FILE = "text.txt"
FIELDS_FILE = "output.json"
ANSWERS_FILE = "answers.json"
"""Second artifact of a row whose answers are more than the first artifact can hold."""


NUM_CUT = "num_cut"
"""Metric of a row: the number of its texts that reached their maximum number of tokens, if there are any."""


class AnswerCutError(PermanentError):
    """An answer under a constraint reached the maximum number of tokens before it was complete."""

    code = "answer_cut"


class TokenProbability(BaseModel):
    """The log-probability of a generated token, and those of the most likely tokens at its place."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: str
    logprob: float
    """Natural logarithm of the probability."""
    top: tuple[tuple[str, float], ...] = ()


class Answer(BaseModel):
    """One answer of the model: a text, or the fields of a schema."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = ""
    """Text, without the white space around a free one; empty for an answer with fields."""
    fields: dict[str, JsonValue] | None = None
    finish_reason: FinishReason = FinishReason.STOP
    reasoning: str | None = None
    """Thoughts of a model that thinks; None without thoughts."""
    logprobs: tuple[TokenProbability, ...] | None = None
    """Log-probabilities of the tokens; None unless the settings request them."""
    truncated: str | None = None
    """Which column was cut in the prompt, and how much of it was kept; None if nothing was cut."""

    @property
    def is_simple(self) -> bool:
        """Whether the first artifact, with the metrics of the row, holds all of the answer."""
        return self.reasoning is None and self.logprobs is None and self.truncated is None


_ANSWERS = TypeAdapter(tuple[Answer, ...])


def answer_of(completion: Completion, settings: PromptSettings, cut: Cut | None = None) -> Answer:
    """Return the answer in a completion. Raises AnswerCutError or AnswerInvalidError."""
    truncated = None if cut is None else str(cut)
    logprobs = None if completion.logprobs is None else tuple(map(_probability, completion.logprobs))
    if settings.is_constrained and completion.finish_reason is FinishReason.LENGTH:
        raise AnswerCutError(
            f"the answer was cut after {completion.usage.new_tokens} tokens, before it was complete: raise "
            f"max_tokens; it begins with {quoted(completion.text)}"
        )
    if settings.json_schema is None:
        return Answer(
            text=completion.text if settings.is_constrained else completion.text.strip(),
            finish_reason=completion.finish_reason,
            reasoning=completion.reasoning,
            logprobs=logprobs,
            truncated=truncated,
        )
    fields = answer_fields(completion.text)
    return Answer(fields=fields, reasoning=completion.reasoning, logprobs=logprobs, truncated=truncated)


def _probability(token: TokenLogprob) -> TokenProbability:
    top = tuple((each.token, round(each.logprob, 6)) for each in token.top)
    return TokenProbability(token=token.token, logprob=round(token.logprob, 6), top=top)


def artifacts_of(answers: Sequence[Answer]) -> tuple[Artifact, ...]:
    """Return the artifacts of a row: its first answer for readers, and all answers if that is not enough."""
    first = answers[0]
    if first.fields is None:
        artifact = Artifact(name=TEXT_FILE, media_type="text/plain", body=f"{first.text}\n".encode())
    else:
        text = json_text(first.fields, indent=2) + "\n"
        artifact = Artifact(name=FIELDS_FILE, media_type="application/json", body=text.encode())
    if len(answers) == 1 and first.is_simple:
        return (artifact,)
    body = _ANSWERS.dump_json(tuple(answers), exclude_defaults=True)
    return artifact, Artifact(name=ANSWERS_FILE, media_type="application/json", body=body)


def read_answers(result: Result[JobResult]) -> tuple[Answer, ...]:
    """Return the answers of a row from its artifacts."""
    names, bodies = [artifact.name for artifact in result.evidence.artifacts], result.bodies
    if ANSWERS_FILE in names:
        return _ANSWERS.validate_json(bodies[names.index(ANSWERS_FILE)])
    if names[0] == FIELDS_FILE:
        return (Answer(fields=answer_fields(bodies[0].decode())),)
    is_cut = bool(result.job.metrics.get(NUM_CUT))
    finish_reason = FinishReason.LENGTH if is_cut else FinishReason.STOP
    return (Answer(text=bodies[0].decode().removesuffix("\n"), finish_reason=finish_reason),)
