"""Exports a batch's results: writes them to a new folder inside the output folder, then moves them into
place."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from uuid import UUID

from sqlalchemy import Engine

from db.reports import JobResult, stream_results
from jobs.errors import ConfigurationError, DiskFullError
from jobs.job import JobStatus
from jobs.registry import kind_names, load_kind, load_target
from jobs.shown import json_text
from pressroom.console import say
from pressroom.output import earlier_lines, new_folder
from pressroom.summary import Summary
from storage.store import Store

MAX_NAME_CHARACTERS = 80
"""Maximum length of a file name made from an id, including the digest."""

DIGEST_DIGITS = 16
"""Number of hexadecimal digits of a digest in a file name: they have 64 bits, enough for a million ids."""

_LIKE_A_DIGEST = re.compile(rf"(?:^|-)[0-9a-f]{{{DIGEST_DIGITS}}}$")
"""Matches ids that end like a name with a digest. They get a digest, too, so that no two names are equal."""

_DEVICE = re.compile(r"con|prn|aux|nul|(?:com|lpt)[0-9]")
"""Matches names that Windows treats as devices, with or without a suffix."""

RESULTS = "results.jsonl"
FAILED = "failed.jsonl"
INDEX = "index.html"
SUMMARY = "summary.json"

DEFAULT_EXPORTER = "pressroom.default_export.export:export_results"

UNFINISHED = (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED)
"""States of jobs that ended without a result."""


class ExportReport(Protocol):
    """Outcome of an export: the figures that a kind reports about its results."""

    def print(self, summary: Summary, out: Path, *, json: bool) -> None:
        """Print the summary and the figures on stdout, as lines for people or as one JSON object.

        A kind can raise typer.Exit if the batch has no usable result; the command then ends as failed.
        """
        ...


class Exporter(Protocol):
    """Writes the results of a batch so far into a folder."""

    def __call__(self, database: Engine, store: Store, summary: Summary, out: Path, /) -> ExportReport:
        """Write the results; leave out altered ones and list them in `summary.altered`.

        Raises StoreError, DiskFullError or ConfigurationError (`output_unwritable`).
        """
        ...


def exporter_of(kind: str) -> Exporter:
    """Return the exporter that a kind declares, or the default one, which suits every kind.

    The default exporter also writes the results of a kind that is no longer installed.
    """
    named = load_kind(kind).exporter if kind in kind_names() else None
    exporter: Exporter = load_target(named or DEFAULT_EXPORTER)
    return exporter


@contextmanager
def staged_export(out: Path, batch_id: UUID, *, earlier: Iterable[str] = ()) -> Iterator[Path]:
    """Yield a new folder whose files replace those of an earlier export if the block ends without an error.

    The new folder is inside `out`, and its folders are merged with those of `out`. `earlier` yields the files
    of an earlier export, relative to `out`; it is read at the end, and files that were not written again are
    removed.

    Raises DiskFullError or ConfigurationError (`output_unwritable`).
    """
    with export_errors(out, batch_id), new_folder(out) as new:
        yield new.path
        new.publish([name for name in earlier if not (new.path / name).exists()])


def listed_files(lines: Path, pattern: re.Pattern[str]) -> Iterator[str]:
    """Yield the files that an earlier export lists in a file of JSON lines, under `file` or `files`.

    Anyone may have written the file. So lines that are incomplete or that no export wrote are skipped, and so
    are names that the pattern does not match completely.
    """
    for line in earlier_lines(lines):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        names = record.get("files", [record.get("file")]) if isinstance(record, dict) else None
        if isinstance(names, list):
            yield from (str(name) for name in names if pattern.fullmatch(str(name)))


def keeps_results(summary: Summary, out: Path, noun: str, *, results: str = RESULTS) -> bool:
    """Return whether another batch's results stay in the folder because this batch has none.

    If so, print a message that says so. `results` is the name of the file that holds results.
    """
    if summary.report.counts.succeeded or not _holds_another_batch(out / results, summary.batch_id):
        return False
    say(
        f"Batch {summary.batch_id} has no {noun} yet, and {out} contains the results of another batch, "
        f"which are kept. To write the failures of this batch: pressroom results {summary.batch_id} --out "
        "DIR"
    )
    return True


def _holds_another_batch(results: Path, batch_id: UUID) -> bool:
    """Return whether the file has results that belong to another batch according to the summary beside it."""
    if not results.exists() or not results.stat().st_size:
        return False
    try:
        record = json.loads(results.with_name(SUMMARY).read_bytes())
    except (OSError, ValueError):
        return True  # an export that ended before it wrote its summary could belong to any batch
    return not isinstance(record, dict) or record.get("batch_id") != str(batch_id)


def write_failures(database: Engine, batch_id: UUID, folder: Path) -> Iterator[JobResult]:
    """Write failed.jsonl with the jobs of all stages that ended without a result; yield each one."""
    with (folder / FAILED).open("w", encoding="utf-8") as lines:
        for result in stream_results(database, batch_id, statuses=UNFINISHED, every_stage=True):
            record = {**failure_record(result), "input": dict(result.payload)}
            lines.write(json_text(record) + "\n")
            yield result


def failure_record(result: JobResult) -> dict[str, object]:
    """Return a line of failed.jsonl as an object, without the job's input."""
    return {
        "id": result.custom_id,
        "job_id": str(result.job_id),
        "status": result.status.value,
        "attempt": result.attempt,
        "error": {"code": result.error_code, "message": result.error_message},
    }


def file_stem(custom_id: str) -> str:
    """Return a file name that is valid on any file system and differs from those of other ids.

    Some file systems ignore case or the normal form of an accent; Windows reserves device names and drops a
    trailing dot. So a name consists of lower-case ASCII letters, digits, hyphens and underscores. If an id
    has other characters, is too long, is a device name or ends like a name with a digest, its name ends with
    the id's digest.

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
    with _output_errors(folder, "choose another folder with --out"), new_folder(folder) as probe:
        (probe.path / "probe").write_bytes(b"x")


@contextmanager
def export_errors(folder: Path, batch_id: UUID) -> Iterator[None]:
    """Turn an OSError in the block into DiskFullError or ConfigurationError (`output_unwritable`)."""
    again = f"the finished results are safe: write them with `pressroom results {batch_id} --out DIR`"
    with _output_errors(folder, again):
        yield


@contextmanager
def _output_errors(folder: Path, advice: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{folder} cannot be written: {error}: {advice}"
        if error.errno == errno.ENOSPC:
            raise DiskFullError(message) from error
        raise ConfigurationError(message, code="output_unwritable") from error
