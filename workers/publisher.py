"""Stores the artifacts and the statement of a job, and returns the facts about them for the commit."""

from __future__ import annotations

import logging
import subprocess
from importlib.metadata import version
from pathlib import Path
from threading import Event

from tenacity import (
    RetryCallState,
    RetryError,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)

from db.outcomes import StoredArtifact, StoredStatement, Success
from jobs.inference import Usage
from jobs.job import ClaimedJob
from jobs.kind import Artifact, Result
from jobs.provenance import (
    CodeFacts,
    JobFacts,
    Provenance,
    Subject,
    payload_digest,
    sha256_hex,
)
from storage.resources import artifact_key
from storage.store import Store, StoreError, StoreRefusedError
from workers.inference import JobAbandonedError, ModelUse
from workers.settings import Settings

logger = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 15.0
"""Maximum wait between two attempts while the store is unavailable. The wait is random, so that a recovering
store gets a handful of requests a second rather than a flood."""

STATEMENT_MEDIA_TYPE = "application/vnd.in-toto+json"


def statement_key(subject_sha256: str, statement_sha256: str) -> str:
    """Return the key of a statement, next to its first artifact.

    Two jobs with equal artifacts each keep their own statement.
    """
    return f"{artifact_key(subject_sha256)}.{statement_sha256}.statement.json"


class Publisher:
    """Writes objects to the store. Any thread may call it."""

    def __init__(self, store: Store, code: CodeFacts) -> None:
        self._store = store
        self._code = code

    def publish(
        self,
        job: ClaimedJob,
        result: Result,
        *,
        output: str | None,
        facts: JobFacts,
        use: ModelUse,
        abandoned: Event,
    ) -> Success:
        """Store the artifacts and the statement; return the outcome for the committer.

        While the store is unavailable, storing is retried and the job keeps its place, so that a worker never
        claims more jobs than it has places. Raises JobAbandonedError once `abandoned` is set.
        """
        artifacts = tuple(self._put_artifact(artifact, abandoned) for artifact in result.artifacts)
        provenance = Provenance(
            subjects=tuple(Subject(artifact.name, artifact.sha256) for artifact in artifacts),
            job=facts,
            input_sha256=payload_digest(job.payload),
            template=result.template,
            model=use.model,
            engine=use.engine,
            models=use.models,
            generations=use.generations,
            encodings=use.encodings,
            parents=result.parents,
            code=self._code,
        )
        body = provenance.canonical_bytes()
        sha256 = sha256_hex(body)
        key = statement_key(artifacts[0].sha256, sha256)
        self._put(key, body, STATEMENT_MEDIA_TYPE, abandoned)
        return Success(
            job=job,
            artifacts=artifacts,
            statement=StoredStatement(body=body, sha256=sha256, object_key=key),
            metrics=result.metrics,
            output=output,
            records=result.records,
            usage=sum((generation.usage for generation in use.generations), Usage()),
        )

    def _put_artifact(self, artifact: Artifact, abandoned: Event) -> StoredArtifact:
        sha256 = sha256_hex(artifact.body)
        key = artifact_key(sha256)
        self._put(key, artifact.body, artifact.media_type, abandoned)
        return StoredArtifact(
            name=artifact.name,
            object_key=key,
            sha256=sha256,
            num_bytes=len(artifact.body),
            media_type=artifact.media_type,
        )

    def _put(self, key: str, body: bytes, media_type: str, abandoned: Event) -> None:
        retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            wait=wait_random_exponential(max=MAX_WAIT_SECONDS),
            stop=stop_when_event_set(abandoned),
            sleep=sleep_using_event(abandoned),
            before_sleep=_warn,
        )
        try:
            retrying(self._store.put, key, body, media_type=media_type)
        except RetryError as error:
            raise JobAbandonedError("the store did not answer while this worker held the job") from error


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, StoreError) and not isinstance(error, StoreRefusedError)


def _warn(state: RetryCallState) -> None:
    reason = state.outcome.exception() if state.outcome is not None else None
    extra = {"num_tries": state.attempt_number, "reason": str(reason)}
    logger.warning("The store is unavailable; storing is retried.", extra=extra)


GIT_TIMEOUT_SECONDS = 5


def code_facts(settings: Settings) -> CodeFacts:
    """Return the package's version and commit.

    The commit comes from the settings, or else from git if the code is a checkout.
    """
    return CodeFacts(version=version("pressroom"), commit=settings.commit or _git_commit() or "unknown")


def _git_commit() -> str | None:
    checkout = Path(__file__).resolve().parent.parent
    if not (checkout / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
