"""Finds the parts of packs that artifacts and statements reference, and moves parts to new packs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import (
    Connection,
    Engine,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    null,
    select,
    union_all,
    update,
)

from db import leads
from db.tables import ArtifactRow, JobRow, StatementRow, job_is
from jobs.errors import TransientError
from jobs.job import JobStatus


@dataclass(frozen=True, slots=True)
class References:
    """The number and the total size of the parts of a pack that rows reference."""

    num_parts: int
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencedPart:
    """A part of a pack that a row references."""

    job_id: UUID
    custom_id: str
    name: str | None
    """Name of the artifact; None for the job's statement."""
    number: int
    """Number of the artifact among those of the job, from 0; 0 for the statement."""
    object_key: str
    byte_offset: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Move:
    """A part whose bytes are now also in another pack, with its key and offset there."""

    part: ReferencedPart
    object_key: str
    byte_offset: int


class SweepUnderWayError(TransientError):
    """Another sweep is running, or has taken over from this one."""

    code = "sweep_under_way"

    def __init__(self) -> None:
        """Create the error with its message."""
        super().__init__("another sweep of this store is running: wait until it has ended")


def oldest_claim_age(database: Engine) -> timedelta:
    """Return the time since the oldest claim of a job that is running; zero if none is running."""
    age = func.clock_timestamp() - func.min(JobRow.started_at)
    with database.connect() as connection:
        oldest: timedelta | None = connection.scalar(select(age).where(job_is(JobStatus.RUNNING)))
    return oldest or timedelta()


def pack_references(database: Engine, keys: Collection[str]) -> dict[str, References]:
    """Return the number and the total size of the referenced parts of each pack; packs without references are
    left out."""
    every = union_all(
        select(ArtifactRow.object_key, ArtifactRow.num_bytes).where(ArtifactRow.object_key.in_(keys)),
        select(StatementRow.object_key, func.octet_length(StatementRow.body)).where(
            StatementRow.object_key.in_(keys)
        ),
    ).subquery()
    key, num_bytes = every.c
    totals = select(key, func.count(), func.sum(num_bytes)).group_by(key)
    with database.connect() as connection:
        return {row[0]: References(row[1], int(row[2])) for row in connection.execute(totals)}


def referenced_parts(database: Engine, key: str) -> list[ReferencedPart]:
    """Return the parts of a pack that rows reference, in the order in which they are in the pack."""
    artifacts = select(
        ArtifactRow.job_id,
        JobRow.custom_id,
        ArtifactRow.name,
        ArtifactRow.number,
        ArtifactRow.object_key,
        ArtifactRow.byte_offset,
        ArtifactRow.num_bytes,
        ArtifactRow.sha256,
    ).join(JobRow, JobRow.id == ArtifactRow.job_id)
    statements = select(
        StatementRow.job_id,
        JobRow.custom_id,
        cast(null(), Text).label("name"),
        literal_column("0").label("number"),
        StatementRow.object_key,
        StatementRow.byte_offset,
        func.octet_length(StatementRow.body).label("num_bytes"),
        StatementRow.sha256,
    ).join(JobRow, JobRow.id == StatementRow.job_id)
    every = union_all(
        artifacts.where(ArtifactRow.object_key == key, ArtifactRow.byte_offset.is_not(None)),
        statements.where(StatementRow.object_key == key, StatementRow.byte_offset.is_not(None)),
    ).order_by("byte_offset")
    with database.connect() as connection:
        return [ReferencedPart(**row) for row in connection.execute(every).mappings()]


def move_parts(database: Engine, moves: Sequence[Move], *, fence: int) -> int:
    """Make the rows reference the new places, in one transaction; return how many rows were changed.

    Rows that were deleted, or whose job is being deleted, are skipped. Raises SweepUnderWayError if
    `fence` is no longer the fence of the leading sweep, because another sweep may have deleted the new pack.
    """
    with database.begin() as connection:
        if not leads.is_current(connection, leads.SWEEP, fence):
            raise SweepUnderWayError
        kept = _lock_jobs(connection, {move.part.job_id for move in moves})
        of_kept = [move for move in moves if move.part.job_id in kept]
        return _move(
            connection,
            ArtifactRow,
            (move for move in of_kept if move.part.name is not None),
        ) + _move(connection, StatementRow, (move for move in of_kept if move.part.name is None))


def _lock_jobs(connection: Connection, ids: Collection[UUID]) -> set[UUID]:
    """Protect the jobs from deletion, and return the ids of those that are protected.

    Jobs that are already being deleted are skipped. Waiting for them could deadlock with the deletion of
    their batch.
    """
    statement = (
        select(JobRow.id)
        .where(JobRow.id.in_(ids))
        .with_for_update(read=True, key_share=True, skip_locked=True)
    )
    return set(connection.scalars(statement))


def _move(
    connection: Connection, table: type[ArtifactRow] | type[StatementRow], moves: Iterable[Move]
) -> int:
    statement = (
        update(table)
        .where(
            table.job_id == bindparam("job"),
            table.object_key == bindparam("old_key"),
            table.byte_offset == bindparam("old_offset"),
        )
        .values(object_key=bindparam("new_key"), byte_offset=bindparam("new_offset"))
    )
    rows = [
        {
            "job": move.part.job_id,
            "old_key": move.part.object_key,
            "old_offset": move.part.byte_offset,
            "new_key": move.object_key,
            "new_offset": move.byte_offset,
        }
        for move in moves
    ]
    return connection.execute(statement, rows).rowcount if rows else 0
