"""Puts what a job made where it is kept: the objects first, then the facts about them for the commit."""

from __future__ import annotations

from pathlib import PurePosixPath

from db.outcomes import StoredArtifact, StoredStatement, Success
from jobs.inference import Usage
from jobs.job import ClaimedJob
from jobs.kind import Artifact, Result
from jobs.provenance import (
    CodeFacts,
    Generation,
    JobFacts,
    Provenance,
    Subject,
    payload_digest,
    sha256_hex,
)
from storage.store import Store
from workers.residency import Resident

STATEMENT_MEDIA_TYPE = "application/vnd.in-toto+json"


def artifact_key(artifact: Artifact, sha256: str) -> str:
    """Content-addressed; two digits of folder keep a listing short where the store is a file system."""
    return f"artifacts/{sha256[:2]}/{sha256}{PurePosixPath(artifact.name).suffix.lower()}"


def statement_key(subject_sha256: str, statement_sha256: str) -> str:
    """Beside its first artifact; equal artifacts of two jobs keep a statement each."""
    return f"artifacts/{subject_sha256[:2]}/{subject_sha256}.{statement_sha256}.statement.json"


class Publisher:
    """Writes objects. Any thread may call it."""

    def __init__(self, store: Store, code: CodeFacts) -> None:
        self._store = store
        self._code = code

    def publish(
        self,
        job: ClaimedJob,
        result: Result,
        *,
        facts: JobFacts,
        resident: Resident | None,
        generations: tuple[Generation, ...],
    ) -> Success:
        """Store artifacts and statement; what it returns is for the committer. Raises StoreError."""
        artifacts = tuple(self._put(artifact) for artifact in result.artifacts)
        provenance = Provenance(
            subjects=tuple(Subject(artifact.name, artifact.sha256) for artifact in artifacts),
            job=facts,
            input_sha256=payload_digest(job.payload),
            template=result.template,
            model=None if resident is None else resident.model_facts(),
            engine=None if resident is None else resident.engine_facts(),
            generations=generations,
            code=self._code,
        )
        body = provenance.canonical_bytes()
        sha256 = sha256_hex(body)
        key = statement_key(artifacts[0].sha256, sha256)
        self._store.put(key, body, media_type=STATEMENT_MEDIA_TYPE)
        return Success(
            job=job,
            artifacts=artifacts,
            statement=StoredStatement(body=body, sha256=sha256, object_key=key),
            metrics=result.metrics,
            usage=sum((generation.usage for generation in generations), Usage()),
        )

    def _put(self, artifact: Artifact) -> StoredArtifact:
        sha256 = sha256_hex(artifact.body)
        key = artifact_key(artifact, sha256)
        self._store.put(key, artifact.body, media_type=artifact.media_type)
        return StoredArtifact(
            name=artifact.name,
            object_key=key,
            sha256=sha256,
            num_bytes=len(artifact.body),
            media_type=artifact.media_type,
        )
