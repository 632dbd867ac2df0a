"""The statement of how an artifact was made: an in-toto Statement v1 in canonical JSON (RFC 8785).

Integers stay under 2^53, decimals are strings, times are UTC; the bytes are stored as they are and never
serialised again, so that a signature over them can be added and checked by anyone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

import rfc8785

from jobs.inference import FinishReason, Sampling, Usage
from jobs.kind import Template

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:pressroom:provenance:1"

Json = None | bool | int | str | Sequence["Json"] | Mapping[str, "Json"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A file that the statement is about."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """Which attempt of which job made it."""

    id: UUID
    batch_id: UUID
    custom_id: str
    kind: str
    kind_version: str
    attempt: int
    celery_task_id: str
    worker_id: str
    worker_device: str
    """As the worker's machine counts: "cuda:1"; the engine sees its own GPU only, as cuda:0."""
    queued_at: datetime
    started_at: datetime
    finished_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """The model, by what its installed manifest says."""

    name: str
    source: str
    revision: str
    weights_sha256: str
    tokenizer_sha256: str
    chat_template_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """The engine and the arithmetic under it."""

    name: str
    versions: tuple[tuple[str, str], ...]
    dtype: str
    device: str
    attention: str
    num_slots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One call of the model."""

    prompt_sha256: str
    """Of the prompt's token ids, see `token_digest`."""
    output_sha256: str
    """Of the new token ids."""
    sampling: Sampling
    usage: Usage
    finish_reason: FinishReason
    num_near_ties: int


@dataclass(frozen=True, slots=True)
class CodeFacts:
    """The version of Pressroom that ran."""

    version: str
    commit: str
    """Of the checkout it ran from; "unknown" for an installed package that does not carry one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Everything that a statement says; `canonical_bytes` is its only serialisation."""

    subjects: tuple[Subject, ...]
    job: JobFacts
    input_sha256: str
    """Of the payload as canonical JSON."""
    template: Template
    model: ModelFacts | None
    engine: EngineFacts | None
    """Both empty for a job that asked no model."""
    generations: tuple[Generation, ...]
    code: CodeFacts

    def canonical_bytes(self) -> bytes:
        """The statement as RFC 8785 canonical JSON."""
        usage = sum((generation.usage for generation in self.generations), Usage())
        predicate: Mapping[str, Json] = {
            "job": {
                "id": str(self.job.id),
                "batch": str(self.job.batch_id),
                "customId": self.job.custom_id,
                "kind": f"{self.job.kind}@{self.job.kind_version}",
                "attempt": self.job.attempt,
            },
            "inputs": [{"role": "payload", "sha256": self.input_sha256}],
            "prompt": {
                "template": self.template.name,
                "version": self.template.version,
                "sha256": self.template.sha256,
            },
            "model": None if self.model is None else asdict(self.model),
            "engine": None
            if self.engine is None
            else {**asdict(self.engine), "versions": dict(self.engine.versions)},
            "generations": [_generation(generation) for generation in self.generations],
            "usage": asdict(usage),
            "code": asdict(self.code),
            "worker": {
                "id": self.job.worker_id,
                "device": self.job.worker_device,
                "celeryTaskId": self.job.celery_task_id,
            },
            "timings": {
                "queuedAt": timestamp(self.job.queued_at),
                "startedAt": timestamp(self.job.started_at),
                "finishedAt": timestamp(self.job.finished_at),
            },
        }
        return rfc8785.dumps(
            {
                "_type": STATEMENT_TYPE,
                "subject": [{"name": s.name, "digest": {"sha256": s.sha256}} for s in self.subjects],
                "predicateType": PREDICATE_TYPE,
                "predicate": predicate,
            }
        )


def _generation(generation: Generation) -> Mapping[str, Json]:
    sampling = generation.sampling
    return {
        "promptSha256": generation.prompt_sha256,
        "outputSha256": generation.output_sha256,
        "sampling": {
            "maxNewTokens": sampling.max_new_tokens,
            "temperature": str(sampling.temperature),
            "topP": str(sampling.top_p),
            "topK": sampling.top_k,
            "repetitionPenalty": str(sampling.repetition_penalty),
            "seed": sampling.seed,
            "stop": list(sampling.stop),
        },
        "usage": asdict(generation.usage),
        "finishReason": generation.finish_reason.value,
        "numNearTies": generation.num_near_ties,
    }


def sha256_hex(body: bytes) -> str:
    """Lower-case hex SHA-256.

    >>> sha256_hex(b"")[:16]
    'e3b0c44298fc1c14'
    """
    return hashlib.sha256(body).hexdigest()


def payload_digest(payload: Mapping[str, object]) -> str:
    """SHA-256 of a payload as canonical JSON: the same for the same content in any key order.

    >>> payload_digest({"a": 1, "b": 2}) == payload_digest({"b": 2, "a": 1})
    True
    """
    return sha256_hex(rfc8785.dumps(cast("Json", payload)))


def token_digest(token_ids: Sequence[int]) -> str:
    """SHA-256 over token ids as little-endian 32-bit integers.

    >>> token_digest([1, 2]) != token_digest([2, 1])
    True
    """
    return sha256_hex(b"".join(token_id.to_bytes(4, "little") for token_id in token_ids))


def timestamp(instant: datetime) -> str:
    """An instant in UTC, RFC 3339 with microseconds.

    >>> timestamp(datetime(2026, 1, 2, tzinfo=UTC))
    '2026-01-02T00:00:00.000000Z'
    """
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
