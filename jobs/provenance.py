"""Provenance statements about artifacts: in-toto Statements v1 in canonical JSON (RFC 8785).

Keys are in lowerCamelCase, as in in-toto and SLSA. Integers are below 2^53, decimals are strings, and times
are in UTC. The bytes are stored unchanged and never serialised again, so that anyone can sign them and check
the signature later.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, cast
from uuid import UUID

from jobs.canonical_json import dumps_canonical
from jobs.errors import PermanentError
from jobs.inference import FinishReason, Sampling, TemplateArguments, Usage
from jobs.kind import Parent, Template

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:pressroom:provenance:2"

MAX_PARENTS = 1000
"""Maximum number of parents that a statement lists. Each takes about 150 bytes."""

Json = None | bool | int | str | Sequence["Json"] | Mapping[str, "Json"]


class StatementAlteredError(PermanentError):
    """A statement is not the one that was committed, or does not belong to the job it is stored with."""

    code = "statement_altered"


@dataclass(frozen=True, slots=True)
class Subject:
    """A file that the statement is about."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """The job and the attempt that produced the artifacts."""

    id: UUID
    batch_id: UUID
    custom_id: str
    kind: str
    kind_version: str
    attempt: int
    celery_task_id: str
    worker_id: str
    worker_device: str
    """Device with its number on the worker's machine, such as "cuda:1". The engine itself sees only its own
    GPU, as cuda:0."""
    queued_at: datetime
    started_at: datetime
    finished_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model, as described by its installed manifest."""

    name: str
    source: str
    revision: str
    weights_sha256: str
    tokenizer_sha256: str
    chat_template_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """The engine of a language model, and the arithmetic that it uses."""

    name: str
    versions: tuple[tuple[str, str], ...]
    dtype: str
    device: str
    attention: str
    num_slots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderFacts:
    """The engine of a classification or embedding model, and the arithmetic that it uses."""

    name: str
    versions: tuple[tuple[str, str], ...]
    dtype: str
    device: str
    attention: str
    max_batch_tokens: int
    max_tokens: int
    classifier_sha256: str | None
    """Digest of the file that assigns outputs to classes and contains the temperature fitted in training;
    None if the model is not a classifier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationFacts:
    """The calibration of a classifier's probabilities that was fitted after the model's installation.

    Pairs of metrics contain the value without the calibration first, then the value with it.
    """

    sha256: str
    """Digest of calibration.json in the model's folder."""
    file_name: str
    file_sha256: str
    """Digest of the labelled file that the calibration was fitted on."""
    num_fitted: int
    num_held_out: int
    """Number of held-out texts, which were used for the metrics but not for fitting."""
    temperature: str
    offsets: tuple[str, ...]
    """One offset for each label, in the order of calibration.json."""
    calibration_error: tuple[str, str]
    log_loss: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """All calls of a job to one classification or embedding model."""

    task: str
    model: ModelFacts
    engine: EncoderFacts
    num_calls: int
    num_inputs: int
    inputs_sha256: str
    """Digest of the token ids and segments of all inputs, in order; see `row_bytes`."""
    outputs_sha256: str
    """Digest of all answers, in order, after calibration and rounded to six decimals; see `vector_bytes`."""
    calibration: CalibrationFacts | None = None
    """Calibration that was applied; None if the probabilities are those of the model itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingFacts:
    """The worker's settings for a model that can think. A prompt's template arguments take precedence.

    Thoughts are not part of texts, but `output_sha256` covers them.
    """

    is_requested: bool
    template_settings: tuple[tuple[str, bool | int | str], ...]
    """Variables of the model's chat template that control thinking; empty if the template has none."""
    max_tokens: int
    """Maximum number of tokens of a thought, in addition to `Sampling.max_new_tokens`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One call to a language model."""

    prompt_sha256: str
    """Digest of the prompt's token ids; see `token_digest`."""
    output_sha256: str
    """Digest of the new token ids."""
    sampling: Sampling
    usage: Usage
    finish_reason: FinishReason
    num_near_ties: int
    model_name: str = ""
    """Name of the model that was called; empty for the statement's `model`."""
    thinking: ThinkingFacts | None = None
    """Settings for thinking; None for a model that is not known to think."""
    template_arguments: TemplateArguments = ()
    """The prompt's own variables for the chat template."""
    is_raw: bool = False
    """Whether the prompt was sent without a chat template."""


@dataclass(frozen=True, slots=True)
class CodeFacts:
    """The version of Pressroom that ran."""

    version: str
    commit: str
    """Commit of the checkout that ran; "unknown" for an installed package without this information."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The content of a statement. `canonical_bytes` is the only way to serialise it."""

    subjects: tuple[Subject, ...]
    job: JobFacts
    input_sha256: str
    """Digest of the payload as canonical JSON."""
    template: Template | None
    """Prompt template that was used; None for a job that sends no prompt to a language model."""
    model: ModelFacts | None
    engine: EngineFacts | None
    """Engine of `model`, the language model that was called first. Both are None if no such model was
    called."""
    generations: tuple[Generation, ...]
    code: CodeFacts
    models: tuple[ModelFacts, ...] = ()
    """All models that were called, including `model`."""
    encodings: tuple[Encoding, ...] = ()
    """Calls to classification and embedding models, with one entry per model."""
    parents: tuple[Parent, ...] = ()
    """Inputs that the artifacts were made from, besides the payload."""

    def canonical_bytes(self) -> bytes:
        """Return the statement as RFC 8785 canonical JSON."""
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
            "lineage": _lineage(self.parents),
            "prompt": None if self.template is None else _template(self.template),
            "model": None if self.model is None else _fields(self.model),
            "engine": None if self.engine is None else _engine(self.engine),
            "models": [_fields(model) for model in self.models],
            "generations": [_generation(generation, self.model) for generation in self.generations],
            "encodings": [_encoding(encoding) for encoding in self.encodings],
            "usage": _fields(usage),
            "code": _fields(self.code),
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
        return dumps_canonical(
            {
                "_type": STATEMENT_TYPE,
                "subject": [{"name": s.name, "digest": {"sha256": s.sha256}} for s in self.subjects],
                "predicateType": PREDICATE_TYPE,
                "predicate": predicate,
            }
        )


def check_statement(
    body: bytes,
    sha256: str,
    *,
    subjects: Sequence[tuple[str, str]],
    job_id: UUID,
    batch_id: UUID,
    custom_id: str,
    kind: str,
    attempt: int,
    usage: Usage,
) -> None:
    """Raise StatementAlteredError unless the statement has this digest and agrees with the other arguments.

    `subjects` are the names and digests of the job's artifacts, in order. The arguments come from Postgres.
    """
    if sha256_hex(body) != sha256:
        raise StatementAlteredError(
            "the digest of the statement differs from the committed one: the statement was altered in "
            "Postgres"
        )
    rows = {
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects],
        "job id": str(job_id),
        "batch": str(batch_id),
        "line": custom_id,
        "kind": kind,
        "attempt": attempt,
        "usage": _fields(usage),
    }
    try:
        statement = json.loads(body)
        job = statement["predicate"]["job"]
        stated = {
            "subject": statement["subject"],
            "job id": job["id"],
            "batch": job["batch"],
            "line": job["customId"],
            "kind": job["kind"].partition("@")[0],
            "attempt": job["attempt"],
            "usage": statement["predicate"]["usage"],
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise StatementAlteredError("the statement cannot be read: it was altered in Postgres") from error
    differing = [name for name, value in rows.items() if stated[name] != value]
    if differing:
        raise StatementAlteredError(
            f"the statement and the rows in Postgres differ in {' and '.join(differing)}: one of them was "
            "altered"
        )


def _fields(facts: DataclassInstance) -> dict[str, Json]:
    """Return the fields of a dataclass with the names that statements use, in lowerCamelCase.

    >>> _fields(Usage(prompt_tokens=3))
    {'promptTokens': 3, 'cachedTokens': 0, 'newTokens': 0}
    """
    return {stated: getattr(facts, name) for name, stated in _field_names(type(facts))}


@cache
def _field_names(facts_type: type[DataclassInstance]) -> tuple[tuple[str, str], ...]:
    """Return the name of each field, and its name in statements."""
    return tuple((field.name, _camel_case(field.name)) for field in fields(facts_type))


def _camel_case(name: str) -> str:
    first, *words = name.split("_")
    return first + "".join(word.title() for word in words)


def _template(template: Template) -> Mapping[str, Json]:
    return {"template": template.name, "version": template.version, "sha256": template.sha256}


def _engine(engine: EngineFacts | EncoderFacts) -> Mapping[str, Json]:
    return {**_fields(engine), "versions": dict(engine.versions)}


def _lineage(parents: Sequence[Parent]) -> Mapping[str, Json]:
    """Return the first MAX_PARENTS parents, the number of all parents, and a digest over all of them."""
    lines = "".join(f"{parent.role} {parent.sha256} {parent.name}\n" for parent in parents)
    return {
        "parents": [_fields(parent) for parent in parents[:MAX_PARENTS]],
        "numParents": len(parents),
        "parentsSha256": sha256_hex(lines.encode()),
    }


def _encoding(encoding: Encoding) -> Mapping[str, Json]:
    return {
        "task": encoding.task,
        "model": encoding.model.name,
        "engine": _engine(encoding.engine),
        "numCalls": encoding.num_calls,
        "numInputs": encoding.num_inputs,
        "inputsSha256": encoding.inputs_sha256,
        "outputsSha256": encoding.outputs_sha256,
        **({} if encoding.calibration is None else {"calibration": _calibration(encoding.calibration)}),
    }


def _calibration(calibration: CalibrationFacts) -> Mapping[str, Json]:
    return {
        "sha256": calibration.sha256,
        "file": {"name": calibration.file_name, "sha256": calibration.file_sha256},
        "numFitted": calibration.num_fitted,
        "numHeldOut": calibration.num_held_out,
        "temperature": calibration.temperature,
        "offsets": list(calibration.offsets),
        "calibrationError": _before_and_after(calibration.calibration_error),
        "logLoss": _before_and_after(calibration.log_loss),
    }


def _before_and_after(figures: tuple[str, str]) -> Mapping[str, Json]:
    return {"uncalibrated": figures[0], "calibrated": figures[1]}


def _generation(generation: Generation, model: ModelFacts | None) -> Mapping[str, Json]:
    sampling = generation.sampling
    is_other = generation.model_name not in ("", "" if model is None else model.name)
    return {
        **({"model": generation.model_name} if is_other else {}),
        "promptSha256": generation.prompt_sha256,
        "outputSha256": generation.output_sha256,
        **({"isRaw": True} if generation.is_raw else {}),
        **_template_arguments(generation.template_arguments),
        "sampling": {
            "maxNewTokens": sampling.max_new_tokens,
            "temperature": str(sampling.temperature),
            "topP": str(sampling.top_p),
            "topK": sampling.top_k,
            "repetitionPenalty": str(sampling.repetition_penalty),
            "seed": sampling.seed,
            "stop": list(sampling.stop),
            **_rarer_sampling(sampling),
        },
        "usage": _fields(generation.usage),
        "finishReason": generation.finish_reason.value,
        "numNearTies": generation.num_near_ties,
        **({} if generation.thinking is None else {"thinking": _thinking(generation.thinking)}),
    }


def _rarer_sampling(sampling: Sampling) -> Mapping[str, Json]:
    """Return the sampling parameters that a statement contains only where they are not the default."""
    facts: dict[str, Json] = {}
    if sampling.min_new_tokens:
        facts["minNewTokens"] = sampling.min_new_tokens
    if sampling.min_p:
        facts["minP"] = str(sampling.min_p)
    if sampling.presence_penalty:
        facts["presencePenalty"] = str(sampling.presence_penalty)
    if sampling.frequency_penalty:
        facts["frequencyPenalty"] = str(sampling.frequency_penalty)
    if sampling.logit_bias:
        facts["logitBias"] = [[token_id, str(bias)] for token_id, bias in sampling.logit_bias]
    if sampling.num_logprobs is not None:
        facts["numLogprobs"] = sampling.num_logprobs
    if sampling.constraint is not None:
        digest = sha256_hex(sampling.constraint.source.encode())
        facts["constraint"] = {"form": sampling.constraint.form.value, "sha256": digest}
    return facts


def _template_arguments(arguments: TemplateArguments) -> Mapping[str, Json]:
    if not arguments:
        return {}
    values = {name: str(value) if isinstance(value, float) else value for name, value in arguments}
    return {"templateArguments": values}


def _thinking(thinking: ThinkingFacts) -> Mapping[str, Json]:
    return {
        "isRequested": thinking.is_requested,
        "templateSettings": dict(thinking.template_settings),
        "maxTokens": thinking.max_tokens,
    }


def sha256_hex(body: bytes) -> str:
    """Return the SHA-256 of the bytes in lower-case hex.

    >>> sha256_hex(b"")[:16]
    'e3b0c44298fc1c14'
    """
    return hashlib.sha256(body).hexdigest()


def payload_digest(payload: Mapping[str, object]) -> str:
    """Return the SHA-256 of a payload as canonical JSON, which does not depend on the order of keys.

    >>> payload_digest({"a": 1, "b": 2}) == payload_digest({"b": 2, "a": 1})
    True
    """
    return sha256_hex(dumps_canonical(cast("Json", payload)))


def token_digest(token_ids: Sequence[int]) -> str:
    """Return the SHA-256 over token ids as little-endian 32-bit integers.

    >>> token_digest([1, 2]) != token_digest([2, 1])
    True
    """
    return sha256_hex(b"".join(token_id.to_bytes(4, "little") for token_id in token_ids))


def timestamp(instant: datetime) -> str:
    """Return an instant in UTC as RFC 3339 with microseconds.

    >>> timestamp(datetime(2026, 1, 2, tzinfo=UTC))
    '2026-01-02T00:00:00.000000Z'
    """
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def row_bytes(token_ids: Sequence[int], type_ids: Sequence[int]) -> bytes:
    """Encode an encoder's input as 32-bit little-endian integers: number of tokens, ids, segments.

    >>> row_bytes([258], [1]).hex(" ", 4)
    '01000000 02010000 01000000'
    """
    import numpy as np  # imported here, because commands that read statements do not need it

    return np.asarray((len(token_ids), *token_ids, *type_ids), "<u4").tobytes()


def vector_bytes(vector: Sequence[float]) -> bytes:
    """Encode an encoder's answer as 64-bit little-endian integers: number of values, values in millionths.

    >>> vector_bytes([0.25, 0.75]) == vector_bytes([0.2500001, 0.7499999])
    True
    """
    import numpy as np

    millionths = np.rint(np.asarray(vector, dtype=float) * 1e6).astype("<i8")
    return len(vector).to_bytes(8, "little") + bytes(millionths.tobytes())
