"""Group commit: writes the outcomes of many jobs in one transaction, each only if its fence is still valid.

Results that a kind keeps are written in the same transaction, and so are records for its own tables, by the
writer that the kind names.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Connection,
    Engine,
    Interval,
    TableValuedAlias,
    Text,
    bindparam,
    column,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.sql.expression import cast
from sqlalchemy.types import TypeEngine

from db.kept import JobResults, write_kept
from db.leases import end_attempts, lock_held
from db.tables import ArtifactRow, AttemptRow, Base, JobRow, StatementRow
from db.totals import add_results
from jobs.errors import PermanentError
from jobs.inference import Usage
from jobs.job import AttemptOutcome, ClaimedJob, JobStatus
from jobs.kept import Kept
from jobs.registry import load_kind, load_target


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredArtifact:
    """An artifact whose bytes are in the store, as an object or as a part of a pack."""

    name: str
    object_key: str
    byte_offset: int | None = None
    """Offset of the artifact in its pack; None if it is stored as a separate object."""
    sha256: str
    num_bytes: int
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredStatement:
    """A provenance statement whose bytes are in the store, as an object or as a part of a pack."""

    body: bytes
    sha256: str
    object_key: str
    byte_offset: int | None = None
    """Offset of the statement in its pack; None if it is stored as a separate object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """The outcome of an attempt that succeeded. Its artifacts and statement are stored."""

    job: ClaimedJob
    artifacts: tuple[StoredArtifact, ...]
    statement: StoredStatement
    metrics: Mapping[str, object]
    output: str | None = None
    """Output for later stages, as JSON; see jobs.outputs."""
    usage: Usage
    records: tuple[object, ...] = ()
    kept: tuple[Kept, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The outcome of an attempt in which the job raised an error."""

    job: ClaimedJob
    status: JobStatus
    """Next status of the job: QUEUED if it is tried again, otherwise FAILED or EXPIRED."""
    error_code: str
    error_message: str
    retry_after_seconds: float = 0.0


Outcome = Success | Failure


def commit(database: Engine, outcomes: Sequence[Outcome]) -> list[UUID]:
    """Write the outcomes whose fence is still valid, in one transaction; return the ids of their jobs."""
    # A worker that lost a job and claimed it again may commit both attempts at once. The later one counts.
    by_id = {outcome.job.id: outcome for outcome in sorted(outcomes, key=lambda outcome: outcome.job.attempt)}
    with database.begin() as connection:
        ours = lock_held(connection, {job_id: outcome.job.attempt for job_id, outcome in by_id.items()})
        successes = [o for o in by_id.values() if isinstance(o, Success) and o.job.id in ours]
        failures = [o for o in by_id.values() if isinstance(o, Failure) and o.job.id in ours]
        if successes:
            _write_successes(connection, successes)
            write_kept(connection, (_kept_results(success) for success in successes if success.kept))
            write_records(
                connection, ((s.job.kind, s.job.id, record) for s in successes for record in s.records)
            )
        if failures:
            _write_failures(connection, failures)
        _count(connection, successes, failures)
    return list(ours)


def _kept_results(success: Success) -> JobResults:
    return JobResults(
        kind=success.job.kind,
        job_id=success.job.id,
        statement_sha256=success.statement.sha256,
        num_new_tokens=success.usage.new_tokens,
        results=success.kept,
    )


def _count(connection: Connection, successes: Sequence[Success], failures: Sequence[Failure]) -> None:
    numbers: defaultdict[UUID, Counter[JobStatus]] = defaultdict(Counter)
    usage: defaultdict[UUID, Usage] = defaultdict(Usage)
    for success in successes:
        numbers[success.job.batch_id][JobStatus.SUCCEEDED] += 1
        usage[success.job.batch_id] += success.usage
    for failure in failures:
        if failure.status.is_final:
            numbers[failure.job.batch_id][failure.status] += 1
    add_results(connection, {batch_id: (final, usage[batch_id]) for batch_id, final in numbers.items()})


def _write_successes(connection: Connection, successes: Sequence[Success]) -> None:
    """Write the jobs, artifacts, statements and attempts of the successes, each with one statement."""
    _update_jobs(connection, successes)
    _insert_artifacts(connection, successes)
    _insert_statements(connection, successes)
    end_attempts(connection, [(s.job.id, s.job.attempt) for s in successes], AttemptOutcome.SUCCEEDED)


def _update_jobs(connection: Connection, successes: Sequence[Success]) -> None:
    done = _unnested(
        {
            "job_id": JobRow.id.type,
            "metrics": JobRow.metrics.type,
            "output": Text(),
            "prompt": JobRow.prompt_tokens.type,
            "cached": JobRow.cached_tokens.type,
            "new": JobRow.new_tokens.type,
        },
        [
            (
                success.job.id,
                dict(success.metrics),
                success.output,
                success.usage.prompt_tokens,
                success.usage.cached_tokens,
                success.usage.new_tokens,
            )
            for success in successes
        ],
    )
    connection.execute(
        update(JobRow)
        .where(JobRow.id == done.c.job_id)
        .values(
            status=JobStatus.SUCCEEDED,
            finished_at=func.clock_timestamp(),
            lease_expires_at=None,
            error_code=None,
            error_message=None,
            metrics=done.c.metrics,
            output=cast(done.c.output, JSONB),
            prompt_tokens=done.c.prompt,
            cached_tokens=done.c.cached,
            new_tokens=done.c.new,
        )
    )


def _insert_artifacts(connection: Connection, successes: Sequence[Success]) -> None:
    _insert(
        connection,
        ArtifactRow,
        ("job_id", "number", "name", "object_key", "byte_offset", "sha256", "num_bytes", "media_type"),
        [
            (
                success.job.id,
                number,
                artifact.name,
                artifact.object_key,
                artifact.byte_offset,
                artifact.sha256,
                artifact.num_bytes,
                artifact.media_type,
            )
            for success in successes
            for number, artifact in enumerate(success.artifacts)
        ],
    )


def _insert_statements(connection: Connection, successes: Sequence[Success]) -> None:
    _insert(
        connection,
        StatementRow,
        ("job_id", "body", "sha256", "object_key", "byte_offset"),
        [
            (
                success.job.id,
                success.statement.body,
                success.statement.sha256,
                success.statement.object_key,
                success.statement.byte_offset,
            )
            for success in successes
        ],
    )


def _insert(
    connection: Connection, table: type[Base], names: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    """Insert rows with values for these columns, in one statement."""
    columns = table.__table__.c
    unnested = _unnested({name: columns[name].type for name in names}, rows)
    connection.execute(insert(table).from_select(names, select(*unnested.c)))


def _unnested(types: Mapping[str, TypeEngine[Any]], rows: Sequence[Sequence[object]]) -> TableValuedAlias:
    """Return rows as a table with these columns.

    Each column is sent as one array, so that Postgres parses and plans a statement once for all rows.
    """
    columns = zip(*rows, strict=True) if rows else ([] for _ in types)
    arrays = [
        cast(literal(list(values), ARRAY(type_)), ARRAY(type_))
        for values, type_ in zip(columns, types.values(), strict=True)
    ]
    table = func.unnest(*arrays).table_valued(*(column(name, type_) for name, type_ in types.items()))
    return table.render_derived("unnested")


def _write_failures(connection: Connection, failures: Sequence[Failure]) -> None:
    for final in (True, False):
        some = [failure for failure in failures if failure.status.is_final is final]
        if not some:
            continue
        connection.execute(
            update(JobRow)
            .where(JobRow.id == bindparam("job_id"))
            .values(
                status=bindparam("new_status", type_=JobRow.status.type),
                num_failures=JobRow.num_failures + 1,
                suspect_group=None,  # an attempt that ends without a loss clears earlier losses
                cleared_attempt=JobRow.attempt,
                sent_at=None,
                lease_expires_at=None,
                finished_at=func.clock_timestamp() if final else None,
                available_at=func.clock_timestamp() + cast(bindparam("retry_after"), Interval()),
                error_code=bindparam("code"),
                error_message=bindparam("message"),
            ),
            [
                {
                    "job_id": failure.job.id,
                    "new_status": failure.status,
                    "retry_after": timedelta(seconds=failure.retry_after_seconds),
                    "code": failure.error_code,
                    "message": failure.error_message,
                }
                for failure in some
            ],
        )
    connection.execute(
        update(AttemptRow)
        .where(AttemptRow.job_id == bindparam("job"), AttemptRow.attempt == bindparam("number"))
        .values(
            ended_at=func.clock_timestamp(),
            outcome=AttemptOutcome.FAILED,
            error_code=bindparam("code"),
            error_message=bindparam("message"),
        ),
        [
            {
                "job": failure.job.id,
                "number": failure.job.attempt,
                "code": failure.error_code,
                "message": failure.error_message,
            }
            for failure in failures
        ],
    )


RecordWriter = Callable[[Connection, Sequence[tuple[UUID, object]]], None]
"""Function that writes records of one kind, each given with the id of its job.

Many transactions call it at the same time, so it must always lock rows in the same order.
"""


class RecordsWithoutWriterError(PermanentError):
    """A job produced records, but its kind does not name a writer for them."""

    code = "records_without_writer"


def writer_of(kind_name: str) -> RecordWriter:
    """Return the writer of this kind's records. Raises RecordsWithoutWriterError."""
    tables = load_kind(kind_name).tables
    if tables is None or tables.writer is None:
        raise RecordsWithoutWriterError(
            f"a job of the kind {kind_name!r} returned records, but the kind has no writer for them: name "
            "one in its `tables`"
        )
    writer: RecordWriter = load_target(tables.writer)
    return writer


def write_records(connection: Connection, records: Iterable[tuple[str, UUID, object]]) -> None:
    """Write records, each given with the name of its kind and the id of its job.

    The records are written in the order of the kinds' names, so that no two transactions deadlock.
    """
    by_kind: defaultdict[str, list[tuple[UUID, object]]] = defaultdict(list)
    for kind_name, job_id, record in records:
        by_kind[kind_name].append((job_id, record))
    for kind_name in sorted(by_kind):
        writer_of(kind_name)(connection, by_kind[kind_name])
