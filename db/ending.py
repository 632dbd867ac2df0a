"""Ends the open jobs of cancelled and overdue batches in transactions of limited size.

Ending a million jobs in one statement would exceed the statement timeout and hold locks for too long. A
transaction ends the queued jobs of a range of positions, which lie together on disk, and skips those that
others have locked. Running jobs and those that were skipped follow, in transactions that wait for locks.
Every transaction counts what it ends, so whoever continues after an interruption finds exact totals.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Text,
    any_,
    func,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.orm import aliased

from db.leases import end_open_jobs
from db.tables import BatchRow, JobRow, job_is
from db.totals import add_final
from jobs.batch import BatchStatus
from jobs.job import JobStatus

RANGE_JOBS = 5_000
"""Number of positions in a range, so that one transaction holds its locks for about a tenth of a second."""

LOCKED_JOBS = 2_000
"""Maximum number of jobs that one transaction ends if it waits for locks, so that it also holds its own locks
only for a short time."""

ROUND_SECONDS = 0.5
"""Time in seconds after which the reconciler ends only one more range of each batch in a round: half of its
interval, so that jobs are sent in the other half."""

_NOT_QUEUED = tuple(status for status in JobStatus if status is not JobStatus.QUEUED)


@dataclass(frozen=True, slots=True)
class Ending:
    """How the open jobs of a batch end."""

    batch_status: BatchStatus
    """Status that the batch must have. If a user retries the batch, its status differs, and no job is
    ended."""
    status: JobStatus
    error_code: str | None = None
    error_message: str | None = None


CANCELLED = Ending(BatchStatus.CANCELLED, JobStatus.CANCELLED)
EXPIRED = Ending(
    BatchStatus.RUNNING,
    JobStatus.EXPIRED,
    "deadline_exceeded",
    "the batch's deadline passed before this job was finished",
)


def end_jobs(database: Engine, batch_id: UUID, ending: Ending, *, until: float = math.inf) -> int:
    """End open jobs of the batch, by default all of them; return how many.

    It stops after the first transaction that ends after `until`, which is on time.monotonic().
    """
    num_ended = 0
    for number in _endings(database, batch_id, ending):
        num_ended += number
        if time.monotonic() >= until:
            break
    return num_ended


def _endings(database: Engine, batch_id: UUID, ending: Ending) -> Iterator[int]:
    """Yield the number of jobs that each transaction ended."""
    is_progress = True
    while is_progress:
        is_progress = False
        for stage, positions in _queued_ranges(database, batch_id):
            with database.begin() as connection:
                # A range that a crash of Postgres undoes is ended again, as after any other interruption.
                connection.execute(text("SET LOCAL synchronous_commit = off"))
                number = _end_queued(connection, batch_id, stage, positions, ending)
                add_final(connection, {(batch_id, ending.status): number})
            is_progress |= number > 0
            yield number
    number = LOCKED_JOBS
    while number:
        with database.begin() as connection:
            number = end_open_jobs(
                connection,
                (JobRow.batch_id == batch_id) & _still(batch_id, ending),
                status=ending.status,
                error_code=ending.error_code,
                error_message=ending.error_message,
                limit=LOCKED_JOBS,
            )
            add_final(connection, {(batch_id, ending.status): number})
        yield number


def _queued_ranges(database: Engine, batch_id: UUID) -> Iterator[tuple[int, range]]:
    """Yield a stage and ranges of its positions, from the first queued job in the index to the last job."""
    with database.connect() as connection:
        first = connection.execute(
            select(JobRow.stage, JobRow.position)
            .where(JobRow.batch_id == batch_id, job_is(JobStatus.QUEUED))
            .order_by(JobRow.status)  # the index's order, so that no plan reads the table instead
            .limit(1)
        ).one_or_none()
        if first is None:
            return
        last = connection.scalar(
            select(func.max(JobRow.position)).where(JobRow.batch_id == batch_id, JobRow.stage == first.stage)
        )
    for position in range(first.position, (last or 0) + 1, RANGE_JOBS):
        yield first.stage, range(position, position + RANGE_JOBS)


def _end_queued(connection: Connection, batch_id: UUID, stage: int, positions: range, ending: Ending) -> int:
    """End the queued jobs at these positions that are not locked by others; return how many.

    Attempts need no change, because a queued job has no running attempt.
    """
    queued = aliased(JobRow, name="queued")
    places = (
        select(literal_column("queued.ctid", Text()))
        .select_from(queued)
        .where(
            queued.batch_id == batch_id,
            queued.stage == stage,
            queued.position >= positions.start,
            queued.position < positions.stop,
            # Written so that Postgres cannot use a partial index, which it would read whole for every range.
            queued.status.not_in(_NOT_QUEUED),
            _still(batch_id, ending),
        )
        .with_for_update(of=queued, skip_locked=True)
    )
    ended = connection.execute(
        update(JobRow)
        .where(literal_column("jobs.ctid") == any_(func.array(places.scalar_subquery())))
        .values(
            status=ending.status,
            finished_at=func.clock_timestamp(),
            sent_at=None,
            error_code=ending.error_code,
            error_message=ending.error_message,
        )
    )
    return ended.rowcount


def _still(batch_id: UUID, ending: Ending) -> ColumnElement[bool]:
    """Return the condition that the batch has not been reopened in the meantime."""
    still = (BatchRow.id == batch_id) & (BatchRow.status == ending.batch_status)
    if ending.status is JobStatus.EXPIRED:
        still &= BatchRow.deadline_at < func.now()  # a retry lifts the deadline
    return select(BatchRow.id).where(still).correlate(None).exists()
