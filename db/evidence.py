"""Reads from Postgres what jobs produced, so that exports from the store can be checked against it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine, select

from db.outcomes import StoredArtifact, StoredStatement
from db.tables import ArtifactRow, BatchRow, JobRow, StatementRow
from jobs.inference import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvidence:
    """What Postgres stores about one job. The job's statement must agree with it."""

    job_id: UUID
    batch_id: UUID
    custom_id: str
    kind: str
    attempt: int
    usage: Usage
    artifacts: tuple[StoredArtifact, ...]
    """Artifacts in the order in which the kind returned them."""
    statement: StoredStatement | None


def job_evidence(database: Engine, job_ids: Collection[UUID]) -> dict[UUID, JobEvidence]:
    """Return the evidence for each job id; a job that does not exist is left out."""
    jobs = (
        select(
            JobRow.id,
            JobRow.batch_id,
            JobRow.custom_id,
            BatchRow.kind,
            JobRow.attempt,
            JobRow.prompt_tokens,
            JobRow.cached_tokens,
            JobRow.new_tokens,
            StatementRow.body,
            StatementRow.sha256,
            StatementRow.object_key,
            StatementRow.byte_offset,
        )
        .join(BatchRow, BatchRow.id == JobRow.batch_id)
        .outerjoin(StatementRow, StatementRow.job_id == JobRow.id)
        .where(JobRow.id.in_(job_ids))
    )
    artifacts = (
        select(ArtifactRow)
        .where(ArtifactRow.job_id.in_(job_ids))
        .order_by(ArtifactRow.job_id, ArtifactRow.number)
        .with_only_columns(*_ARTIFACT)
    )
    made: defaultdict[UUID, list[StoredArtifact]] = defaultdict(list)
    with database.connect() as connection:
        rows = connection.execute(jobs).all()
        for artifact in connection.execute(artifacts):
            made[artifact.job_id].append(
                StoredArtifact(
                    name=artifact.name,
                    object_key=artifact.object_key,
                    byte_offset=artifact.byte_offset,
                    sha256=artifact.sha256,
                    num_bytes=artifact.num_bytes,
                    media_type=artifact.media_type,
                )
            )
    return {
        row.id: JobEvidence(
            job_id=row.id,
            batch_id=row.batch_id,
            custom_id=row.custom_id,
            kind=row.kind,
            attempt=row.attempt,
            usage=Usage(row.prompt_tokens, row.cached_tokens, row.new_tokens),
            artifacts=tuple(made[row.id]),
            statement=None
            if row.body is None
            else StoredStatement(
                body=row.body, sha256=row.sha256, object_key=row.object_key, byte_offset=row.byte_offset
            ),
        )
        for row in rows
    }


_ARTIFACT = (
    ArtifactRow.job_id,
    ArtifactRow.name,
    ArtifactRow.object_key,
    ArtifactRow.byte_offset,
    ArtifactRow.sha256,
    ArtifactRow.num_bytes,
    ArtifactRow.media_type,
)
