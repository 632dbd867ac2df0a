"""Kinds that do as their payload says; found through entry points, like those of any other package."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from jobs.errors import PermanentError, TransientError
from jobs.inference import Message, Prompt, Sampling
from jobs.kind import Artifact, Context, Kind, PlanContext, Result, Stage, Template
from jobs.provenance import sha256_hex

TEMPLATE = Template("trial", "1", sha256_hex(b"{{ text }}"))

Act = Literal[
    "write",
    "ask",
    "permanent",
    "transient",
    "bug",
    "exit",
    "odd_metrics",
    "no_output",
    "odd_output",
    "records",
    "large",
    "nap",
    "resource",
    "kill",
    "stall",
]


class TrialPayload(BaseModel):
    """What the job is to do."""

    model_config = ConfigDict(extra="forbid")

    text: str = "hello"
    act: Act = "write"


LARGE_BYTES = 300_000
"""Size of an artifact that is too large for a pack."""


class TrialOutput(BaseModel):
    """What the job wrote."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str


class TrialSettings(BaseModel):
    """None."""

    model_config = ConfigDict(extra="forbid")


class TrialKind(Kind[TrialPayload]):
    """One stage; every way in which a kind can end."""

    name: ClassVar[str] = "trial"
    version: ClassVar[str] = "1"
    stages: ClassVar[tuple[Stage, ...]] = (Stage("write", TrialOutput),)
    recurring: ClassVar[str | None] = "tests.trial_beat:TrialSchedules"
    payload_type = TrialPayload
    settings_type: type[BaseModel] = TrialSettings

    def models(self, model: str, settings: BaseModel, stage: str) -> tuple[str, ...]:
        return (model,)

    def first_request(self, payload: TrialPayload, settings: BaseModel) -> tuple[Prompt, Sampling]:
        return Prompt((Message("user", payload.text),)), Sampling(max_new_tokens=8, temperature=0.5)

    def prompt_prefix(self, payload: TrialPayload) -> str:
        return payload.act

    def run(self, payload: TrialPayload, context: Context) -> Result:
        if payload.act == "permanent":
            raise PermanentError("the payload asks for it", code="trial_permanent")
        if payload.act == "transient":
            raise TransientError("the payload asks for it", code="trial_transient")
        if payload.act == "bug":
            raise KeyError(payload.text)
        if payload.act == "exit":
            sys.exit(3)
        if payload.act == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if payload.act == "stall":
            ctypes.PyDLL(None).sleep(600)  # a PyDLL call keeps the interpreter's lock
        if payload.act == "nap":
            time.sleep(0.2)
        text = payload.text
        if payload.act == "ask":
            text = context.inference.generate(*self.first_request(payload, TrialSettings())).text
        metrics: dict[str, object] = {"text": text}
        if payload.act == "odd_metrics":
            metrics["unserialisable"] = {1, 2}
        body = b"x" * LARGE_BYTES if payload.act == "large" else text.encode()
        artifact = Artifact(
            name="trial.txt", media_type="text/plain", body=body, is_resource=payload.act == "resource"
        )
        records = (payload,) if payload.act == "records" else ()
        output = _output(payload.act, text)
        return Result(
            artifacts=(artifact,), template=TEMPLATE, metrics=metrics, output=output, records=records
        )

    def plan(self, stage: str, context: PlanContext) -> Iterable[tuple[str, TrialPayload]]:
        return ()


def _output(act: Act, text: str) -> BaseModel | None:
    if act == "no_output":
        return None
    return TrialPayload(text=text) if act == "odd_output" else TrialOutput(text=text)


class TwoStageKind(TrialKind):
    """Each draft becomes a job of the second stage."""

    name: ClassVar[str] = "two_stage"
    recurring: ClassVar[str | None] = None
    stages: ClassVar[tuple[Stage, ...]] = (Stage("draft", TrialOutput), Stage("polish", TrialOutput))

    def plan(self, stage: str, context: PlanContext) -> Iterable[tuple[str, TrialPayload]]:
        for custom_id, draft in context.outputs(TrialOutput):
            yield custom_id, TrialPayload(text=f"{draft.text}, polished")


class UnplannableKind(TwoStageKind):
    """Its second stage cannot be planned."""

    name: ClassVar[str] = "unplannable"

    def plan(self, stage: str, context: PlanContext) -> Iterable[tuple[str, TrialPayload]]:
        raise KeyError(stage)
