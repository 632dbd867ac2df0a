"""Reads the results of a batch, in order and in constant memory, and checks their evidence.

An object is checked against its row, the row against the statement, and the statement against its own digest
and its copy in the store. Postgres and the store each hold a part of the evidence. So a change to one of
them, or a swap between two jobs, is detected here. Statements are not signed yet, so anyone who can write to
both can forge a result.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Engine

from db.evidence import JobEvidence, job_evidence
from db.outcomes import StoredArtifact, StoredStatement
from db.reports import JobResult, stream_results
from jobs.errors import PermanentError
from jobs.job import JobStatus
from jobs.provenance import StatementAlteredError, check_statement, payload_digest, sha256_hex
from pressroom.summary import Altered
from storage.packs import Place, Read, begin_reads
from storage.store import ObjectKeyError, ObjectNotFoundError, Store, StoreRefusedError
from workers.publisher import statement_key

logger = logging.getLogger(__name__)

FETCH_THREADS = 16
"""Number of objects fetched at the same time, half of which are copies of statements.

This number hides the store's latency without overloading a small store server.
"""

PAGE_JOBS = 256
"""Number of jobs whose rows are read at a time, one page ahead of the caller."""

WINDOW_BYTES = 32 * 1024 * 1024
"""Maximum total size of the artifacts that are fetched at a time; one such window is in memory while the next
one is fetched. A larger artifact is fetched alone."""


class ArtifactAlteredError(PermanentError):
    """An object or its row differs from what was committed."""

    code = "artifact_altered"


class Job(Protocol):
    """A job whose artifacts are fetched: JobResult, StageJob or JobEvidence."""

    @property
    def job_id(self) -> UUID: ...

    @property
    def custom_id(self) -> str: ...


JobT = TypeVar("JobT", bound=Job)

Window = list[tuple[JobT, JobEvidence | None]]

OnAltered = Callable[[Altered], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Generic[JobT]):
    """A job that succeeded, with its checked evidence and the bytes of its artifacts."""

    job: JobT
    evidence: JobEvidence
    bodies: Sequence[bytes]
    """Content of the artifacts, in their order."""

    @property
    def statement(self) -> bytes:
        """Return the provenance statement, which every checked result has."""
        return b"" if self.evidence.statement is None else self.evidence.statement.body


@dataclass(frozen=True, slots=True)
class _GoneJob:
    """A job whose batch was deleted."""

    job_id: UUID
    custom_id: str = ""


@dataclass(frozen=True, slots=True)
class ResultReader:
    """Reads results from Postgres and the store, and checks their evidence."""

    database: Engine
    store: Store
    on_altered: OnAltered | None = None
    """Called with each result that is left out because its evidence does not match. If it is None, an error
    is raised instead."""

    def read_batch(self, batch_id: UUID) -> Iterator[Result[JobResult]]:
        """Yield the results of the stage that was started last, in input order, as `read` does."""
        return self.read(stream_results(self.database, batch_id, statuses=(JobStatus.SUCCEEDED,)))

    def read(self, jobs: Iterator[JobT]) -> Iterator[Result[JobT]]:
        """Yield the results of succeeded jobs in order.

        The next ones are fetched while the caller works on the current one. Raises StoreError, and without
        `on_altered` also ArtifactAlteredError or StatementAlteredError.
        """
        with _fetch_pool() as pool:
            windows = self._windows(pool, jobs)
            ahead = self._begin(pool, next(windows, []))
            while ahead:
                window, ahead = ahead, self._begin(pool, next(windows, []))
                for job, evidence, reads in window:
                    try:
                        checked, bodies = _check_moved(self.database, self.store, evidence, reads)
                    except (ArtifactAlteredError, StatementAlteredError) as error:
                        self._leave_out(job, error)
                    else:
                        yield Result(job=job, evidence=checked, bodies=bodies)

    def _begin(
        self, pool: ThreadPoolExecutor, window: Window[JobT]
    ) -> list[tuple[JobT, JobEvidence | None, Sequence[Read]]]:
        """Begin to fetch a window. Parts of a pack that are neighbours are read by one request."""
        reads = _begin_reads(self.store, pool, [evidence for _, evidence in window])
        return [(*found, of_job) for found, of_job in zip(window, reads, strict=True)]

    def _windows(self, pool: ThreadPoolExecutor, jobs: Iterator[JobT]) -> Iterator[Window[JobT]]:
        """Yield lists of jobs with their evidence. The artifacts of a list are fetched together."""
        ahead = pool.submit(self._page, jobs)
        while page := ahead.result():
            ahead = pool.submit(self._page, jobs)
            window: Window[JobT] = []
            num_bytes = 0
            for job, evidence in page:
                size = 0 if evidence is None else sum(each.num_bytes for each in evidence.artifacts)
                if window and num_bytes + size > WINDOW_BYTES:
                    yield window
                    window, num_bytes = [], 0
                window.append((job, evidence))
                num_bytes += size
            yield window

    def _page(self, jobs: Iterator[JobT]) -> Window[JobT]:
        page = list(itertools.islice(jobs, PAGE_JOBS))
        found = job_evidence(self.database, [job.job_id for job in page]) if page else {}
        return [(job, found.get(job.job_id)) for job in page]

    def check_digest(self, job_id: UUID, sha256: str, what: str) -> None:
        """Check the job's statement, and raise StatementAlteredError unless it names `sha256`, the digest
        stored in a row of a kind's table.

        `what` describes the row in the message. If the batch was deleted, the statement was, too: then a
        warning is logged, and the content in the store can only be checked against the digest.
        """
        evidence = job_evidence(self.database, [job_id]).get(job_id)
        if evidence is None:
            logger.warning(
                "The job that produced a row was deleted, and so was its statement.",
                extra={"job_id": str(job_id)},
            )
        elif sha256 not in _digests(check_statement_copy(self.database, self.store, evidence)):
            raise StatementAlteredError(
                f"the digest in the row of {what} differs from the one in the statement of job {job_id}, "
                "which produced the row"
            )

    def names_digests(self, job_ids: Sequence[UUID], digests: Sequence[str]) -> list[bool]:
        """Return for each pair of job and digest whether the job's checked statement names the digest.

        A job whose statement does not name the digest is reported to `on_altered`; without `on_altered`, an
        error is raised. If a job's batch was deleted, nothing can be checked: a warning is logged, and the
        value is True.
        """
        found = job_evidence(self.database, set(job_ids))
        every = [found.get(job_id) for job_id in job_ids]
        with _fetch_pool() as pool:
            reads = _begin_reads(self.store, pool, every, with_artifacts=False)
            faults = [
                self._fault(evidence, copy, sha256)
                for evidence, copy, sha256 in zip(every, reads, digests, strict=True)
            ]
        num_gone = sum(evidence is None for evidence in every)
        if num_gone:
            logger.warning(
                "The jobs that produced some texts were deleted, and so were their statements.",
                extra={"num_texts": num_gone},
            )
        for job_id, fault in zip(job_ids, faults, strict=True):
            if fault is not None:
                self._leave_out(found.get(job_id) or _GoneJob(job_id), fault)
        return [fault is None for fault in faults]

    def _fault(
        self, evidence: JobEvidence | None, reads: Sequence[Read], sha256: str
    ) -> PermanentError | None:
        if evidence is None:  # its batch was deleted, so there is nothing to check it against
            return None
        try:
            checked, _ = _check_moved(self.database, self.store, evidence, reads, with_artifacts=False)
        except (ArtifactAlteredError, StatementAlteredError) as error:
            return error
        is_named = sha256 in _digests(checked)
        return None if is_named else StatementAlteredError("its text in Postgres was altered")

    def _leave_out(self, job: Job, error: PermanentError) -> None:
        if self.on_altered is None:
            raise type(error)(f"job {job.job_id} ({job.custom_id!r}): {error}") from error
        self.on_altered(Altered(job.job_id, job.custom_id, error.code, str(error)))


def check_statement_copy(database: Engine, store: Store, evidence: JobEvidence | None) -> JobEvidence:
    """Check a job's statement against its rows and its copy in the store; return the checked evidence.

    Raises ArtifactAlteredError, StatementAlteredError or StoreError.
    """
    with _fetch_pool() as pool:
        (reads,) = _begin_reads(store, pool, [evidence], with_artifacts=False)
        return _check_moved(database, store, evidence, reads, with_artifacts=False)[0]


def check_job(database: Engine, store: Store, job_id: UUID, payload: Mapping[str, object]) -> bytes:
    """Check everything that is stored about a succeeded job, including its input; return its statement.

    Raises ArtifactAlteredError, StatementAlteredError or StoreError.
    """
    evidence = job_evidence(database, [job_id]).get(job_id)
    with _fetch_pool() as pool:
        (reads,) = _begin_reads(store, pool, [evidence])
        checked, _ = _check_moved(database, store, evidence, reads)
    _, stored = _complete(checked)
    statement = stored.body
    if json.loads(statement)["predicate"]["inputs"][0]["sha256"] != payload_digest(payload):
        raise StatementAlteredError("its statement and its row in Postgres name different inputs")
    return statement


def _digests(evidence: JobEvidence) -> set[str]:
    return {artifact.sha256 for artifact in evidence.artifacts}


@contextmanager
def _fetch_pool() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(FETCH_THREADS, thread_name_prefix="fetch")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def artifact_place(artifact: StoredArtifact) -> Place:
    """Return where the artifact is stored."""
    return Place(artifact.object_key, artifact.num_bytes, artifact.byte_offset)


def _begin_reads(
    store: Store,
    pool: ThreadPoolExecutor,
    every: Sequence[JobEvidence | None],
    *,
    with_artifacts: bool = True,
) -> list[list[Read]]:
    """Begin to read the copy of each job's statement, then its artifacts in their order."""
    places: list[list[Place]] = []
    for evidence in every:
        of_job: list[Place] = []
        if evidence is not None and evidence.statement is not None:
            statement = evidence.statement
            of_job.append(Place(statement.object_key, len(statement.body), statement.byte_offset))
            of_job.extend(map(artifact_place, evidence.artifacts if with_artifacts else ()))
        places.append(of_job)
    reads = iter(begin_reads(store, pool, [place for of_job in places for place in of_job]))
    return [list(itertools.islice(reads, len(of_job))) for of_job in places]


def _complete(evidence: JobEvidence | None) -> tuple[JobEvidence, StoredStatement]:
    """Return the evidence and its statement. Raises ArtifactAlteredError if there is none or a part of it."""
    if evidence is None or evidence.statement is None or not evidence.artifacts:
        raise ArtifactAlteredError(
            "it succeeded, but its statement or its artifacts are missing from Postgres"
        )
    return evidence, evidence.statement


def _check_moved(
    database: Engine,
    store: Store,
    evidence: JobEvidence | None,
    reads: Sequence[Read],
    *,
    with_artifacts: bool = True,
) -> tuple[JobEvidence, list[bytes]]:
    """Check a result as `_check` does; return its evidence and its artifacts.

    If a sweep has moved parts of it to another pack since its rows were read, the parts are read from there.
    """
    evidence, _ = _complete(evidence)
    try:
        return evidence, _check(evidence, reads, store)
    except (ArtifactAlteredError, StatementAlteredError):
        moved = job_evidence(database, [evidence.job_id]).get(evidence.job_id)
        if moved is None or moved == evidence:
            raise
    with _fetch_pool() as pool:
        (reads,) = _begin_reads(store, pool, [moved], with_artifacts=with_artifacts)
        return moved, _check(moved, reads, store)


def _check(evidence: JobEvidence | None, reads: Sequence[Read], store: Store) -> list[bytes]:
    """Check a job's statement against its rows and its copy, and the artifacts that are read; return those.

    Raises ArtifactAlteredError, StatementAlteredError or StoreError.
    """
    evidence, statement = _complete(evidence)
    check_statement(
        statement.body,
        statement.sha256,
        subjects=[(artifact.name, artifact.sha256) for artifact in evidence.artifacts],
        job_id=evidence.job_id,
        batch_id=evidence.batch_id,
        custom_id=evidence.custom_id,
        kind=evidence.kind,
        attempt=evidence.attempt,
        usage=evidence.usage,
    )
    key = statement_key(evidence.artifacts[0].sha256, statement.sha256)
    if statement.byte_offset is None and statement.object_key != key:
        raise StatementAlteredError(
            f"the row names the object {statement.object_key}, but the statement is stored under a "
            "different key"
        )
    copy, *artifacts = reads
    if _finish(copy, statement.object_key) != statement.body:
        raise StatementAlteredError(
            f"its statement in Postgres differs from the copy {statement.object_key} in {store.location}"
        )
    return [
        _check_artifact(_finish(read, artifact.object_key), artifact, store)
        for read, artifact in zip(artifacts, evidence.artifacts, strict=False)
    ]


def _check_artifact(body: bytes, artifact: StoredArtifact, store: Store) -> bytes:
    if (sha256_hex(body), len(body)) != (artifact.sha256, artifact.num_bytes):
        raise ArtifactAlteredError(
            f"object {artifact_place(artifact)} does not have the digest and size that were committed: the "
            f"store in {store.location} or the row of {artifact.name!r} was altered"
        )
    return body


def _finish(read: Read, key: str) -> bytes:
    try:
        return read()
    except (ObjectKeyError, ObjectNotFoundError, StoreRefusedError) as error:
        # The key was altered, or the object is missing, which some stores report as forbidden.
        raise ArtifactAlteredError(f"object {key} cannot be read: {error}") from error
