"""Lines that share a job: embeddings, which are computed together, and lines that were refused.

A refused line is kept with its reason, so that the error file has it wherever the results are written. Each
line of a block has an outcome of its own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from pydantic import BaseModel, ConfigDict

from jobs.inference import Embedding, Inference
from jobs.kind import Artifact, Result
from jobs.rejection import Refusal, apart
from kinds.prompt.openai.lines import BlockLine, EmbeddingBody, Failure, LineRequest, RefusedLine
from kinds.prompt.openai.responses import (
    JsonObject,
    decoded_vector,
    embedding_response,
    encoded_vector,
)
from kinds.prompt.payload import PromptOutput

BLOCK_TEXTS = 256
"""Number of texts at which a block is complete. They take about a second of a CPU core, so that a job's own
cost of some milliseconds does not matter."""

BLOCK_CHARACTERS = 2**20
"""Number of characters at which a block is complete, so that few long texts do not make a huge row."""

OUTCOMES_FILE = "outcomes.jsonl"


class LineOutcome(BaseModel):
    """The outcome of one line of a block: its embeddings, or why it has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    custom_id: str
    model: str = ""
    encoding_format: Literal["float", "base64"] = "float"
    vectors: tuple[str, ...] = ()
    """Embeddings in Base64 (see `encoded_vector`), whatever format the line requests."""
    num_tokens: int = 0
    failure: Failure | None = None

    def body(self) -> JsonObject:
        """Return the body of the response."""
        if self.encoding_format == "base64":
            return embedding_response(self.model, self.vectors, self.num_tokens)
        return embedding_response(self.model, list(map(decoded_vector, self.vectors)), self.num_tokens)


@dataclass(slots=True)
class BlockMaker:
    """Collects lines until they are enough for a job."""

    lines: list[BlockLine] = field(default_factory=list)
    _num_texts: int = 0
    _num_characters: int = 0

    def add(self, line: BlockLine) -> None:
        """Add a line."""
        self.lines.append(line)
        if isinstance(line, RefusedLine):
            self._num_texts += 1
        else:
            self._num_texts += len(line.embedding_body().input)
            self._num_characters += len(line.body)

    @property
    def is_full(self) -> bool:
        """Whether the block is complete."""
        return self._num_texts >= BLOCK_TEXTS or self._num_characters >= BLOCK_CHARACTERS

    def take(self) -> tuple[BlockLine, ...]:
        """Return the lines, and begin the next block."""
        lines, self.lines = tuple(self.lines), []
        self._num_texts = self._num_characters = 0
        return lines


def run_block(lines: Sequence[BlockLine], inference: Inference) -> Result:
    """Compute the embeddings of a block. A text that cannot be embedded fails its own line alone.

    Raises the errors of `Inference.embeddings` that are not the fault of a text.
    """
    outcomes = list(_outcomes(lines, inference))
    body = "".join(outcome.model_dump_json(exclude_defaults=True) + "\n" for outcome in outcomes)
    num_failed = sum(outcome.failure is not None for outcome in outcomes)
    return Result(
        artifacts=(Artifact(name=OUTCOMES_FILE, media_type="application/jsonl", body=body.encode()),),
        metrics={"num_lines": len(outcomes), "num_failed": num_failed},
        output=PromptOutput(finish_reasons=()),
    )


def read_outcomes(body: bytes) -> Iterator[LineOutcome]:
    """Yield the outcomes of a block from its artifact."""
    return map(LineOutcome.model_validate_json, body.splitlines())


def _outcomes(lines: Sequence[BlockLine], inference: Inference) -> Iterator[LineOutcome]:
    """Yield the outcome of each line, in order."""
    texts: defaultdict[str, list[str]] = defaultdict(list)
    bodies = [line.embedding_body() if isinstance(line, LineRequest) else None for line in lines]
    for line, body in zip(lines, bodies, strict=True):
        if isinstance(line, LineRequest) and body is not None:
            texts[line.model].extend(body.input)
    embeddings = {model: iter(_embedded(some, inference, model)) for model, some in texts.items()}
    for line, body in zip(lines, bodies, strict=True):
        if isinstance(line, RefusedLine):
            yield LineOutcome(custom_id=line.custom_id, failure=line.failure)
        elif body is not None:
            yield _outcome(line, body, list(islice(embeddings[line.model], len(body.input))))


def _embedded(texts: Sequence[str], inference: Inference, model: str) -> list[Embedding | Refusal]:
    return apart(texts, lambda some: inference.embeddings(some, model=model))


def _outcome(
    line: LineRequest, body: EmbeddingBody, embeddings: Sequence[Embedding | Refusal]
) -> LineOutcome:
    vectors: list[str] = []
    num_tokens = 0
    for number, embedding in enumerate(embeddings):
        failure = _failure(embedding, body, place="input" if len(embeddings) == 1 else f"input.{number}")
        if isinstance(embedding, Refusal) or failure is not None:
            return LineOutcome(custom_id=line.custom_id, failure=failure)
        vectors.append(encoded_vector(embedding.vector))
        num_tokens += embedding.num_tokens
    return LineOutcome(
        custom_id=line.custom_id,
        model=line.model,
        encoding_format=body.encoding_format,
        vectors=tuple(vectors),
        num_tokens=num_tokens,
    )


def _failure(embedding: Embedding | Refusal, body: EmbeddingBody, place: str) -> Failure | None:
    """Return why a text has no embedding that the line could return; None if it has one."""
    if isinstance(embedding, Refusal):
        return Failure(embedding.code, f"{place} {embedding.reason}", place)
    if embedding.is_truncated:
        reason = f"{place} is longer than the {embedding.num_tokens} tokens that the model reads: split it"
        return Failure("prompt_too_long", reason, place)
    num_dimensions = len(embedding.vector)
    if body.dimensions not in (None, num_dimensions):
        reason = f"dimensions is {body.dimensions}, but the model has {num_dimensions}: leave it out"
        return Failure("invalid_value", reason, "dimensions")
    if not math.isfinite(sum(embedding.vector)):
        reason = f"the embedding of {place} contains a number that is not finite"
        return Failure("answer_not_finite", reason, place, is_refused=False)
    return None
