"""Targets of messages: webhooks and files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs.sources import Variable, WebPlace


class WebhookTarget(WebPlace):
    """Messages as Standard Webhooks has them, to a URL; variables are those of the process that sends."""

    type: Literal["webhook"] = "webhook"
    name: str = Field(min_length=1, max_length=64)
    secret_variable: Variable
    """Name of the environment variable with the signing secret ("whsec_..."), never the secret itself."""


class FileTarget(BaseModel):
    """Messages as lines of JSON, appended to a file; "-" is stdout."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["file"] = "file"
    name: str = Field(min_length=1, max_length=64)
    path: str


Target = Annotated[WebhookTarget | FileTarget, Field(discriminator="type")]
