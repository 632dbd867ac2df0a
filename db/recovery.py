"""Recovery after a crash: handles expired leases, passed deadlines and interrupted cancellations."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Boolean, Connection, Engine, Row, bindparam, case, func, select, update

from db import ending
from db.batches import finish_cancelled
from db.ending import CANCELLED, EXPIRED, end_jobs
from db.tables import AttemptRow, BatchRow, JobRow, WorkerRow, job_is
from db.totals import add_final
from jobs.batch import BatchStatus
from jobs.job import AttemptOutcome, JobStatus
from jobs.losses import MAX_NEIGHBOURS, Cause, Ending, Evidence, Verdict, judge

REAP_LIMIT = 5_000
"""Maximum number of rows in one reaping transaction, so that it holds locks for well under a second."""


@dataclass(frozen=True, slots=True)
class Reaped:
    """Numbers of jobs whose leases expired, by what happened to the jobs."""

    num_requeued: int
    """Number of requeued jobs, not counting parked ones."""
    num_quarantined: int
    num_parked: int = 0


@dataclass(frozen=True, slots=True)
class _Lost:
    """A job whose lease expired, with the evidence of its losses since it was last cleared."""

    job: Row[*tuple[Any, ...]]
    losses: list[Evidence]


def reap_expired_leases(database: Engine, *, max_crashes: int, max_losses: int = 10) -> Reaped:
    """Requeue, fail or park each job whose lease expired, according to the evidence of its losses.

    A loss does not count as an error of the job, because another job may have ended the worker.
    """
    with database.begin() as connection:
        lost = _lock_expired(connection)
        if not lost:
            return Reaped(0, 0)
        verdicts = {
            one.job.id: judge(one.losses, max_crashes=max_crashes, max_losses=max_losses) for one in lost
        }
        _end_lost_attempts(connection, lost)
        _requeue(connection, lost, _new_groups(lost, verdicts), verdicts)
        _quarantine(connection, [one for one in lost if verdicts[one.job.id] is Verdict.FAIL])
    numbers = Counter(verdicts.values())
    return Reaped(
        numbers[Verdict.REQUEUE] + numbers[Verdict.SUSPECT], numbers[Verdict.FAIL], numbers[Verdict.PARK]
    )


def _lock_expired(connection: Connection) -> list[_Lost]:
    rows = connection.execute(
        select(
            JobRow.id,
            JobRow.attempt,
            JobRow.batch_id,
            JobRow.worker_id,
            JobRow.suspect_group,
            JobRow.cleared_attempt,
            AttemptRow.alone,
            WorkerRow.ending,
        )
        .outerjoin(AttemptRow, (AttemptRow.job_id == JobRow.id) & (AttemptRow.attempt == JobRow.attempt))
        .outerjoin(WorkerRow, WorkerRow.id == JobRow.worker_id)
        .where(job_is(JobStatus.RUNNING), JobRow.lease_expires_at < func.clock_timestamp())
        .order_by(JobRow.worker_id, JobRow.id)  # jobs of one worker are judged as a group
        .limit(REAP_LIMIT)
        .with_for_update(of=JobRow, skip_locked=True)
    ).all()
    by_worker: defaultdict[str | None, list[UUID]] = defaultdict(list)
    for row in rows:
        by_worker[row.worker_id].append(row.id)
    earlier = _earlier_losses(connection, {row.id: row.cleared_attempt for row in rows})
    return [_Lost(row, [*earlier[row.id], _evidence(row, by_worker[row.worker_id])]) for row in rows]


def _earlier_losses(connection: Connection, cleared: Mapping[UUID, int]) -> defaultdict[UUID, list[Evidence]]:
    rows = connection.execute(
        select(AttemptRow.job_id, AttemptRow.attempt, AttemptRow.evidence)
        .where(AttemptRow.job_id.in_(cleared), AttemptRow.outcome == AttemptOutcome.LOST)
        .order_by(AttemptRow.job_id, AttemptRow.attempt)
    )
    losses: defaultdict[UUID, list[Evidence]] = defaultdict(list)
    for row in rows:
        if row.attempt > cleared[row.job_id]:
            kept = row.evidence or {"cause": Cause.NO_WORD}  # an earlier version recorded no evidence
            losses[row.job_id].append(Evidence.model_validate(kept))
    return losses


def _evidence(row: Row[*tuple[Any, ...]], job_ids: Sequence[UUID]) -> Evidence:
    ending = Ending(cause=Cause.NO_WORD) if row.ending is None else Ending.model_validate(row.ending)
    others = islice((job_id for job_id in job_ids if job_id != row.id), MAX_NEIGHBOURS)
    return Evidence(
        **dict(ending),
        alone=bool(row.alone) and len(job_ids) == 1,
        num_in_flight=len(job_ids),
        in_flight=tuple(others),
    )


def _new_groups(lost: Sequence[_Lost], verdicts: Mapping[UUID, Verdict]) -> dict[UUID, UUID]:
    """Split the suspects lost with each worker into two groups; return the group of each job.

    Each crash halves the group of the job that ends its workers, so after a few crashes this job runs alone.
    """
    by_worker: defaultdict[str | None, list[UUID]] = defaultdict(list)
    for one in lost:
        if verdicts[one.job.id] in (Verdict.SUSPECT, Verdict.PARK):
            by_worker[one.job.worker_id].append(one.job.id)
    groups: dict[UUID, UUID] = {}
    for job_ids in by_worker.values():
        half = len(job_ids) // 2
        for part in (job_ids[:half], job_ids[half:]):
            groups |= dict.fromkeys(part, uuid4())
    return groups


def _end_lost_attempts(connection: Connection, lost: Sequence[_Lost]) -> None:
    connection.execute(
        update(AttemptRow)
        .where(
            AttemptRow.job_id == bindparam("job"),
            AttemptRow.attempt == bindparam("number"),
            AttemptRow.outcome == AttemptOutcome.RUNNING,
        )
        .values(
            outcome=AttemptOutcome.LOST, ended_at=func.clock_timestamp(), evidence=bindparam("evidence_json")
        ),
        [
            {
                "job": one.job.id,
                "number": one.job.attempt,
                "evidence_json": one.losses[-1].model_dump(mode="json", exclude_none=True),
            }
            for one in lost
        ],
    )


def _requeue(
    connection: Connection,
    lost: Sequence[_Lost],
    groups: Mapping[UUID, UUID],
    verdicts: Mapping[UUID, Verdict],
) -> None:
    connection.execute(
        update(JobRow)
        .where(JobRow.id == bindparam("job"))
        .values(
            status=JobStatus.QUEUED,
            sent_at=None,
            lease_expires_at=None,
            suspect_group=bindparam("group"),
            parked_at=case((bindparam("is_parked", type_=Boolean()), func.clock_timestamp())),
        ),
        [
            {
                "job": one.job.id,
                "group": groups.get(one.job.id, one.job.suspect_group),
                "is_parked": verdicts[one.job.id] is Verdict.PARK,
            }
            for one in lost
        ],
    )


def _quarantine(connection: Connection, convicted: Sequence[_Lost]) -> None:
    """Fail the jobs that have ended their workers, according to the evidence."""
    if not convicted:
        return
    connection.execute(
        update(JobRow)
        .where(JobRow.id == bindparam("job"))
        .values(
            status=JobStatus.FAILED,
            finished_at=func.clock_timestamp(),
            error_code="quarantined",
            error_message=bindparam("message"),
        ),
        [{"job": one.job.id, "message": _accusation(one)} for one in convicted],
    )
    numbers = Counter(one.job.batch_id for one in convicted)
    add_final(connection, {(batch_id, JobStatus.FAILED): number for batch_id, number in numbers.items()})


def _accusation(lost: _Lost) -> str:
    crashes = [loss for loss in lost.losses if loss.convicts]
    how = "; then ".join(Ending.__str__(loss) for loss in crashes)
    return (
        f"{len(crashes)} workers ended while they ran this job and nothing else ({how}), the last one being "
        f"{lost.job.worker_id}; the job is quarantined. Look at its input and at the worker's log; "
        f"`pressroom show {lost.job.id}` has the evidence, `pressroom retry {lost.job.batch_id} "
        f"{lost.job.id}` runs it again"
    )


def expire_overdue(database: Engine) -> int:
    """Expire some open jobs of each batch whose deadline has passed; return how many."""
    overdue = select(BatchRow.id).where(
        BatchRow.status == BatchStatus.RUNNING, BatchRow.deadline_at < func.now()
    )
    with database.connect() as connection:
        batch_ids = connection.scalars(overdue).all()
    until = time.monotonic() + ending.ROUND_SECONDS
    return sum(end_jobs(database, batch_id, EXPIRED, until=until) for batch_id in batch_ids)


def finish_cancelling(database: Engine) -> int:
    """Cancel some open jobs of each batch whose cancellation was interrupted; return how many."""
    interrupted = select(BatchRow.id).where(
        BatchRow.status == BatchStatus.CANCELLED, BatchRow.finished_at.is_(None)
    )
    with database.connect() as connection:
        batch_ids = connection.scalars(interrupted).all()
    num_cancelled = 0
    until = time.monotonic() + ending.ROUND_SECONDS
    for batch_id in batch_ids:
        num_cancelled += end_jobs(database, batch_id, CANCELLED, until=until)
        finish_cancelled(database, batch_id)
    return num_cancelled


def running_batches(database: Engine) -> list[UUID]:
    """Return the ids of the batches that are running; the caller checks their stages again."""
    with database.connect() as connection:
        return list(connection.scalars(select(BatchRow.id).where(BatchRow.status == BatchStatus.RUNNING)))
