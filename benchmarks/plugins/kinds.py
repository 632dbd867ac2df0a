"""Kinds whose jobs do almost nothing, so that what remains is the cost of a job to Pressroom itself."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from benchmarks.job_costs import start_timers
from jobs.inference import Message, Prompt, Sampling
from jobs.kind import Artifact, Context, Kind, Result
from workers.settings import DEFAULT_MODEL

NEW_TOKENS = 8
"""Number of tokens that a request generates; a label or a few words have as many."""


class TrivialPayload(BaseModel):
    """One line of text."""

    model_config = ConfigDict(extra="forbid")

    text: str


class TrivialKind(Kind[TrivialPayload]):
    """Stores the text of each line as its artifact."""

    name = "trivial"
    payload_type = TrivialPayload

    def warm(self) -> None:
        """Measure the steps of jobs, of whatever kind, if the benchmark wants that of this worker."""
        start_timers()

    def run(self, payload: TrivialPayload, context: Context) -> Result:  # noqa: ARG002
        """Return the text as an artifact."""
        return _result(payload.text)


class TrivialRequestKind(Kind[TrivialPayload]):
    """Sends the text of each line to the model and stores the answer."""

    name = "trivial_request"
    payload_type = TrivialPayload
    default_model = DEFAULT_MODEL

    def first_request(
        self,
        payload: TrivialPayload,
        settings: BaseModel,  # noqa: ARG002
    ) -> tuple[Prompt, Sampling]:
        """Return the only request of a job."""
        sampling = Sampling(max_new_tokens=NEW_TOKENS, ignore_end_of_text=True)
        return Prompt((Message("user", payload.text),)), sampling

    def run(self, payload: TrivialPayload, context: Context) -> Result:
        """Return the text and the model's answer as an artifact."""
        prompt, sampling = self.first_request(payload, self.settings_type())
        completion = context.inference.generate(prompt, sampling)
        # With the text, no two jobs store the same object, whatever the engine answers.
        return _result(f"{payload.text}\n{completion.text}")


def _result(text: str) -> Result:
    body = text.encode() + b"\n"
    return Result(artifacts=(Artifact(name="line.txt", media_type="text/plain", body=body),))
