"""Checks the results of jobs, and serialises their outputs, which are pydantic models, for later stages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from jobs.errors import ConfigurationError, PermanentError
from jobs.kind import Artifact, Kind, Result

OutputT = TypeVar("OutputT", bound=BaseModel)


class OutputUnfitError(PermanentError):
    """The output of a job is not of the type that its stage declares or that a later stage expects."""

    code = "output_unfit"


class ResultUnstorableError(PermanentError):
    """The result that a kind's `run` returned cannot be stored."""

    code = "result_unstorable"


def check_result(kind: Kind[Any], result: object) -> Result:
    """Return the result of a kind's `run` if it can be stored.

    Raises ResultUnstorableError, whose message quotes nothing from the result.
    """
    problem = None
    if not isinstance(result, Result):
        problem = f"returned {type(result).__name__} instead of a Result"
    elif not result.artifacts:
        problem = "returned no artifact: a result needs at least one, and the first one is shown to readers"
    elif wrong := next((each for each in result.artifacts if not _is_artifact(each)), None):
        body = type(wrong.body).__name__ if isinstance(wrong, Artifact) else type(wrong).__name__
        problem = f"returned an artifact without a name or with a body of {body}: bodies must be bytes"
    elif len({artifact.name for artifact in result.artifacts}) < len(result.artifacts):
        problem = "returned several artifacts with the same name: give each its own name"
    else:
        problem = _json_problem("metrics", result.metrics) or next(
            filter(None, (_json_problem("a kept value", kept.value) for kept in result.kept)), None
        )
    if problem is not None or not isinstance(result, Result):
        raise ResultUnstorableError(f"`run` of the kind {kind.name} {problem}")
    return result


def _json_problem(what: str, value: Mapping[str, object]) -> str | None:
    try:
        json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError) as error:
        verb = "are" if what == "metrics" else "is"
        return f"returned {what} that {verb} not JSON ({error}): JSON has no dates, NaN or infinity"
    return None


def _is_artifact(artifact: object) -> bool:
    return (
        isinstance(artifact, Artifact)
        and bool(artifact.name)
        and isinstance(artifact.body, bytes | bytearray)
    )


def dump_output(kind: Kind[Any], stage: str, output: BaseModel | None) -> str | None:
    """Return the output of a job as JSON, or None for a stage without outputs. Raises OutputUnfitError."""
    output_type = _output_type(kind, stage)
    if output_type is None and output is None:
        return None
    if output is None or output_type is None or not isinstance(output, output_type):
        raise OutputUnfitError(
            f"a job of the stage {stage} of the kind {kind.name} must return {_name(output_type)}, but it "
            f"returned {_name(None if output is None else type(output))}: correct the kind's `run`, or the "
            "stage's `output_type`"
        )
    try:
        return output.model_dump_json(round_trip=True)
    except PydanticSerializationError as error:
        raise OutputUnfitError(
            f"the {_name(output_type)} of a job of the stage {stage} of the kind {kind.name} cannot be "
            "written as JSON: correct the kind, which put a value of the wrong type into it"
        ) from error


def parse_output(text: str | None, output_type: type[OutputT], *, stage: str, custom_id: str) -> OutputT:
    """Parse the output of a job. Raises OutputUnfitError, whose message quotes nothing from the output."""
    if text is None:
        raise OutputUnfitError(
            f"the job {custom_id!r} of the stage {stage} has no output of the type {_name(output_type)}: "
            "declare it as the stage's `output_type`"
        )
    try:
        return output_type.model_validate_json(text, by_alias=False, by_name=True)
    except ValidationError as error:
        raise OutputUnfitError(
            f"the output of the job {custom_id!r} of the stage {stage} is not a valid {_name(output_type)} "
            f"({_faults(error, output_type)}): another version of the kind may have written it; submit the "
            "batch again"
        ) from error


def _faults(error: ValidationError, output_type: type[BaseModel]) -> str:
    """Describe which fields are wrong and how, without keys and values, which may contain payload text."""
    faults: dict[str, None] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        field = next((part for part in detail["loc"] if part in output_type.model_fields), "it")
        faults[f"{field}: {detail['type']}"] = None
    return "; ".join(faults)


def _output_type(kind: Kind[Any], stage: str) -> type[BaseModel] | None:
    declared = {each.name: each.output_type for each in kind.stages}
    if stage not in declared:
        raise ConfigurationError(
            f"the installed kind {kind.name}@{kind.version} has no stage {stage}: install the version that "
            "accepted the batch",
            code="stage_unknown",
        )
    return declared[stage]


def _name(output_type: type[BaseModel] | None) -> str:
    return "no output" if output_type is None else output_type.__qualname__
