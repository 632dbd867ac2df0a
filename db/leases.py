"""Leases: how a worker claims, renews and gives back jobs.

A claim is a lease by the database's clock, with the attempt number as its fence. A worker's later writes take
effect only while the job is still running under that attempt, so a worker that lost the job changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    bindparam,
    cast,
    column,
    false,
    func,
    insert,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from db.tables import AttemptRow, BatchRow, JobRow, StageRow, job_is
from db.totals import note_first_claim
from jobs.job import AttemptOutcome, ClaimedJob, JobStatus, job_seed
from jobs.losses import Cause, Ending


def claim(
    database: Engine,
    job_ids: Sequence[UUID],
    *,
    alone: bool,
    worker_id: str,
    celery_task_id: str,
    lease_seconds: float,
) -> list[ClaimedJob]:
    """Claim those of the jobs that are queued and due, in one statement; return the claimed jobs.

    `alone` means that the worker has nothing else in flight and takes nothing else until these jobs have
    ended; parked jobs are then skipped. Otherwise, jobs that became suspects after the message was sent are
    skipped.
    """
    picked = (
        select(JobRow.id)
        .where(
            JobRow.id.in_(job_ids),
            JobRow.status == JobStatus.QUEUED,
            JobRow.available_at <= func.now(),
            JobRow.parked_at.is_(None) if alone else JobRow.suspect_group.is_(None),
        )
        .order_by(JobRow.position)
        .with_for_update(skip_locked=True)
        .cte("picked")
    )
    claimed = (
        update(JobRow)
        .where(
            JobRow.id == picked.c.id,
            BatchRow.id == JobRow.batch_id,
            StageRow.batch_id == JobRow.batch_id,
            StageRow.number == JobRow.stage,
        )
        .values(
            status=JobStatus.RUNNING,
            attempt=JobRow.attempt + 1,
            worker_id=worker_id,
            sent_at=None,
            started_at=func.clock_timestamp(),
            lease_expires_at=func.clock_timestamp() + timedelta(seconds=lease_seconds),
        )
        .returning(
            JobRow.id,
            JobRow.batch_id,
            JobRow.custom_id,
            JobRow.payload,
            JobRow.attempt,
            JobRow.num_failures,
            JobRow.queued_at,
            JobRow.position,
            BatchRow.kind,
            StageRow.name.label("stage"),
            BatchRow.model,
            BatchRow.settings,
            BatchRow.seed,
            BatchRow.max_attempts,
            BatchRow.first_claim_at,
            func.extract("epoch", BatchRow.deadline_at - func.now()).label("seconds_to_deadline"),
        )
        .cte("claimed")
    )
    is_single = select(func.count() == 1).select_from(claimed).scalar_subquery()
    recorded = (
        insert(AttemptRow)
        .from_select(
            ["job_id", "attempt", "worker_id", "celery_task_id", "outcome", "alone"],
            select(
                claimed.c.id,
                claimed.c.attempt,
                bindparam("worker", worker_id),
                bindparam("task", celery_task_id),
                bindparam("outcome", AttemptOutcome.RUNNING, type_=AttemptRow.outcome.type),
                is_single if alone else false(),
            ),
        )
        .cte("recorded")
    )
    statement = select(claimed).add_cte(recorded).order_by(claimed.c.position)
    with database.begin() as connection:
        rows = connection.execute(statement).mappings().all()
        note_first_claim(connection, {row["batch_id"] for row in rows if row["first_claim_at"] is None})
    return [_claimed_job(row) for row in rows]


def _claimed_job(row: RowMapping) -> ClaimedJob:
    seconds = row["seconds_to_deadline"]
    return ClaimedJob(
        id=row["id"],
        batch_id=row["batch_id"],
        kind=row["kind"],
        stage=row["stage"],
        custom_id=row["custom_id"],
        payload=row["payload"],
        settings=row["settings"],
        model=row["model"],
        seed=job_seed(row["seed"], row["custom_id"]),
        queued_at=row["queued_at"],
        attempt=row["attempt"],
        num_failures=row["num_failures"],
        max_attempts=row["max_attempts"],
        seconds_to_deadline=None if seconds is None else float(seconds),
    )


def renew(database: Engine, held: Mapping[UUID, int], *, lease_seconds: float) -> set[UUID]:
    """Extend the leases of these jobs (id -> attempt); return the ids of the jobs whose lease is lost.

    A job whose outcome this worker is committing at the same time is neither renewed nor counted as lost.
    """
    if not held:
        return set()
    ours = (JobRow.status == JobStatus.RUNNING) & tuple_(JobRow.id, JobRow.attempt).in_(held.items())
    with database.begin() as connection:
        still_ours = connection.scalars(select(JobRow.id).where(ours)).all()
        renewable = select(JobRow.id).where(ours).with_for_update(skip_locked=True).cte("renewable")
        connection.execute(
            update(JobRow)
            .where(JobRow.id == renewable.c.id)
            .values(lease_expires_at=func.clock_timestamp() + timedelta(seconds=lease_seconds))
        )
    return held.keys() - set(still_ours)


def note_survival(database: Engine, lost: Mapping[UUID, int]) -> None:
    """Record as evidence that the process was alive when it lost these leases (id -> attempt)."""
    if not lost:
        return
    lease_lost = Ending(cause=Cause.LEASE_LOST).model_dump(mode="json")
    with database.begin() as connection:
        amend_evidence(
            connection, tuple_(AttemptRow.job_id, AttemptRow.attempt).in_(lost.items()), lease_lost
        )


def amend_evidence(connection: Connection, which: ColumnElement[bool], ending: Mapping[str, object]) -> int:
    """Add a worker's ending to the evidence of lost attempts that contains none yet; return how many."""
    amended = connection.execute(
        update(AttemptRow)
        .where(
            which,
            AttemptRow.outcome == literal(AttemptOutcome.LOST, AttemptRow.outcome.type, literal_execute=True),
            AttemptRow.evidence["cause"].astext == Cause.NO_WORD.value,
        )
        .values(evidence=AttemptRow.evidence.concat(cast(dict(ending), JSONB)))
    )
    return amended.rowcount


def give_back(database: Engine, held: Mapping[UUID, int]) -> int:
    """Requeue unfinished jobs (id -> attempt) without counting a failure; return how many were still held."""
    with database.begin() as connection:
        ours = lock_held(connection, held)
        given_back = (
            update(JobRow)
            .where(JobRow.id.in_(ours))
            .values(status=JobStatus.QUEUED, sent_at=None, worker_id=None, lease_expires_at=None)
            .returning(JobRow.id, JobRow.attempt)
            .cte("given_back")
        )
        connection.execute(
            select(given_back.c.id).add_cte(ending_attempts(given_back, AttemptOutcome.GIVEN_BACK))
        )
    return len(ours)


def end_open_jobs(
    connection: Connection,
    which: ColumnElement[bool],
    *,
    status: JobStatus,
    error_code: str | None,
    error_message: str | None,
    limit: int,
) -> int:
    """Set a final status for up to `limit` queued or running jobs; return for how many."""
    still_open = job_is(JobStatus.QUEUED, JobStatus.RUNNING)
    # Queued jobs come first, as in the index. Only the few running jobs may end before they are locked.
    picked = connection.scalars(
        select(JobRow.id).where(which, still_open).order_by(JobRow.status).limit(limit)
    ).all()
    locked = connection.scalars(
        select(JobRow.id)
        .where(JobRow.id.in_(picked), still_open)
        .order_by(JobRow.id)  # group commits lock in the same order, so the two cannot deadlock
        .with_for_update()
    ).all()
    ended = (
        update(JobRow)
        .where(JobRow.id.in_(locked))
        .values(
            status=status,
            finished_at=func.clock_timestamp(),
            sent_at=None,
            lease_expires_at=None,
            error_code=error_code,
            error_message=error_message,
        )
        .returning(JobRow.id, JobRow.attempt)
        .cte("ended")
    )
    connection.execute(select(ended.c.id).add_cte(ending_attempts(ended, AttemptOutcome.ENDED)))
    return len(locked)


def ending_attempts(jobs: CTE, outcome: AttemptOutcome) -> CTE:
    """Return a common table expression that ends the running attempts of these jobs."""
    return (
        update(AttemptRow)
        .where(
            AttemptRow.job_id == jobs.c.id,
            AttemptRow.attempt == jobs.c.attempt,
            AttemptRow.outcome == AttemptOutcome.RUNNING,
        )
        .values(outcome=outcome, ended_at=func.clock_timestamp())
        .cte("ended_attempts")
    )


def lock_held(connection: Connection, held: Mapping[UUID, int]) -> set[UUID]:
    """Lock the rows of these jobs (id -> attempt); return the ids of those that are still held.

    Rows are locked in the order of their ids, so that two group commits cannot deadlock.
    """
    rows = connection.execute(
        select(JobRow.id, JobRow.attempt)
        .where(JobRow.id.in_(held), JobRow.status == JobStatus.RUNNING)
        .order_by(JobRow.id)
        .with_for_update()
    )
    return {row.id for row in rows if held[row.id] == row.attempt}


def end_attempts(
    connection: Connection, attempts: Sequence[tuple[UUID, int]], outcome: AttemptOutcome
) -> None:
    """End these attempts (job id and attempt) in one statement, which Postgres plans once."""
    pairs = (
        func.unnest(
            cast([job_id for job_id, _ in attempts], ARRAY(AttemptRow.job_id.type)),
            cast([number for _, number in attempts], ARRAY(AttemptRow.attempt.type)),
        )
        .table_valued(column("job_id", AttemptRow.job_id.type), column("attempt", AttemptRow.attempt.type))
        .render_derived("ended")
    )
    connection.execute(
        update(AttemptRow)
        .where(AttemptRow.job_id == pairs.c.job_id, AttemptRow.attempt == pairs.c.attempt)
        .values(ended_at=func.clock_timestamp(), outcome=outcome)
    )


def report_progress(database: Engine, job_id: UUID, attempt: int, progress: Mapping[str, object]) -> None:
    """Store the latest progress of a running attempt. If the attempt was lost, nothing is stored."""
    with database.begin() as connection:
        connection.execute(
            update(JobRow)
            .where(JobRow.id == job_id, JobRow.attempt == attempt, job_is(JobStatus.RUNNING))
            .values(progress=dict(progress))
        )
