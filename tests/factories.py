"""Batches, jobs and outcomes for tests that are about something else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Engine, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db import batches, leases, workers
from db.evidence import job_evidence
from db.outcomes import Failure, StoredArtifact, StoredStatement, Success
from db.stages import NewJob
from db.tables import AttemptRow, JobRow, WorkerRow
from jobs.batch import NewBatch, NewStage
from jobs.inference import FinishReason, Sampling, Usage
from jobs.job import AttemptOutcome, ClaimedJob, JobStatus
from jobs.kind import Artifact, Result, Template
from jobs.losses import Cause, Ending, Evidence
from jobs.provenance import CodeFacts, EngineFacts, Generation, JobFacts, ModelFacts, sha256_hex
from storage.packs import Place
from storage.store import Store
from tests.plugins.kinds import TrialOutput
from workers.inference import ModelUse
from workers.publisher import Prepared, Publisher

LEASE_SECONDS = 30.0


def new_batch(
    *,
    kind: str = "trial",
    stages: tuple[str, ...] = ("write",),
    profile: str = "cpu",
    tenant: str = "default",
    priority: int = 0,
    idempotency_key: str | None = None,
    schedule_id: UUID | None = None,
    deadline_seconds: float | None = None,
    max_attempts: int = 3,
    model: str = "fake",
    name: str = "test",
) -> NewBatch:
    """A batch of one of the kinds in tests.plugins."""
    return NewBatch(
        kind=kind,
        kind_version="1",
        name=name,
        model=model,
        settings={},
        stages=tuple(NewStage(stage, profile) for stage in stages),
        tenant=tenant,
        priority=priority,
        schedule_id=schedule_id,
        idempotency_key=idempotency_key,
        deadline_seconds=deadline_seconds,
        max_attempts=max_attempts,
    )


def new_jobs(number: int, *, act: str = "write") -> list[NewJob]:
    """Jobs named line-0, line-1, ..."""
    return [NewJob(f"line-{n}", {"text": f"text {n}", "act": act}) for n in range(number)]


def accept(database: Engine, jobs: Iterable[NewJob] | int, batch: NewBatch | None = None) -> UUID:
    """A batch with these jobs, or this many."""
    some = new_jobs(jobs) if isinstance(jobs, int) else jobs
    return batches.accept(database, batch or new_batch(), some, lambda: 0)[0]


def job_ids(database: Engine, batch_id: UUID, stage: int = 0) -> list[UUID]:
    """The batch's jobs by position."""
    with database.connect() as connection:
        rows = connection.scalars(
            select(JobRow.id)
            .where(JobRow.batch_id == batch_id, JobRow.stage == stage)
            .order_by(JobRow.position)
        )
        return list(rows)


def claim(
    database: Engine,
    ids: Sequence[UUID],
    *,
    worker: str = "worker-a",
    lease_seconds: float = LEASE_SECONDS,
    alone: bool = False,
) -> list[ClaimedJob]:
    """Claim as a worker does."""
    return leases.claim(
        database, ids, alone=alone, worker_id=worker, celery_task_id="task", lease_seconds=lease_seconds
    )


def claim_batch(
    database: Engine, batch_id: UUID, *, stage: int = 0, worker: str = "worker-a"
) -> list[ClaimedJob]:
    """Claim everything of a stage that can be claimed."""
    return claim(database, job_ids(database, batch_id, stage), worker=worker)


def success(job: ClaimedJob, text: str = "done") -> Success:
    """An outcome with one artifact whose objects nobody has written."""
    digest = sha256_hex(text.encode())
    return Success(
        job=job,
        artifacts=(
            StoredArtifact(
                name="trial.txt",
                object_key=f"artifacts/{digest[:2]}/{digest}.txt",
                sha256=digest,
                num_bytes=len(text),
                media_type="text/plain",
            ),
        ),
        statement=StoredStatement(body=b"{}", sha256=sha256_hex(b"{}"), object_key="artifacts/statement"),
        metrics={"text": text},
        output=TrialOutput(text=text).model_dump_json(),
        usage=Usage(prompt_tokens=10, cached_tokens=4, new_tokens=5),
    )


def published(
    store: Store,
    job: ClaimedJob,
    artifacts: Sequence[Artifact],
    *,
    metrics: Mapping[str, object] | None = None,
    output: BaseModel | None = None,
    records: tuple[object, ...] = (),
) -> Success:
    """An outcome whose objects and statement are in the store, as a worker puts them there."""
    made = prepared(store, job, artifacts, metrics=metrics, output=output, records=records)
    (success,) = Publisher(store, CodeFacts("1.0", "test")).store_pack([made])
    return success


def prepared(
    store: Store,
    job: ClaimedJob,
    artifacts: Sequence[Artifact],
    *,
    metrics: Mapping[str, object] | None = None,
    output: BaseModel | None = None,
    records: tuple[object, ...] = (),
) -> Prepared:
    """A succeeded job whose small objects wait for a pack."""
    usage = Usage(prompt_tokens=10, cached_tokens=4, new_tokens=5)
    digest = sha256_hex(job.custom_id.encode())
    generation = Generation(
        prompt_sha256=digest,
        output_sha256=digest,
        sampling=Sampling(max_new_tokens=8),
        usage=usage,
        finish_reason=FinishReason.STOP,
        num_near_ties=0,
    )
    now = datetime.now(UTC)
    facts = JobFacts(
        id=job.id,
        batch_id=job.batch_id,
        custom_id=job.custom_id,
        kind=job.kind,
        kind_version="1",
        attempt=job.attempt,
        celery_task_id="task",
        worker_id="worker-a",
        worker_device="cpu",
        queued_at=job.queued_at,
        started_at=now,
        finished_at=now,
    )
    model = ModelFacts(
        name="fake",
        source="nowhere",
        revision="1",
        weights_sha256=digest,
        tokenizer_sha256=digest,
        chat_template_sha256=digest,
    )
    engine = EngineFacts(name="fake", versions=(), dtype="none", device="cpu", attention="none", num_slots=1)
    use = ModelUse(model=model, engine=engine, models=(model,), generations=(generation,), encodings=())
    template = Template("trial", "1", digest)
    result = Result(artifacts=tuple(artifacts), template=template, metrics=metrics or {}, records=records)
    kept = None if output is None else output.model_dump_json()
    publisher = Publisher(store, CodeFacts("1.0", "test"))
    return publisher.prepare(job, result, output=kept, facts=facts, use=use, abandoned=threading.Event())


def read_place(store: Store, place: Place) -> bytes:
    """The bytes at a place, as they are."""
    if place.offset is None:
        return store.get(place.key)
    return store.get_range(place.key, place.offset, place.num_bytes)


def alter_place(store: Store, place: Place, body: bytes) -> None:
    """Overwrite the bytes at a place with as many bytes of the body, followed by spaces."""
    start = place.offset or 0
    whole = store.get(place.key)
    forged = body.ljust(place.num_bytes)[: place.num_bytes]
    store.put(
        place.key, whole[:start] + forged + whole[start + place.num_bytes :], media_type="application/zip"
    )


def artifact_place(database: Engine, job_id: UUID, number: int = 0) -> Place:
    """The place of one artifact of a succeeded job."""
    artifact = job_evidence(database, [job_id])[job_id].artifacts[number]
    return Place(artifact.object_key, artifact.num_bytes, artifact.byte_offset)


def failure(
    job: ClaimedJob,
    *,
    status: JobStatus = JobStatus.FAILED,
    code: str = "trial_permanent",
    message: str = "the payload asks for it",
    retry_after_seconds: float = 0.0,
) -> Failure:
    """An attempt that failed."""
    return Failure(
        job=job,
        status=status,
        error_code=code,
        error_message=message,
        retry_after_seconds=retry_after_seconds,
    )


def run_out_leases(database: Engine, ids: Sequence[UUID]) -> None:
    """What time does to leases that nobody renews."""
    set_job(database, ids, lease_expires_at=datetime(2000, 1, 1, tzinfo=UTC))


def end_worker(
    database: Engine, worker: str, cause: Cause, *, exit_code: int | None = None, signal: str | None = None
) -> None:
    """What a supervisor tells of a worker that has ended."""
    with database.begin() as connection:
        row = {"id": worker, "profile": "cpu", "device": "cpu", "host": "here", "pid": 1}
        statement = insert(WorkerRow).values(max_jobs_in_flight=8, **row)
        connection.execute(statement.on_conflict_do_nothing())
    workers.mark_ended(database, worker, Ending(cause=cause, exit_code=exit_code, signal=signal))


def set_job(database: Engine, ids: Sequence[UUID], **values: object) -> None:
    """Write columns past the rules, to make a situation that would take long to arise."""
    with database.begin() as connection:
        connection.execute(update(JobRow).where(JobRow.id.in_(ids)).values(**values))


def job_row(database: Engine, job_id: UUID) -> JobRow:
    """The job's row, detached."""
    with Session(database) as session:
        return session.execute(select(JobRow).where(JobRow.id == job_id)).scalar_one()


def statuses(database: Engine, ids: Sequence[UUID]) -> list[JobStatus]:
    """Return the status of each job, in the order of the ids."""
    with database.connect() as connection:
        rows = connection.execute(select(JobRow.id, JobRow.status).where(JobRow.id.in_(ids)))
        by_id = {row.id: row.status for row in rows}
    return [by_id[job_id] for job_id in ids]


def attempt_outcomes(database: Engine, job_id: UUID) -> list[AttemptOutcome]:
    """Return the outcomes of the job's attempts, oldest first."""
    with database.connect() as connection:
        rows = connection.scalars(
            select(AttemptRow.outcome).where(AttemptRow.job_id == job_id).order_by(AttemptRow.attempt)
        )
        return list(rows)


def evidence_of(database: Engine, job_id: UUID) -> list[Evidence]:
    """Return the evidence of the job's lost attempts, oldest first."""
    with database.connect() as connection:
        rows = connection.scalars(
            select(AttemptRow.evidence)
            .where(AttemptRow.job_id == job_id, AttemptRow.evidence.is_not(None))
            .order_by(AttemptRow.attempt)
        )
        return [Evidence.model_validate(row) for row in rows]


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 120.0) -> None:
    """Poll until the condition holds; the deadline is for a hang, never for speed."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.02)
