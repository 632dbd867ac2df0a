"""The ports that a running job gets: its model, behind a record of every call for the provenance."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError

from jobs.errors import DeadlineError, TransientError
from jobs.history import History
from jobs.inference import Completion, Prompt, Sampling
from jobs.job import ClaimedJob
from jobs.kind import Resources
from jobs.provenance import Generation, token_digest
from workers.engine import Request
from workers.ports import Ports
from workers.residency import Residency, Resident

ENGINE_GRACE_SECONDS = 30.0
"""The engine ends a request at its deadline; a future that is silent for this much longer is given up."""


class JobAbandonedError(TransientError):
    """The worker holds the job no longer: its lease was lost, its time is up, or the worker is stopping."""

    code = "job_abandoned"


class JobInference:
    """`jobs.inference.Inference` for one job. Its calls may come from one thread, `abandon` from another."""

    def __init__(self, job: ClaimedJob, residency: Residency, *, deadline_at: float) -> None:
        """`deadline_at` is on time.monotonic()."""
        self._request_prefix = f"{job.id}/{job.attempt}"
        self._model = job.model
        self._residency = residency
        self._deadline_at = deadline_at
        self._lock = threading.Lock()
        self._current: str | None = None
        self.abandoned = threading.Event()
        """Set once nothing more shall be done for this attempt."""
        self.generations: list[Generation] = []
        """One for each finished call, in order."""
        self.resident: Resident | None = None
        """The model that was asked, once one was."""

    def generate(self, prompt: Prompt, sampling: Sampling) -> Completion:
        """Block until the text is there. Raises as jobs.inference.Inference says, and JobAbandonedError."""
        messages = tuple((message.role, message.content) for message in prompt.messages)
        self.resident = resident = self._residency.get(self._model)
        prompt_ids = resident.tokenizer.encode_chat(messages)
        completion = self._run(resident, prompt_ids, sampling)
        self.generations.append(
            Generation(
                prompt_sha256=token_digest(prompt_ids),
                output_sha256=token_digest(completion.token_ids),
                sampling=sampling,
                usage=completion.usage,
                finish_reason=completion.finish_reason,
                num_near_ties=completion.num_near_ties,
            )
        )
        return completion

    def _run(self, resident: Resident, prompt_ids: tuple[int, ...], sampling: Sampling) -> Completion:
        request_id = f"{self._request_prefix}/{len(self.generations)}"
        request = Request(
            request_id=request_id, prompt_ids=prompt_ids, sampling=sampling, deadline_at=self._deadline_at
        )
        with self._lock:
            if self.abandoned.is_set():
                raise JobAbandonedError("the job was taken from this worker")
            self._current = request_id
            future = resident.engine.submit(request)  # never blocks; an abandon() after it finds it to cancel
        try:
            return future.result(timeout=self._deadline_at - time.monotonic() + ENGINE_GRACE_SECONDS)
        except CancelledError as error:
            raise JobAbandonedError("the job was taken from this worker") from error
        except FutureTimeoutError as error:
            resident.engine.cancel(request_id)
            raise DeadlineError("the engine did not answer by the job's deadline") from error

    def abandon(self) -> None:
        """End the call under way, every further one, and the wait for the store with JobAbandonedError."""
        with self._lock:
            self.abandoned.set()
            request_id, resident = self._current, self.resident
        if request_id is not None and resident is not None:
            resident.engine.cancel(request_id)


class JobContext:
    """`jobs.kind.Context` for one job."""

    def __init__(self, job: ClaimedJob, inference: JobInference, ports: Ports) -> None:
        self._job = job
        self._inference = inference
        self._ports = ports

    @property
    def inference(self) -> JobInference:
        return self._inference

    @property
    def resources(self) -> Resources:
        return self._ports.resources

    @property
    def history(self) -> History:
        return self._ports.history

    @property
    def seed(self) -> int:
        return self._job.seed

    @property
    def custom_id(self) -> str:
        return self._job.custom_id

    @property
    def settings(self) -> Mapping[str, object]:
        return self._job.settings
