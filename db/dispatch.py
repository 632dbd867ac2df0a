"""Selects the queued jobs that the dispatcher sends to workers, and finds jobs whose message was lost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Connection, Engine, func, select, text, update
from sqlalchemy.exc import DBAPIError, OperationalError

from db.session import is_pooled
from db.stages import JOBS_QUEUED
from db.tables import BatchRow, JobRow, WorkerRow, job_is
from jobs.batch import BatchStatus
from jobs.job import JobStatus

SESSION_NAME = "pressroom-dispatcher"
"""Application name of the dispatcher's connections, as Postgres shows it."""

POOLED_WAIT_SECONDS = 0.2
"""Delay in seconds between two polls behind a connection pooler, which does not pass on notifications."""

MAX_GROUP_JOBS = 1000
"""Maximum number of suspects in one message. The rest of a larger group is sent after these jobs have
ended."""

ALIVE_SECONDS = 60
"""Maximum time in seconds since a worker's last heartbeat for the worker to count as alive. Workers send a
heartbeat every few seconds."""


@dataclass(frozen=True, slots=True)
class Demand:
    """A running batch, with the numbers of its jobs that are sent or could be sent."""

    batch_id: UUID
    tenant: str
    priority: int
    deadline_at: datetime | None
    num_sent: int
    """Number of jobs that were sent in a message and that no worker has claimed yet."""
    num_unsent: int
    """Number of jobs that could be sent now, counted up to the `limit` given to `demands`."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """Total capacity of the live workers of a profile."""

    num_workers: int
    max_jobs_in_flight: int


class JobListener:
    """Waits for new jobs by means of Postgres' LISTEN. Only one thread may use it.

    Behind a pooler, where a LISTEN would be lost, it only sleeps for a moment. Nothing relies on its
    notifications, because the next poll finds any jobs that were missed.
    """

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._session: Connection | None = None

    def wait(self, at_most_seconds: float) -> None:
        """Wait until jobs are queued, but at most this long.

        It returns at once if jobs were queued since the last call. Raises DBAPIError.
        """
        if is_pooled(self._database):
            time.sleep(min(at_most_seconds, POOLED_WAIT_SECONDS))
            return
        try:
            for _ in self._listening().notifies(timeout=at_most_seconds, stop_after=1):
                pass
        except psycopg.Error as error:  # psycopg raises its own errors here, but callers expect SQLAlchemy's
            self.close()
            raise OperationalError("LISTEN", None, error) from error

    def _listening(self) -> psycopg.Connection[Any]:
        if self._session is None:
            session = self._database.connect().execution_options(isolation_level="AUTOCOMMIT")
            session.detach()  # takes it out of the pool, where it would go on listening
            self._session = session
            session.execute(text(f"LISTEN {JOBS_QUEUED}"))
        raw = self._session.connection.dbapi_connection  # driver_connection is unset once detached
        if not isinstance(raw, psycopg.Connection):
            raise RuntimeError("the connection was closed while waiting for jobs")
        return raw

    def close(self) -> None:
        """Stop listening. The next call to `wait` starts listening again."""
        session, self._session = self._session, None
        if session is not None:
            with suppress(DBAPIError):  # the session may be dead already
                session.close()


def running_profiles(database: Engine) -> list[str]:
    """Return the profiles of the running batches, sorted."""
    with database.connect() as connection:
        rows = connection.scalars(
            select(BatchRow.profile).where(BatchRow.status == BatchStatus.RUNNING).distinct()
        )
        return sorted(rows)


def capacity(database: Engine, profile: str) -> Capacity:
    """Return how many workers of the profile are alive, and how many jobs they can hold."""
    with database.connect() as connection:
        row = connection.execute(
            select(func.count(), func.coalesce(func.sum(WorkerRow.max_jobs_in_flight), 0)).where(
                WorkerRow.profile == profile,
                WorkerRow.ready_at.is_not(None),
                WorkerRow.stopped_at.is_(None),
                WorkerRow.ended_at.is_(None),
                WorkerRow.seen_at > func.now() - timedelta(seconds=ALIVE_SECONDS),
            )
        ).one()
    return Capacity(row[0], row[1])


def num_ended(database: Engine, profile: str) -> int:
    """Return how many jobs of the profile's running batches have succeeded or failed so far."""
    with database.connect() as connection:
        number = connection.scalar(
            select(func.sum(BatchRow.num_succeeded + BatchRow.num_failed)).where(
                BatchRow.profile == profile, BatchRow.status == BatchStatus.RUNNING
            )
        )
    return int(number or 0)


def demands(database: Engine, profile: str, *, limit: int) -> list[Demand]:
    """Return the demand of each running batch of the profile, highest priority first.

    Unsent jobs are counted up to `limit` only.
    """
    queued = (JobRow.batch_id == BatchRow.id) & job_is(JobStatus.QUEUED)
    unsent = (
        select(JobRow.id)
        .where(
            queued,
            JobRow.sent_at.is_(None),
            JobRow.available_at <= func.now(),
            JobRow.suspect_group.is_(None),
        )
        .order_by(
            JobRow.prefix_group, JobRow.position
        )  # the index's order, so that Postgres reads the index and not the table
        .limit(limit)
        .correlate(BatchRow)
        .subquery()
    )
    sent = select(JobRow.id).where(queued, JobRow.sent_at.is_not(None)).correlate(BatchRow).subquery()
    num_unsent = select(func.count()).select_from(unsent).scalar_subquery()
    num_sent = select(func.count()).select_from(sent).scalar_subquery()
    statement = (
        select(
            BatchRow.id,
            BatchRow.tenant,
            BatchRow.priority,
            BatchRow.deadline_at,
            num_sent.label("num_sent"),
            num_unsent.label("num_unsent"),
        )
        .where(
            BatchRow.profile == profile,
            BatchRow.status == BatchStatus.RUNNING,
            BatchRow.deadline_at.is_(None) | (BatchRow.deadline_at > func.now()),
        )
        .order_by(BatchRow.priority.desc(), BatchRow.deadline_at.nulls_last(), BatchRow.created_at)
    )
    with database.connect() as connection:
        return [
            Demand(row.id, row.tenant, row.priority, row.deadline_at, row.num_sent, row.num_unsent)
            for row in connection.execute(statement)
        ]


def take(database: Engine, batch_id: UUID, limit: int) -> list[UUID]:
    """Mark up to `limit` of the batch's jobs as sent; return their ids, grouped by prompt prefix.

    Call it before sending the message. If the process crashes in between, the jobs are treated as if the
    message had been lost.
    """
    picked = (
        select(JobRow.id, JobRow.prefix_group, JobRow.position)
        .where(
            JobRow.batch_id == batch_id,
            job_is(JobStatus.QUEUED),
            JobRow.sent_at.is_(None),
            JobRow.available_at <= func.now(),
            JobRow.suspect_group.is_(None),
        )
        .order_by(JobRow.prefix_group, JobRow.position)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("picked")
    )
    marked = (
        update(JobRow)
        .where(JobRow.id == picked.c.id)
        .values(sent_at=func.clock_timestamp())
        .returning(JobRow.id, JobRow.prefix_group, JobRow.position)
        .cte("marked")
    )
    with database.begin() as connection:
        return list(
            connection.scalars(select(marked.c.id).order_by(marked.c.prefix_group, marked.c.position))
        )


def take_suspects(database: Engine, profile: str) -> list[UUID]:
    """Mark the jobs of one of the profile's suspect groups as sent; return their ids.

    Returns no ids while any suspect of the profile is sent or running. If a suspect ends its worker, the
    profile's other workers thus remain for the other jobs.
    """
    of_profile = select(BatchRow.id).where(
        BatchRow.profile == profile, BatchRow.status == BatchStatus.RUNNING
    )
    suspect = (
        JobRow.batch_id.in_(of_profile),
        JobRow.suspect_group.is_not(None),
        JobRow.parked_at.is_(None),
        job_is(JobStatus.QUEUED, JobStatus.RUNNING),
    )
    under_way = (
        select(JobRow.id)
        .where(*suspect, (JobRow.status == JobStatus.RUNNING) | JobRow.sent_at.is_not(None))
        .correlate(None)
    )
    waiting = (*suspect, JobRow.status == JobStatus.QUEUED, JobRow.available_at <= func.now())
    group = (
        select(JobRow.suspect_group)
        .where(*waiting, ~under_way.exists())
        .order_by(JobRow.suspect_group)
        .limit(1)
        .correlate(None)
        .scalar_subquery()
    )
    picked = (
        select(JobRow.id)
        .where(*waiting, JobRow.suspect_group == group)
        .limit(MAX_GROUP_JOBS)
        .with_for_update(skip_locked=True)
        .cte("picked")
    )
    with database.begin() as connection:
        return list(
            connection.scalars(
                update(JobRow)
                .where(JobRow.id == picked.c.id)
                .values(sent_at=func.clock_timestamp())
                .returning(JobRow.id)
            )
        )


def unsend(database: Engine, job_ids: Sequence[UUID]) -> None:
    """Mark these jobs as unsent, because the message that names them could not be sent."""
    with database.begin() as connection:
        connection.execute(
            update(JobRow)
            .where(JobRow.id.in_(job_ids), JobRow.status == JobStatus.QUEUED)
            .values(sent_at=None)
        )


def num_sent(database: Engine, profile: str) -> int:
    """Return how many jobs of the profile's running batches were sent and have not been claimed yet."""
    of_profile = select(BatchRow.id).where(
        BatchRow.profile == profile, BatchRow.status == BatchStatus.RUNNING
    )
    sent = (
        select(func.count())
        .select_from(JobRow)
        .where(job_is(JobStatus.QUEUED), JobRow.sent_at.is_not(None), JobRow.batch_id.in_(of_profile))
    )
    with database.connect() as connection:
        return connection.scalar(sent) or 0


def forget_stale(database: Engine, profile: str, *, older_than_seconds: float) -> int:
    """Mark the jobs as unsent that were sent longer ago than this and were never claimed; return how many."""
    of_profile = select(BatchRow.id).where(
        BatchRow.profile == profile, BatchRow.status == BatchStatus.RUNNING
    )
    stale = (
        select(JobRow.id)
        .where(
            job_is(JobStatus.QUEUED),
            JobRow.sent_at < func.now() - timedelta(seconds=older_than_seconds),
            JobRow.batch_id.in_(of_profile),
        )
        .with_for_update(skip_locked=True)  # a locked job is being claimed or ended
        .cte("stale")
    )
    with database.begin() as connection:
        forgotten = connection.execute(
            update(JobRow).where(JobRow.id == stale.c.id).values(sent_at=None).returning(JobRow.id)
        ).all()
    return len(forgotten)
