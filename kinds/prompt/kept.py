"""Keeps the results of rows by what they were made from, so that each is generated only once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

from pydantic import BaseModel, ConfigDict, JsonValue

from jobs.inference import Sampling
from jobs.job import job_seed
from jobs.kept import Kept, KeptResult
from jobs.kind import Artifact, Parent, Result
from jobs.provenance import payload_digest
from kinds.prompt.payload import SAMPLING_NAMES, PromptOutput, PromptSettings
from kinds.prompt.row import RowRequest

KEY_VERSION = 1
"""Version of the keys. Increase it when the same request gives a different result."""

_NOT_IN_KEY = {
    *("keep", "batch_seed", "columns", "settings_columns", "into", "template_name"),
    *("recipe", "labels", "column_names"),
    *("map_template", "map_column", "map_part_tokens", "map_max_tokens"),
    *SAMPLING_NAMES,
}
"""Settings that do not affect a result, or that are part of the request's sampling. All others belong to the
key, so that a setting that is added later is never forgotten."""


class _KeptArtifact(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    media_type: str
    text: str


class _KeptRow(BaseModel):
    """The result of a row in the form in which it is kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    artifacts: tuple[_KeptArtifact, ...]
    metrics: dict[str, JsonValue]
    output: PromptOutput


def row_key(row: Mapping[str, object], settings: PromptSettings) -> str:
    """Return the SHA-256 of everything that the result of a row depends on.

    The id of the row is not part of it, so rows that are numbered again keep their results. Of the seeds, the
    one that the user chose for the row or for the batch is a part, unless the row is sampled greedily. Raises
    TemplateError, or InputError for a cell that is no valid sampling parameter.
    """
    request = RowRequest.of(row, settings, seed=settings.batch_seed)
    return payload_digest(
        {
            "version": KEY_VERSION,
            "messages": [[message.role, message.content] for message in request.prompt.messages],
            "sampling": _sampling_facts(request.sampling),
            "num_texts": request.num_texts,
            "settings": settings.model_dump(mode="json", exclude=_NOT_IN_KEY, exclude_defaults=True),
        }
    )


def _sampling_facts(sampling: Sampling) -> dict[str, str]:
    """Return the parameters that differ from the defaults; the constraint is among the settings."""
    values = {field.name: getattr(sampling, field.name) for field in fields(sampling)}
    changed = {each.name for each in fields(sampling) if values[each.name] != each.default}
    unused = {"constraint"} if sampling.temperature else {"constraint", "seed"}
    return {name: str(values[name]) for name in sorted(changed - unused)}


def row_seed(key: str, settings: PromptSettings) -> int:
    """Return the seed of a row from its key, so that the same row has the same seed under any number."""
    return job_seed(settings.batch_seed, key)


def keep_result(result: Result, settings: PromptSettings, *, key: str, subject: str) -> Result:
    """Return the result of a row, which is kept under its key.

    A text with a null character, which Postgres cannot store as JSON, is not kept.
    """
    if settings.keep is None or any(b"\0" in artifact.body for artifact in result.artifacts):
        return result
    value = _KeptRow.model_validate(
        {
            "artifacts": [
                {"name": each.name, "media_type": each.media_type, "text": each.body.decode()}
                for each in result.artifacts
            ],
            "metrics": dict(result.metrics),
            "output": result.output,
        }
    )
    kept = Kept(keep=settings.keep, key=key, subject=subject, value=value.model_dump(mode="json"))
    return replace(result, kept=(kept,))


def kept_result(kept: KeptResult) -> Result:
    """Return a kept result as that of another row. Its parent is the statement of the job that made it."""
    row = _KeptRow.model_validate(kept.value)
    return Result(
        artifacts=tuple(
            Artifact(name=each.name, media_type=each.media_type, body=each.text.encode())
            for each in row.artifacts
        ),
        metrics={**row.metrics, "is_kept": True},
        output=row.output.model_copy(update={"is_kept": True}),
        parents=(Parent("kept", str(kept.job_id), kept.statement_sha256),),
    )
