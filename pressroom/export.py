"""Results out: every finished job of a batch as files, streamed, each artifact checked against its digest."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

from sqlalchemy import Engine

from db.reports import JobResult, stream_results
from jobs.errors import PermanentError
from jobs.job import JobStatus
from jobs.provenance import sha256_hex
from storage.store import Store

FETCH_THREADS = 8
"""Objects fetched at a time: hides the store's latency, and a small store server is not flooded."""

MAX_NAME_CHARACTERS = 80
"""Of a file name made from an id, its digest included."""

DIGEST_DIGITS = 16
"""Of the digest in such a name: 64 bits, so that a million ids of other scripts get a million names."""

_LIKE_A_DIGEST = re.compile(rf"(?:^|-)[0-9a-f]{{{DIGEST_DIGITS}}}$")
"""An id that looks like a name with a digest gets one too, or it could be the name of another id."""

_LISTED = re.compile(r"(?P<files>[a-z]+)/(?P<name>[A-Za-z0-9_-]+\.[a-z0-9]+)")
"""An artifact in results.jsonl; file_stem() makes no other characters."""

RESULTS = "results.jsonl"
FAILED = "failed.jsonl"


class ArtifactAlteredError(PermanentError):
    """An object's bytes are not those that were committed."""

    code = "artifact_altered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A finished job and its artifact's bytes."""

    result: JobResult
    body: bytes
    file_name: str
    """Of the artifact, in the folder of files."""


def fetch_results(database: Engine, store: Store, batch_id: UUID) -> Iterator[Exported]:
    """The succeeded jobs in input order with their artifacts. Raises ArtifactAlteredError or StoreError."""
    results = stream_results(database, batch_id, statuses=(JobStatus.SUCCEEDED,))

    def fetch(result: JobResult) -> Exported:
        return _fetch(store, result)

    with ThreadPoolExecutor(FETCH_THREADS, thread_name_prefix="fetch") as pool:
        while some := list(itertools.islice(results, FETCH_THREADS * 8)):
            yield from pool.map(fetch, some)


def _fetch(store: Store, result: JobResult) -> Exported:
    if result.object_key is None or result.artifact_name is None:
        raise ArtifactAlteredError(f"job {result.job_id} succeeded without an artifact: altered")
    body = store.get(result.object_key)
    if sha256_hex(body) != result.sha256:
        raise ArtifactAlteredError(
            f"object {result.object_key} of job {result.job_id} ({result.custom_id}) has not the digest "
            f"that was committed: the store in {store.location} was changed"
        )
    name = file_stem(result.custom_id) + Path(result.artifact_name).suffix
    return Exported(result=result, body=body, file_name=name)


def file_stem(custom_id: str) -> str:
    """A file name that any file system holds, different for different ids.

    >>> file_stem("spring-sale")
    'spring-sale'
    >>> file_stem("../x")
    'x-d6b96a97d147daaa'
    """
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", custom_id).strip("-_")[: MAX_NAME_CHARACTERS - DIGEST_DIGITS - 1]
    if safe == custom_id and not _LIKE_A_DIGEST.search(safe):
        return safe
    return f"{safe}-{hashlib.sha256(custom_id.encode()).hexdigest()[:DIGEST_DIGITS]}".lstrip("-")


def export_batch(
    database: Engine, store: Store, batch_id: UUID, folder: Path, *, files: str
) -> Iterator[Exported]:
    """Write artifacts to the folder `files`, results.jsonl and failed.jsonl; yield each result once written.

    Consume it to the end. What an earlier export left under the same names is replaced.
    """
    (folder / files).mkdir(parents=True, exist_ok=True)
    _remove_earlier(folder, files)
    with (folder / RESULTS).open("w", encoding="utf-8") as lines:
        for exported in fetch_results(database, store, batch_id):
            path = folder / files / exported.file_name
            path.write_bytes(exported.body)
            record = _record(exported.result, f"{files}/{exported.file_name}")
            path.with_suffix(".json").write_text(
                json.dumps(record | _body(exported), ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
            )
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
            yield exported
    with (folder / FAILED).open("w", encoding="utf-8") as lines:
        unfinished = (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED)
        for result in stream_results(database, batch_id, statuses=unfinished):
            lines.write(json.dumps(_failure(result), ensure_ascii=False) + "\n")


def _remove_earlier(folder: Path, files: str) -> None:
    """Remove the artifacts that an earlier export into the folder lists, and nothing else."""
    if not (folder / RESULTS).exists():
        return
    inside = (folder / files).resolve()
    with (folder / RESULTS).open("rb") as lines:
        for line in lines:
            path = folder / files / (_listed_name(line, files) or "")
            for written in (path, path.with_suffix(".json")):
                if written.is_file() and written.resolve().parent == inside:
                    written.unlink()


def _listed_name(line: bytes, files: str) -> str | None:
    """The artifact's name in a line of results.jsonl; None for a line that is torn or no export's."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    match = _LISTED.fullmatch(str(record.get("file"))) if isinstance(record, dict) else None
    return match["name"] if match and match["files"] == files else None


def _record(result: JobResult, file: str) -> dict[str, object]:
    return {
        "id": result.custom_id,
        "job_id": str(result.job_id),
        "file": file,
        "sha256": result.sha256,
        "attempt": result.attempt,
        "metrics": dict(result.metrics),
        "usage": asdict(result.usage),
    }


def _body(exported: Exported) -> dict[str, object]:
    statement = exported.result.statement
    return {
        "text": exported.body.decode(),
        "provenance": None if statement is None else json.loads(statement),
    }


def _failure(result: JobResult) -> dict[str, object]:
    return {
        "id": result.custom_id,
        "job_id": str(result.job_id),
        "status": result.status.value,
        "attempt": result.attempt,
        "error": {"code": result.error_code, "message": result.error_message},
        "input": dict(result.payload),
    }
