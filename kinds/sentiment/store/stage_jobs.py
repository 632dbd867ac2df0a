"""Reads the jobs of a batch by stage, with their results, for the export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine, RowMapping, Select, Text, cast, select, tuple_

from db.tables import ArtifactRow, JobRow, StageRow, StatementRow
from jobs.job import JobStatus
from jobs.outputs import OutputT, parse_output

PAGE_ROWS = 1_000
"""Number of rows read in one statement; no transaction stays open while a page of rows is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageJob:
    """A job of a stage, with its results."""

    job_id: UUID
    custom_id: str
    stage: str
    status: JobStatus
    attempt: int
    metrics: Mapping[str, object]
    output: str | None
    error_code: str | None
    error_message: str | None
    artifacts: tuple[StoredObject, ...]
    """Artifacts in the order in which the kind returned them; empty unless the job has succeeded."""
    statement: bytes | None

    def read(self, output_type: type[OutputT]) -> OutputT:
        """Return the job's output for later stages. Raises OutputUnfitError."""
        return parse_output(self.output, output_type, stage=self.stage, custom_id=self.custom_id)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An artifact: its name, its object key and its expected digest."""

    name: str
    object_key: str
    sha256: str


def stream_stage(
    database: Engine, batch_id: UUID, stage: str | None = None, *, statuses: Sequence[JobStatus]
) -> Iterator[StageJob]:
    """Yield the jobs with these statuses of a stage, or of all stages, in order; they are read in pages."""
    place = tuple_(JobRow.stage, JobRow.position)
    statement = _jobs(batch_id, statuses)
    if stage is not None:
        statement = statement.where(StageRow.name == stage)
    last = (-1, -1)
    while True:
        page = statement.where(place > last).limit(PAGE_ROWS)
        with database.connect() as connection:
            rows = connection.execute(page).mappings().all()
            made = _artifacts(database, [row["id"] for row in rows])
        for row in rows:
            yield _stage_job(row, made.get(row["id"], ()))
        if len(rows) < PAGE_ROWS:
            return
        last = (rows[-1]["number"], rows[-1]["position"])


def _jobs(batch_id: UUID, statuses: Sequence[JobStatus]) -> Select[*tuple[object, ...]]:
    return (
        select(
            JobRow.id,
            JobRow.custom_id,
            StageRow.number,
            StageRow.name.label("stage"),
            JobRow.position,
            JobRow.status,
            JobRow.attempt,
            JobRow.metrics,
            cast(JobRow.output, Text).label("output"),
            JobRow.error_code,
            JobRow.error_message,
            StatementRow.body.label("statement"),
        )
        .join(StageRow, (StageRow.batch_id == JobRow.batch_id) & (StageRow.number == JobRow.stage))
        .outerjoin(StatementRow, StatementRow.job_id == JobRow.id)
        .where(JobRow.batch_id == batch_id, JobRow.status.in_(statuses))
        .order_by(JobRow.stage, JobRow.position)
    )


def _artifacts(database: Engine, job_ids: Sequence[UUID]) -> dict[UUID, tuple[StoredObject, ...]]:
    statement = (
        select(ArtifactRow.job_id, ArtifactRow.name, ArtifactRow.object_key, ArtifactRow.sha256)
        .where(ArtifactRow.job_id.in_(job_ids))
        .order_by(ArtifactRow.job_id, ArtifactRow.number)
    )
    made: dict[UUID, tuple[StoredObject, ...]] = {}
    with database.connect() as connection:
        for job_id, name, key, sha256 in connection.execute(statement):
            made[job_id] = (*made.get(job_id, ()), StoredObject(name, key, sha256))
    return made


def _stage_job(row: RowMapping, artifacts: tuple[StoredObject, ...]) -> StageJob:
    return StageJob(
        job_id=row["id"],
        custom_id=row["custom_id"],
        stage=row["stage"],
        status=row["status"],
        attempt=row["attempt"],
        metrics=row["metrics"] or {},
        output=row["output"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        artifacts=artifacts,
        statement=row["statement"],
    )
