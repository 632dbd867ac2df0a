"""Stores the artifacts and the statement of a job, and returns the facts about them for the commit."""

from __future__ import annotations

import logging
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from threading import Event

from tenacity import (
    RetryCallState,
    RetryError,
    Retrying,
    retry_if_exception,
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
from storage.packs import MAX_JOB_BYTES, MAX_PART_BYTES, MEDIA_TYPE, Part, build_pack
from storage.resources import artifact_key
from storage.store import Store, StoreError, StoreRefusedError
from workers.inference import JobAbandonedError, ModelUse
from workers.settings import Settings

logger = logging.getLogger(__name__)

MAX_WAIT_SECONDS = 15.0
"""Maximum wait between two attempts while the store is unavailable. The wait is random, so that a recovering
store gets a handful of requests a second rather than a flood."""

ABANDONED_SECONDS = 0.2
"""Interval at which a thread that waits for the store checks whether its jobs have been abandoned."""

_ENTRY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Matches names of artifacts that every tool can unpack under the same name."""

STATEMENT_MEDIA_TYPE = "application/vnd.in-toto+json"


def statement_key(subject_sha256: str, statement_sha256: str) -> str:
    """Return the key of a statement, next to the job's first artifact.

    Two jobs with equal artifacts each keep their own statement.
    """
    return f"{artifact_key(subject_sha256)}.{statement_sha256}.statement.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A job that has succeeded: its large objects are stored, and its small ones are to be packed."""

    job: ClaimedJob
    result: Result
    digests: tuple[str, ...]
    """SHA-256 of each artifact."""
    packed: tuple[bool, ...]
    """Whether each artifact becomes a part of a pack."""
    statement: bytes
    statement_sha256: str
    output: str | None
    usage: Usage

    def parts(self) -> Iterator[Part]:
        """Yield the parts to be packed: the small artifacts, in their order, and then the statement if it is
        small."""
        folder = f"{self.job.id}.{self.job.attempt}"
        for number, (artifact, is_packed) in enumerate(zip(self.result.artifacts, self.packed, strict=True)):
            if is_packed:
                yield Part(f"{folder}/{entry_name(artifact.name, number)}", bytes(artifact.body))
        if self._is_statement_packed:
            yield Part(f"{folder}.statement.json", self.statement)

    def success(self, pack_key: str, offsets: Iterator[int]) -> Success:
        """Return the outcome for the committer, given the offset of each of `parts` in the pack."""
        artifacts = tuple(
            StoredArtifact(
                name=artifact.name,
                object_key=pack_key if is_packed else artifact_key(sha256),
                byte_offset=next(offsets) if is_packed else None,
                sha256=sha256,
                num_bytes=len(artifact.body),
                media_type=artifact.media_type,
            )
            for artifact, sha256, is_packed in zip(
                self.result.artifacts, self.digests, self.packed, strict=True
            )
        )
        is_part = self._is_statement_packed
        return Success(
            job=self.job,
            artifacts=artifacts,
            statement=StoredStatement(
                body=self.statement,
                sha256=self.statement_sha256,
                object_key=pack_key if is_part else self.statement_key,
                byte_offset=next(offsets) if is_part else None,
            ),
            metrics=self.result.metrics,
            output=self.output,
            records=self.result.records,
            kept=self.result.kept,
            usage=self.usage,
        )

    @property
    def num_packed_bytes(self) -> int:
        """Return the size of `parts`."""
        sizes = zip(map(len, (each.body for each in self.result.artifacts)), self.packed, strict=True)
        statement_bytes = len(self.statement) if self._is_statement_packed else 0
        return sum(size for size, is_packed in sizes if is_packed) + statement_bytes

    @property
    def statement_key(self) -> str:
        """Return the key of the statement if it is stored as a separate object."""
        return statement_key(self.digests[0], self.statement_sha256)

    @property
    def _is_statement_packed(self) -> bool:
        return len(self.statement) <= MAX_PART_BYTES


def entry_name(name: str, number: int) -> str:
    """Return the name of an artifact in its job's folder of a pack, given its index among those of the job.

    >>> entry_name("report.md", 0), entry_name("a/b", 1)
    ('report.md', 'artifact-1')
    """
    return name if _ENTRY_NAME.fullmatch(name) else f"artifact-{number}"


def _choose_packed(artifacts: Sequence[Artifact]) -> tuple[bool, ...]:
    """Return for each artifact whether it becomes a part of a pack rather than an object of its own."""
    num_bytes = 0
    packed = []
    for artifact in artifacts:
        size = len(artifact.body)
        fits = size <= MAX_PART_BYTES and num_bytes + size <= MAX_JOB_BYTES
        packed.append(fits and not artifact.is_resource)
        num_bytes += size if packed[-1] else 0
    return tuple(packed)


class Publisher:
    """Builds statements and writes objects to the store. Any thread may call it."""

    def __init__(self, store: Store, code: CodeFacts) -> None:
        self._store = store
        self._code = code

    def prepare(
        self,
        job: ClaimedJob,
        result: Result,
        *,
        output: str | None,
        facts: JobFacts,
        use: ModelUse,
        abandoned: Event,
    ) -> Prepared:
        """Build the statement, and store what is too large for a pack.

        While the store is unavailable, storing is retried and the job keeps its place, so that a worker never
        claims more jobs than it has places. Raises StoreRefusedError, and JobAbandonedError once `abandoned`
        is set.
        """
        digests = tuple(sha256_hex(artifact.body) for artifact in result.artifacts)
        provenance = Provenance(
            subjects=tuple(
                Subject(artifact.name, sha256)
                for artifact, sha256 in zip(result.artifacts, digests, strict=True)
            ),
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
        statement = provenance.canonical_bytes()
        prepared = Prepared(
            job=job,
            result=result,
            digests=digests,
            packed=_choose_packed(result.artifacts),
            statement=statement,
            statement_sha256=sha256_hex(statement),
            output=output,
            usage=sum((generation.usage for generation in use.generations), Usage()),
        )
        for artifact, sha256, is_packed in zip(result.artifacts, digests, prepared.packed, strict=True):
            if not is_packed:
                self._put(artifact_key(sha256), artifact.body, artifact.media_type, abandoned.is_set)
        if len(statement) > MAX_PART_BYTES:
            self._put(prepared.statement_key, statement, STATEMENT_MEDIA_TYPE, abandoned.is_set)
        return prepared

    def store_pack(
        self, prepared: Sequence[Prepared], *, is_abandoned: Callable[[], bool] = lambda: False
    ) -> list[Success]:
        """Store the small artifacts and the statements of several jobs as one pack; return their outcomes.

        While the store is unavailable, storing is retried. Raises StoreRefusedError, and JobAbandonedError
        once `is_abandoned` returns True.
        """
        pack = build_pack(part for each in prepared for part in each.parts())
        if pack.offsets:
            self._put(pack.key, pack.body, MEDIA_TYPE, is_abandoned)
        offsets = iter(pack.offsets)
        return [each.success(pack.key, offsets) for each in prepared]

    def _put(self, key: str, body: bytes, media_type: str, is_abandoned: Callable[[], bool]) -> None:
        retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            wait=wait_random_exponential(max=MAX_WAIT_SECONDS),
            stop=lambda _: is_abandoned(),
            sleep=lambda seconds: _sleep(seconds, is_abandoned),
            before_sleep=_warn,
        )
        try:
            retrying(self._store.put, key, body, media_type=media_type)
        except RetryError as error:
            raise JobAbandonedError("the store did not answer while this worker held the job") from error


def _sleep(seconds: float, is_abandoned: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not is_abandoned() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, ABANDONED_SECONDS))


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, StoreError) and not isinstance(error, StoreRefusedError)


def _warn(state: RetryCallState) -> None:
    reason = state.outcome.exception() if state.outcome is not None else None
    extra = {"num_tries": state.attempt_number, "reason": str(reason)}
    logger.warning("The store is unavailable; storing will be retried.", extra=extra)


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
