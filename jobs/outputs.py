"""What a job leaves, before it is kept: its result, and the output for the next stage, a pydantic model."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from jobs.errors import ConfigurationError, PermanentError
from jobs.kind import Artifact, Kind, Result

OutputT = TypeVar("OutputT", bound=BaseModel)


class OutputUnfitError(PermanentError):
    """What a job leaves is not what its stage declares, or what a later stage reads."""

    code = "output_unfit"


class ResultUnstorableError(PermanentError):
    """What `run` of a kind returned cannot be kept."""

    code = "result_unstorable"


def check_result(kind: Kind[Any], result: object) -> Result:
    """What `run` returned, if it can be kept. Raises ResultUnstorableError, without what is in it."""
    problem = None
    if not isinstance(result, Result):
        problem = f"returned {type(result).__name__}: return a Result"
    elif not result.artifacts:
        problem = "returned no artifact: a result has at least one, the first of which people read"
    elif wrong := next((each for each in result.artifacts if not _is_artifact(each)), None):
        body = type(wrong.body).__name__ if isinstance(wrong, Artifact) else type(wrong).__name__
        problem = f"returned an artifact without a name or with a body of {body}: bodies are bytes"
    elif len({artifact.name for artifact in result.artifacts}) < len(result.artifacts):
        problem = "returned several artifacts of one name: give each a name of its own"
    else:
        try:
            json.dumps(dict(result.metrics), allow_nan=False)
        except (TypeError, ValueError) as error:
            problem = f"returned metrics that are no JSON ({error}): JSON has no dates, NaN or infinity"
    if problem is not None or not isinstance(result, Result):
        raise ResultUnstorableError(f"`run` of the kind {kind.name} {problem}")
    return result


def _is_artifact(artifact: object) -> bool:
    return (
        isinstance(artifact, Artifact)
        and bool(artifact.name)
        and isinstance(artifact.body, bytes | bytearray)
    )


def dump_output(kind: Kind[Any], stage: str, output: BaseModel | None) -> str | None:
    """The output of a job as it is kept; None of a stage that leaves nothing. Raises OutputUnfitError."""
    output_type = _output_type(kind, stage)
    if output_type is None and output is None:
        return None
    if output is None or output_type is None or not isinstance(output, output_type):
        raise OutputUnfitError(
            f"a job of the stage {stage} of the kind {kind.name} has to leave {_name(output_type)}, and left "
            f"{_name(None if output is None else type(output))}: correct the kind's `run`, or the stage's "
            "`output_type`"
        )
    try:
        return output.model_dump_json(round_trip=True)
    except PydanticSerializationError as error:
        raise OutputUnfitError(
            f"the {_name(output_type)} of a job of the stage {stage} of the kind {kind.name} cannot be "
            "written as JSON: correct the kind, which has put something else into it"
        ) from error


def parse_output(text: str | None, output_type: type[OutputT], *, stage: str, custom_id: str) -> OutputT:
    """The output that a job has left. Raises OutputUnfitError, without what was in it."""
    if text is None:
        raise OutputUnfitError(
            f"the job {custom_id!r} of the stage {stage} left no {_name(output_type)}: declare it as the "
            "stage's `output_type`"
        )
    try:
        return output_type.model_validate_json(text, by_alias=False, by_name=True)
    except ValidationError as error:
        raise OutputUnfitError(
            f"what the job {custom_id!r} of the stage {stage} left is no {_name(output_type)} "
            f"({_faults(error, output_type)}): it may have been made by another version of the kind; submit "
            "the batch again"
        ) from error


def _faults(error: ValidationError, output_type: type[BaseModel]) -> str:
    """Which fields are wrong and how; keys and values are left out, which may be payload text."""
    faults: dict[str, None] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        field = next((part for part in detail["loc"] if part in output_type.model_fields), "it")
        faults[f"{field}: {detail['type']}"] = None
    return "; ".join(faults)


def _output_type(kind: Kind[Any], stage: str) -> type[BaseModel] | None:
    declared = {each.name: each.output_type for each in kind.stages}
    if stage not in declared:
        raise ConfigurationError(
            f"the kind {kind.name}@{kind.version} that is installed here has no stage {stage}: install the "
            "version that accepted the batch",
            code="stage_unknown",
        )
    return declared[stage]


def _name(output_type: type[BaseModel] | None) -> str:
    return "no output" if output_type is None else output_type.__qualname__
