"""Reads what an export of a monitor's batch needs: artifacts of its stages, and rows of its series."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Engine, RowMapping, Select, Text, cast, select, tuple_

from db.tables import ArtifactRow, JobRow, StageRow, StatementRow
from jobs.job import JobStatus
from jobs.outputs import OutputT, parse_output
from kinds.sentiment.monitor import AlertStatus
from kinds.sentiment.series.policy import Alert
from kinds.sentiment.tables import AlertRow, MentionRow

PAGE_ROWS = 1_000
"""Rows read in one statement; no transaction stays open while a page is written."""


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
    """Artifacts in the order of the job; empty unless it has succeeded."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class MentionRecord:
    """A mention with its position in its chain; see kinds.sentiment.series.mention."""

    entity_id: str
    document_id: str
    published_at: datetime
    relevance: int
    topic: str | None
    p_negative: float
    p_neutral: float
    p_positive: float
    sentence: str
    title: str
    source: str
    novelty: int | None
    first_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRecord:
    """An alert with its status, times and note."""

    alert: Alert
    status: AlertStatus
    raised_at: datetime
    acknowledged_at: datetime | None
    note: str | None

    @property
    def is_standing(self) -> bool:
        """Whether the alert is not withdrawn."""
        return self.status is not AlertStatus.WITHDRAWN


_MENTION = [getattr(MentionRow, name) for name in MentionRecord.__dataclass_fields__]
_ALERT = [getattr(AlertRow, name) for name in Alert.__dataclass_fields__]


def stream_stage(
    database: Engine, batch_id: UUID, stage: str | None = None, *, statuses: Sequence[JobStatus]
) -> Iterator[StageJob]:
    """Yield the jobs of a stage, or of all stages, with these statuses, in order, read in pages."""
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


def stream_mentions(
    database: Engine, monitor_id: UUID, entity_id: str, *, since: datetime
) -> Iterator[MentionRecord]:
    """Yield the entity's mentions in order of time, read in pages."""
    place = tuple_(MentionRow.published_at, MentionRow.document_id)
    statement = (
        select(*_MENTION)
        .where(
            MentionRow.monitor_id == monitor_id,
            MentionRow.entity_id == entity_id,
            MentionRow.published_at >= since,
        )
        .order_by(MentionRow.published_at, MentionRow.document_id)
        .limit(PAGE_ROWS)
    )
    last: tuple[datetime, str] | None = None
    while True:
        with database.connect() as connection:
            page = statement if last is None else statement.where(place > last)
            rows = [MentionRecord(**row) for row in connection.execute(page).mappings()]
        yield from rows
        if len(rows) < PAGE_ROWS:
            return
        last = (rows[-1].published_at, rows[-1].document_id)


def find_mentions(
    database: Engine, monitor_id: UUID, keys: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], MentionRecord]:
    """Return mentions by entity and document."""
    if not keys:
        return {}
    statement = select(*_MENTION).where(
        MentionRow.monitor_id == monitor_id, tuple_(MentionRow.entity_id, MentionRow.document_id).in_(keys)
    )
    with database.connect() as connection:
        found = [MentionRecord(**row) for row in connection.execute(statement).mappings()]
    return {(record.entity_id, record.document_id): record for record in found}


def list_alerts(database: Engine, monitor_id: UUID, *, since: datetime) -> list[AlertRecord]:
    """Return alerts of the monitor's windows from `since` on, including withdrawn ones, the newest first."""
    statement = (
        select(*_ALERT, AlertRow.status, AlertRow.raised_at, AlertRow.acknowledged_at, AlertRow.note)
        .where(AlertRow.monitor_id == monitor_id, AlertRow.starts_at >= since)
        .order_by(AlertRow.starts_at.desc(), AlertRow.key)
    )
    with database.connect() as connection:
        return [_alert(row) for row in connection.execute(statement).mappings()]


def _alert(row: RowMapping) -> AlertRecord:
    fields = {name: row[name] for name in Alert.__dataclass_fields__}
    return AlertRecord(
        alert=Alert(**fields | {"document_ids": tuple(row["document_ids"])}),
        status=row["status"],
        raised_at=row["raised_at"],
        acknowledged_at=row["acknowledged_at"],
        note=row["note"],
    )


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
