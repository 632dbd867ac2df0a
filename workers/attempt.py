"""One attempt at one job: its payload becomes a result, or an error becomes the job's outcome."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from db.outcomes import Failure, writer_of
from jobs.errors import DeadlineError, PermanentError, PressroomError, place_of
from jobs.job import ClaimedJob, JobStatus
from jobs.kind import Result
from jobs.outputs import check_result, dump_output
from jobs.provenance import JobFacts
from jobs.registry import load_kind
from workers.inference import JobInference
from workers.model_pool import ModelPool
from workers.ports import JobContext, Ports
from workers.publisher import Publisher
from workers.settings import Settings

logger = logging.getLogger(__name__)

MAX_ERROR_CHARACTERS = 2_000
"""Maximum length of an error message in Postgres, in characters: enough to act on, too short for a whole
prompt."""

MAX_BACKOFF_SECONDS = 3600.0
"""Maximum backoff. Without it, doubling would exceed the limit of Postgres's intervals for a job with many
attempts."""


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """The id of a worker process and the name of its device."""

    id: str
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobServices:
    """The services that the jobs of a worker process use. Any thread may use them."""

    models: ModelPool
    ports: Ports
    publisher: Publisher
    worker: WorkerIdentity
    settings: Settings


@dataclass(frozen=True, slots=True)
class Attempt:
    """The result of an attempt and the facts about how it was produced."""

    result: Result
    output: str | None
    """`result.output` in the form in which it is stored."""
    facts: JobFacts


def run_attempt(
    job: ClaimedJob, inference: JobInference, services: JobServices, *, celery_task_id: str
) -> Attempt:
    """Run the job's kind on its payload. Raises PressroomError, or whatever a faulty kind raises."""
    started_at = datetime.now(UTC)
    kind = load_kind(job.kind)
    try:
        payload = kind.payload_type.model_validate(job.payload)
    except ValidationError as error:
        raise PermanentError(
            f"the stored payload is not valid for {job.kind}@{kind.version}, because another version "
            "accepted it. Submit the file again",
            code="payload_outdated",
        ) from error
    result = check_result(kind, kind.run(payload, JobContext(job, inference, services.ports)))
    output = dump_output(kind, job.stage, result.output)
    if result.records:
        writer_of(job.kind)  # without a writer, fail here, not in a group commit
    facts = JobFacts(
        id=job.id,
        batch_id=job.batch_id,
        custom_id=job.custom_id,
        kind=kind.name,
        kind_version=kind.version,
        attempt=job.attempt,
        celery_task_id=celery_task_id,
        worker_id=services.worker.id,
        worker_device=services.worker.device,
        queued_at=job.queued_at,
        started_at=started_at,
        finished_at=datetime.now(UTC),
    )
    return Attempt(result, output, facts)


def failure_of(job: ClaimedJob, error: BaseException, settings: Settings) -> Failure:
    """Return an attempt's outcome after an error: failed, expired, or queued again with backoff.

    An error other than PressroomError is a fault of the kind: it is retried, and logged with its traceback.
    """
    if not isinstance(error, PressroomError):
        logger.error("A kind raised an unexpected error.", exc_info=error, extra={"job_id": str(job.id)})
    code = error.code if isinstance(error, PressroomError) else f"internal_{type(error).__name__.lower()}"
    message = (
        str(error)
        if isinstance(error, PressroomError)
        else f"{type(error).__name__} in kind {job.kind}{place_of(error)}: see the worker's log"
    )
    return Failure(
        job=job,
        status=_status_after(job, error, settings),
        error_code=code,
        error_message=message[:MAX_ERROR_CHARACTERS],
        retry_after_seconds=min(
            MAX_BACKOFF_SECONDS, settings.backoff_seconds * 2.0 ** min(job.num_failures, 1000)
        ),
    )


def _status_after(job: ClaimedJob, error: BaseException, settings: Settings) -> JobStatus:
    batch_seconds = job.seconds_to_deadline
    if isinstance(error, DeadlineError):
        # Only the batch's own deadline is final; an attempt may miss its own because the machine is busy.
        if batch_seconds is not None and batch_seconds <= settings.job_timeout_seconds:
            return JobStatus.EXPIRED
    elif isinstance(error, PermanentError):
        return JobStatus.FAILED
    return JobStatus.FAILED if job.num_failures + 1 >= job.max_attempts else JobStatus.QUEUED
