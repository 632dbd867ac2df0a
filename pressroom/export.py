"""Export of a batch's finished jobs to files: streamed, with each artifact checked against its digest."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from uuid import UUID

from sqlalchemy import Engine

from db.reports import JobResult, stream_results
from jobs.errors import ConfigurationError, DiskFullError
from jobs.job import JobStatus
from jobs.shown import json_text
from pressroom.evidence import ArtifactAlteredError as ArtifactAlteredError
from pressroom.evidence import CheckedSource, OnAltered
from pressroom.output import earlier_lines, new_folder
from storage.store import Store

MAX_NAME_CHARACTERS = 80
"""Maximum length of a file name made from an id, including the digest."""

DIGEST_DIGITS = 16
"""Hexadecimal digits of the digest in such a name: 64 bits, enough to tell a million ids apart."""

_LIKE_A_DIGEST = re.compile(rf"(?:^|-)[0-9a-f]{{{DIGEST_DIGITS}}}$")
"""Ids that end like a name with a digest; they get a digest too, or they could equal another id's name."""

_DEVICE = re.compile(r"con|prn|aux|nul|(?:com|lpt)[0-9]")
"""Names that Windows treats as devices, whatever their suffix."""

_LISTED = re.compile(r"(?P<files>[a-z]+)/(?P<name>[A-Za-z0-9_-]+\.[a-z0-9]+)")
"""Path of an artifact in results.jsonl; file_stem() produces no other characters."""

RESULTS = "results.jsonl"
FAILED = "failed.jsonl"
INDEX = "index.html"
SUMMARY = "summary.json"

UNFINISHED = (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED)
"""Jobs that ended without a result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A finished job and its artifact's bytes."""

    result: JobResult
    body: bytes
    file_name: str
    """Name of the artifact's file in the folder of files."""


def fetch_results(
    database: Engine, store: Store, batch_id: UUID, on_altered: OnAltered | None = None
) -> Iterator[Exported]:
    """Yield the succeeded jobs in input order with their artifacts, checked by CheckedSource."""
    results = stream_results(database, batch_id, statuses=(JobStatus.SUCCEEDED,))
    for result, evidence, bodies in CheckedSource(database, store, on_altered).fetch(results):
        first = evidence.artifacts[0]
        checked = replace(
            result,
            artifact_name=first.name,
            object_key=first.object_key,
            sha256=first.sha256,
            media_type=first.media_type,
            usage=evidence.usage,
            statement=None if evidence.statement is None else evidence.statement.body,
        )
        name = file_stem(result.custom_id) + Path(first.name).suffix
        yield Exported(result=checked, body=bodies[0], file_name=name)


def file_stem(custom_id: str) -> str:
    """Return a file name that is valid on any file system and differs from those of other ids.

    Some file systems ignore case or the normal form of an accent; Windows reserves device names and drops a
    trailing dot. So a name consists of lower-case ASCII letters, digits, hyphens and underscores, and an id
    that does not is marked with its digest.

    >>> file_stem("spring-sale")
    'spring-sale'
    >>> file_stem("../x"), file_stem("ABC"), file_stem("con")
    ('x-d6b96a97d147daaa', 'abc-b5d4045c3f466fa9', 'con-1143da2bc54c495c')
    """
    safe = re.sub(r"[^a-z0-9_-]+", "-", custom_id.lower()).strip("-_")
    safe = safe[: MAX_NAME_CHARACTERS - DIGEST_DIGITS - 1]
    if safe == custom_id and not _LIKE_A_DIGEST.search(safe) and not _DEVICE.fullmatch(safe):
        return safe
    return f"{safe}-{hashlib.sha256(custom_id.encode()).hexdigest()[:DIGEST_DIGITS]}".lstrip("-")


def check_output(folder: Path) -> None:
    """Create the folder and write to it once, before hours of work are spent on its contents.

    Raises DiskFullError, OutputUnsafeError or ConfigurationError (`output_unwritable`).
    """
    with _output_errors(folder, "give --out another folder"), new_folder(folder) as probe:
        (probe.path / "probe").write_bytes(b"x")


def holds_another_batch(folder: Path, batch_id: UUID) -> bool:
    """Return whether the folder has results that, by its summary, belong to another batch."""
    results = folder / RESULTS
    if not results.exists() or not results.stat().st_size:
        return False
    try:
        record = json.loads((folder / SUMMARY).read_bytes())
    except (OSError, ValueError):
        return True  # an export that ended before it wrote its summary could be of any batch
    return not isinstance(record, dict) or record.get("batch_id") != str(batch_id)


@contextmanager
def export_errors(folder: Path, batch_id: UUID) -> Iterator[None]:
    """Turn an OSError in the block into DiskFullError or ConfigurationError (`output_unwritable`)."""
    again = f"what is finished is safe in the store; write it with `pressroom results {batch_id} --out DIR`"
    with _output_errors(folder, again):
        yield


@contextmanager
def _output_errors(folder: Path, what_to_do: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{folder} cannot be written: {error}: {what_to_do}"
        if error.errno == errno.ENOSPC:
            raise DiskFullError(message) from error
        raise ConfigurationError(message, code="output_unwritable") from error


def export_batch(
    database: Engine,
    store: Store,
    batch_id: UUID,
    folder: Path,
    *,
    files: str,
    on_altered: OnAltered,
) -> Generator[Exported, None, None]:
    """Write artifacts to the folder `files`, results.jsonl and failed.jsonl; yield each result once written.

    Consume the generator to the end, or close it: everything is written to a temporary folder, which replaces
    an earlier export only when it is complete. A result whose evidence does not match is passed to
    `on_altered` and left out. Raises StoreError, DiskFullError or ConfigurationError (`output_unwritable`).
    """
    with export_errors(folder, batch_id), new_folder(folder) as new:
        (new.path / files).mkdir()
        results = fetch_results(database, store, batch_id, on_altered)
        yield from _write_results(results, new.path, files)
        with (new.path / FAILED).open("w", encoding="utf-8") as lines:
            for result in stream_results(database, batch_id, statuses=UNFINISHED):
                lines.write(json_text(failure_record(result)) + "\n")
        stale = [
            f"{files}/{name}"
            for name in _listed_files(folder / RESULTS, files)
            if not (new.path / files / name).exists()
        ]
        new.publish(stale)


def _write_results(results: Iterator[Exported], new: Path, files: str) -> Iterator[Exported]:
    with (new / RESULTS).open("w", encoding="utf-8") as lines:
        for exported in results:
            path = new / files / exported.file_name
            path.write_bytes(exported.body)
            record = _record(exported.result, f"{files}/{exported.file_name}")
            beside = json_text(record | _body(exported), indent=2) + "\n"
            path.with_suffix(".json").write_text(beside, encoding="utf-8")
            lines.write(json_text(record) + "\n")
            yield exported


def _listed_files(results: Path, files: str) -> Iterator[str]:
    """Yield the names of the artifacts that a results.jsonl lists, and of the JSON file beside each."""
    for line in earlier_lines(results):
        if name := _listed_name(line, files):
            yield name
            yield str(Path(name).with_suffix(".json"))


def _listed_name(line: bytes, files: str) -> str | None:
    """Return the artifact's name in a line of results.jsonl; None if the line is torn or not an export's."""
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


def failure_record(result: JobResult) -> dict[str, object]:
    """Return a line of failed.jsonl as an object."""
    return {
        "id": result.custom_id,
        "job_id": str(result.job_id),
        "status": result.status.value,
        "attempt": result.attempt,
        "error": {"code": result.error_code, "message": result.error_message},
        "input": dict(result.payload),
    }
