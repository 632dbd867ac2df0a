"""Outputs of stages: checked against what the stage declares, and the same again after being kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any, ClassVar
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, computed_field

from jobs.errors import ConfigurationError, PermanentError
from jobs.kept import Kept
from jobs.kind import Artifact, Result, Stage
from jobs.outputs import OutputUnfitError, ResultUnstorableError, check_result, dump_output, parse_output
from jobs.registry import kind_names, load_kind
from jobs.rejection import Refusal
from tests.plugins.kinds import TrialKind, TrialOutput


def kept(value: object) -> Kept:
    return Kept(key="k", subject="row-1", value={"value": value})


class RichOutput(BaseModel):
    """Everything that JSON writes otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    at: datetime
    by_position: Mapping[int, float]
    names: tuple[str, ...] = Field(alias="theNames", default=())
    refused: Mapping[str, Refusal] = {}
    id: UUID | None = None

    @computed_field
    def num_names(self) -> int:
        """Made of the others: it is not read back."""
        return len(self.names)


class RicherOutput(RichOutput):
    """A subclass is what the stage declares, too."""


class LooseOutput(BaseModel):
    """Takes what is no JSON."""

    value: object


class RichKind(TrialKind):
    """Its last stage leaves nothing."""

    name: ClassVar[str] = "rich"
    stages: ClassVar[tuple[Stage, ...]] = (
        Stage("first", RichOutput),
        Stage("loose", LooseOutput),
        Stage("last"),
    )


def rich(cls: type[RichOutput] = RichOutput) -> RichOutput:
    return cls(
        at=datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC),
        by_position={3: 0.1},
        theNames=("a", "ü\n"),
        refused={"d1": Refusal("row_unreadable", "cannot be read")},
        id=UUID(int=1),
    )


@pytest.mark.parametrize("cls", [RichOutput, RicherOutput])
def test_an_output_is_the_same_after_being_kept(cls: type[RichOutput]) -> None:
    text = dump_output(RichKind(), "first", rich(cls))
    assert text is not None
    kept = json.dumps(json.loads(text))  # as Postgres writes it
    assert parse_output(kept, cls, stage="first", custom_id="a") == rich(cls)


def test_a_stage_that_leaves_nothing_keeps_nothing() -> None:
    assert dump_output(RichKind(), "last", None) is None


@pytest.mark.parametrize(
    ("stage", "output", "message"),
    [
        ("first", None, "must return RichOutput, but it returned no output"),
        ("first", TrialOutput(text="x"), "must return RichOutput, but it returned TrialOutput"),
        ("last", rich(), "must return no output, but it returned RichOutput"),
    ],
)
def test_an_output_that_the_stage_does_not_declare_is_refused(
    stage: str, output: BaseModel | None, message: str
) -> None:
    with pytest.raises(PermanentError, match=message) as refused:
        dump_output(RichKind(), stage, output)
    assert refused.value.code == "output_unfit"


def test_an_output_that_is_no_json_is_refused() -> None:
    with pytest.raises(OutputUnfitError, match="cannot be written as JSON"):
        dump_output(RichKind(), "loose", LooseOutput(value=object()))


def test_a_stage_that_the_installed_kind_has_not_is_named() -> None:
    with pytest.raises(ConfigurationError, match="rich@1 has no stage middle") as error:
        dump_output(RichKind(), "middle", None)
    assert error.value.code == "stage_unknown"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"text": "secret", "secret words": 1}', "extra_forbidden"),
        ('{"text": ["secret"]}', r"text: string_type"),
        ("{}", "text: missing"),
        ("[]", "it: model_type"),
        ("null", "it: model_type"),
    ],
)
def test_an_output_that_does_not_fit_is_refused_without_what_is_in_it(text: str, reason: str) -> None:
    with pytest.raises(OutputUnfitError, match=reason) as refused:
        parse_output(text, TrialOutput, stage="draft", custom_id="line-1")
    assert "the job 'line-1' of the stage draft is not a valid TrialOutput" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_an_output_that_no_job_left_is_refused() -> None:
    with pytest.raises(
        OutputUnfitError, match="'line-1' of the stage draft has no output of the type TrialO"
    ):
        parse_output(None, TrialOutput, stage="draft", custom_id="line-1")


def test_every_stage_but_the_last_of_the_installed_kinds_leaves_an_output() -> None:
    kinds: list[Any] = [load_kind(name) for name in kind_names()]
    silent = [(k.name, s.name) for k in kinds for s in k.stages[:-1] if s.output_type is None]
    assert silent == []


FILE = Artifact(name="a.txt", media_type="text/plain", body=b"text 0")


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (None, "returned NoneType"),
        (Result(artifacts=()), "returned no artifact"),
        (Result(artifacts=(replace(FILE, name=""),)), "without a name"),
        (Result(artifacts=(replace(FILE, body="text 0"),)), "with a body of str"),  # type: ignore[arg-type]
        (Result(artifacts=("text 0",)), "with a body of str"),  # type: ignore[arg-type]
        (Result(artifacts=(FILE, FILE)), "several artifacts with the same name"),
        (Result(artifacts=(FILE,), metrics={"day": date(2026, 1, 1)}), "metrics that are not JSON"),
        (Result(artifacts=(FILE,), metrics={"share": float("nan")}), "metrics that are not JSON"),
        (Result(artifacts=(FILE,), kept=(kept(date(2026, 1, 1)),)), "a kept value that is not JSON"),
    ],
)
def test_a_result_that_cannot_be_kept_is_refused_with_what_is_wrong(result: object, problem: str) -> None:
    with pytest.raises(ResultUnstorableError, match=problem) as raised:
        check_result(RichKind(), result)
    assert raised.value.code == "result_unstorable"
    assert "text 0" not in str(raised.value)


def test_a_result_that_can_be_kept_is_returned_as_it_is() -> None:
    result = Result(
        artifacts=(FILE, replace(FILE, name="b.txt")), metrics={"words": {"a": [1, None]}}, kept=(kept("x"),)
    )
    assert check_result(RichKind(), result) is result
