"""Read-only queries about batches and jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, RowMapping, Select, func, select, tuple_

from db.batches import BatchNotFoundError
from db.dispatch import ALIVE_SECONDS
from db.stages import STREAM_ROWS
from db.tables import ArtifactRow, AttemptRow, BatchRow, JobRow, StatementRow, WorkerRow, job_is
from jobs.batch import BatchStatus, BatchStatusReport, JobCounts, ParkedJob
from jobs.errors import PermanentError
from jobs.inference import Usage
from jobs.job import AttemptOutcome, JobStatus
from jobs.losses import Evidence

TOP_ERRORS = 5

PARKED_SHOWN = 20
"""Maximum number of parked jobs that a report lists with their evidence. The report also contains the total
number of parked jobs."""

LOADING_TIME = timedelta(minutes=15)
"""Time after which a worker that is not ready is considered to have failed. Loading tens of gigabytes from a
slow disk takes less."""


class JobNotFoundError(PermanentError):
    """No job has this id."""

    code = "job_not_found"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """The current state of one job of a batch: its outcome, and where its first artifact is."""

    job_id: UUID
    custom_id: str
    payload: Mapping[str, object]
    status: JobStatus
    attempt: int
    worker_id: str | None
    started_at: datetime | None
    finished_at: datetime | None
    error_code: str | None
    error_message: str | None
    metrics: Mapping[str, object]
    usage: Usage
    artifact_name: str | None
    object_key: str | None
    byte_offset: int | None
    """Offset of the artifact in its pack; None if it is stored as a separate object, or if there is none."""
    num_bytes: int | None
    sha256: str | None
    media_type: str | None
    statement: bytes | None = None
    """Provenance statement. Only `job_detail` sets it, and without checking it; pressroom.results checks what
    is exported."""
    parked_at: datetime | None = None
    """Instant at which the job was parked. A parked job is queued but not sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One claim of a job."""

    attempt: int
    worker_id: str
    celery_task_id: str
    started_at: datetime
    ended_at: datetime | None
    outcome: AttemptOutcome
    error_code: str | None
    error_message: str | None
    evidence: Evidence | None
    """Evidence about a lost attempt: how the worker ended and which other jobs it held; None otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetail:
    """Everything that Postgres stores about one job."""

    batch_id: UUID
    batch_name: str
    kind: str
    model: str
    result: JobResult
    output: Mapping[str, object] | None
    """Output for later stages; None if the job's stage has no output."""
    attempts: tuple[Attempt, ...]


def batch_status(database: Engine, batch_id: UUID) -> BatchStatusReport:
    """Return counts, tokens and times of a batch at one instant. Raises BatchNotFoundError."""
    running = select(func.count()).where(JobRow.batch_id == batch_id, job_is(JobStatus.RUNNING))
    parked = select(func.count()).where(JobRow.batch_id == batch_id, *_PARKED)
    with database.connect() as connection:
        batch = connection.execute(
            select(
                BatchRow.name,
                BatchRow.kind,
                BatchRow.model,
                BatchRow.profile,
                BatchRow.status,
                BatchRow.num_rejected,
                BatchRow.num_jobs,
                BatchRow.num_succeeded,
                BatchRow.num_failed,
                BatchRow.num_cancelled,
                BatchRow.num_expired,
                running.scalar_subquery().label("num_running"),
                parked.scalar_subquery().label("num_parked"),
                BatchRow.prompt_tokens,
                BatchRow.cached_tokens,
                BatchRow.new_tokens,
                BatchRow.created_at,
                BatchRow.first_claim_at,
                BatchRow.last_commit_at,
                BatchRow.plan_error,
            ).where(BatchRow.id == batch_id)
        ).one_or_none()
        if batch is None:
            raise BatchNotFoundError(f"no batch has the id {batch_id}: see `pressroom batches`")
        counts = _counts(batch)
        return BatchStatusReport(
            batch_id=batch_id,
            name=batch.name,
            kind=batch.kind,
            model=batch.model,
            profile=batch.profile,
            status=batch.status,
            counts=counts,
            usage=Usage(batch.prompt_tokens, batch.cached_tokens, batch.new_tokens),
            created_at=batch.created_at,
            first_claim_at=batch.first_claim_at,
            last_commit_at=batch.last_commit_at,
            top_errors=_top_errors(connection, batch_id) if counts.failed else (),
            waiting_reason=batch.plan_error
            or _waiting_reason(connection, batch.profile, counts, num_parked=batch.num_parked),
            num_parked=batch.num_parked,
            parked=_parked(connection, batch_id) if batch.num_parked else (),
        )


_PARKED = (job_is(JobStatus.QUEUED), JobRow.suspect_group.is_not(None), JobRow.parked_at.is_not(None))
"""Conditions for parked jobs, written so that Postgres uses the index of suspects."""


def _parked(connection: Connection, batch_id: UUID) -> tuple[ParkedJob, ...]:
    jobs = connection.execute(
        select(JobRow.id, JobRow.custom_id, JobRow.parked_at, JobRow.cleared_attempt)
        .where(JobRow.batch_id == batch_id, *_PARKED)
        .order_by(JobRow.parked_at, JobRow.position)
        .limit(PARKED_SHOWN)
    ).all()
    evidence = connection.execute(
        select(AttemptRow.job_id, AttemptRow.attempt, AttemptRow.evidence)
        .where(AttemptRow.job_id.in_([job.id for job in jobs]), AttemptRow.evidence.is_not(None))
        .order_by(AttemptRow.attempt)
    ).all()
    return tuple(
        ParkedJob(
            job_id=job.id,
            custom_id=job.custom_id,
            parked_at=job.parked_at,
            losses=tuple(
                Evidence.model_validate(row.evidence)
                for row in evidence
                if row.job_id == job.id and row.attempt > job.cleared_attempt
            ),
        )
        for job in jobs
    )


def _counts(batch: Row[*tuple[Any, ...]]) -> JobCounts:
    """Return the numbers of a batch's jobs by status. Jobs that are neither final nor running are queued."""
    final = batch.num_succeeded + batch.num_failed + batch.num_cancelled + batch.num_expired
    return JobCounts(
        queued=batch.num_jobs - final - batch.num_running,
        running=batch.num_running,
        succeeded=batch.num_succeeded,
        failed=batch.num_failed,
        cancelled=batch.num_cancelled,
        expired=batch.num_expired,
        rejected=batch.num_rejected,
    )


def _top_errors(connection: Connection, batch_id: UUID) -> tuple[tuple[str, int], ...]:
    rows = connection.execute(
        select(JobRow.error_code, func.count())
        .where(JobRow.batch_id == batch_id, job_is(JobStatus.FAILED))
        .group_by(JobRow.error_code)
        .order_by(func.count().desc())
        .limit(TOP_ERRORS)
    )
    return tuple((code or "unknown", number) for code, number in rows)


def _waiting_reason(
    connection: Connection, profile: str, counts: JobCounts, *, num_parked: int
) -> str | None:
    if counts.running or not counts.queued:
        return None
    if counts.queued == num_parked:
        return "all remaining jobs are parked: `pressroom retry BATCH` queues them again"
    workers = connection.execute(
        select(func.count(), func.count(WorkerRow.ready_at)).where(
            WorkerRow.profile == profile,
            WorkerRow.stopped_at.is_(None),
            WorkerRow.ended_at.is_(None),
            # A worker that is loading its models sends no heartbeat until it is ready.
            (WorkerRow.ready_at.is_(None) & (WorkerRow.started_at > func.now() - LOADING_TIME))
            | (WorkerRow.seen_at > func.now() - timedelta(seconds=ALIVE_SECONDS)),
        )
    ).one()
    if not workers[0]:
        return (
            f"waiting for a worker of profile {profile!r} (`pressroom worker --profile {profile}` starts one)"
        )
    if not workers[1]:
        return "the workers are loading their models"
    return "the jobs are being sent to workers, or they wait for their retry time"


def list_batches(database: Engine, *, limit: int) -> list[tuple[UUID, str, str, BatchStatus, datetime]]:
    """Return the id, name, kind, status and acceptance time of the newest batches."""
    with database.connect() as connection:
        rows = connection.execute(
            select(BatchRow.id, BatchRow.name, BatchRow.kind, BatchRow.status, BatchRow.created_at)
            .order_by(BatchRow.created_at.desc())
            .limit(limit)
        )
        return [(row.id, row.name, row.kind, row.status, row.created_at) for row in rows]


def stream_results(
    database: Engine, batch_id: UUID, *, statuses: tuple[JobStatus, ...] = (), every_stage: bool = False
) -> Iterator[JobResult]:
    """Stream the jobs of the last opened stage, or of every stage, in input order.

    Jobs are read in pages, and no transaction is open between two pages, because the caller may take hours.
    Each job has the state of the instant at which its page was read.
    """
    place = tuple_(JobRow.stage, JobRow.position)
    statement = (
        _results()
        .add_columns(JobRow.stage, JobRow.position)
        .where(JobRow.batch_id == batch_id)
        .order_by(JobRow.stage, JobRow.position)
        .limit(STREAM_ROWS)
    )
    if statuses:
        statement = statement.where(JobRow.status.in_(statuses))
    if not every_stage:
        with database.connect() as connection:
            stage = connection.scalar(select(func.max(JobRow.stage)).where(JobRow.batch_id == batch_id))
        statement = statement.where(JobRow.stage == stage)
    last = (-1, -1)
    while True:
        with database.connect() as connection:
            rows = connection.execute(statement.where(place > last)).mappings().all()
        yield from map(_result, rows)
        if len(rows) < STREAM_ROWS:
            return
        last = (rows[-1]["stage"], rows[-1]["position"])


def _results() -> Select[*tuple[Any, ...]]:
    return select(
        JobRow.id,
        JobRow.custom_id,
        JobRow.payload,
        JobRow.status,
        JobRow.attempt,
        JobRow.worker_id,
        JobRow.started_at,
        JobRow.finished_at,
        JobRow.error_code,
        JobRow.error_message,
        JobRow.metrics,
        JobRow.prompt_tokens,
        JobRow.cached_tokens,
        JobRow.new_tokens,
        ArtifactRow.name.label("artifact_name"),
        ArtifactRow.object_key,
        ArtifactRow.byte_offset,
        ArtifactRow.num_bytes,
        ArtifactRow.sha256,
        ArtifactRow.media_type,
        JobRow.parked_at,
    ).outerjoin(ArtifactRow, (ArtifactRow.job_id == JobRow.id) & (ArtifactRow.number == 0))


def _result(row: RowMapping) -> JobResult:
    return JobResult(
        job_id=row["id"],
        custom_id=row["custom_id"],
        payload=row["payload"],
        status=row["status"],
        attempt=row["attempt"],
        worker_id=row["worker_id"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        metrics=row["metrics"] or {},
        usage=Usage(row["prompt_tokens"], row["cached_tokens"], row["new_tokens"]),
        artifact_name=row["artifact_name"],
        object_key=row["object_key"],
        byte_offset=row["byte_offset"],
        num_bytes=row["num_bytes"],
        sha256=row["sha256"],
        media_type=row["media_type"],
        parked_at=row["parked_at"],
    )


def job_detail(database: Engine, job_id: UUID) -> JobDetail:
    """Return one job with all its attempts. Raises JobNotFoundError."""
    with database.connect() as connection:
        row = (
            connection.execute(
                _results()
                .add_columns(BatchRow.id.label("batch_id"), BatchRow.name, BatchRow.kind, BatchRow.model)
                .add_columns(StatementRow.body.label("statement"), JobRow.output)
                .join(BatchRow, BatchRow.id == JobRow.batch_id)
                .outerjoin(StatementRow, StatementRow.job_id == JobRow.id)
                .where(JobRow.id == job_id)
            )
            .mappings()
            .one_or_none()
        )
        if row is None:
            raise JobNotFoundError(f"no job has the id {job_id}: see `pressroom results BATCH`")
        attempts = connection.execute(
            select(
                AttemptRow.attempt,
                AttemptRow.worker_id,
                AttemptRow.celery_task_id,
                AttemptRow.started_at,
                AttemptRow.ended_at,
                AttemptRow.outcome,
                AttemptRow.error_code,
                AttemptRow.error_message,
                AttemptRow.evidence,
            )
            .where(AttemptRow.job_id == job_id)
            .order_by(AttemptRow.attempt)
        ).mappings()
        return JobDetail(
            batch_id=row["batch_id"],
            batch_name=row["name"],
            kind=row["kind"],
            model=row["model"],
            result=replace(_result(row), statement=row["statement"]),
            output=row["output"],
            attempts=tuple(_attempt(attempt) for attempt in attempts),
        )


def _attempt(row: RowMapping) -> Attempt:
    evidence = row["evidence"]
    return Attempt(**{**row, "evidence": None if evidence is None else Evidence.model_validate(evidence)})


def find_job(database: Engine, batch_id: UUID, custom_id: str) -> UUID:
    """Return the id of the job with this custom_id, in the last stage that has such a job.

    Raises JobNotFoundError.
    """
    with database.connect() as connection:
        found = connection.scalar(
            select(JobRow.id)
            .where(JobRow.batch_id == batch_id, JobRow.custom_id == custom_id)
            .order_by(JobRow.stage.desc())
            .limit(1)
        )
    if found is None:
        raise JobNotFoundError(f"batch {batch_id} has no job named {custom_id!r}")
    return found


def running_progress(database: Engine, batch_id: UUID) -> list[Mapping[str, object]]:
    """Return the latest progress of each running job that has reported any, in the order of the jobs."""
    with database.connect() as connection:
        rows = connection.execute(
            select(JobRow.progress)
            .where(JobRow.batch_id == batch_id, job_is(JobStatus.RUNNING), JobRow.progress.is_not(None))
            .order_by(JobRow.position)
        )
        return [dict(progress) for (progress,) in rows if progress is not None]
