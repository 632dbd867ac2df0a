"""The results of a batch as single objects under readable keys, for people who use `aws s3`."""

from __future__ import annotations

import re
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from sqlalchemy import Engine

from jobs.errors import ConfigurationError
from pressroom.console import print_json, print_line
from pressroom.export import file_stem
from pressroom.results import ResultReader
from pressroom.show import print_status, say_altered
from pressroom.summary import Summary
from storage.store import ObjectKeyError, Store, check_key

DEFAULT_PREFIX = "results"

MAX_PREFIX_CHARACTERS = 200
"""Maximum length of the prefix, so that a key has room for the batch, the id and the artifact's name."""

OWN_FOLDERS = frozenset({"artifacts", "checks", "packs", "resources", "training"})
"""Folders for Pressroom's own objects; results must not be written there. In packs/, for example, a sweep
deletes packs that no row references."""

MAX_TITLE_CHARACTERS = 48
"""Maximum length of the part of a folder's name that comes from the batch's name."""

STORE_THREADS = 16
"""Number of objects stored at the same time, which hides the store's latency."""

MAX_WAITING = 4 * STORE_THREADS
"""Maximum number of objects in memory that are being stored or wait for a thread."""

_SUFFIX = re.compile(r"[a-z0-9]{1,16}")


@dataclass(frozen=True, slots=True)
class ObjectsReport:
    """Outcome of an export as objects: how many were written, and where."""

    location: str
    """Location of the store, without secrets."""
    folder: str
    """Prefix that all keys of the export share, with a trailing slash."""
    num_results: int
    num_objects: int

    def print(self, summary: Summary, _out: Path, *, json: bool) -> None:
        """Print the summary and where the objects are, as `pressroom.export.ExportReport` specifies."""
        say_altered(summary.altered)
        if json:
            record = {"num_results": self.num_results, "num_objects": self.num_objects}
            where = {"location": self.location, "folder": self.folder}
            print_json({**summary.as_json(), **record, **where})
            return
        print_status(summary.report, is_live=False)
        print_line(f"results: {self.location}/{self.folder}")


def check_result_prefix(prefix: str) -> str:
    """Return the prefix without a trailing slash if results may be written below it.

    Raises ConfigurationError (`prefix_invalid`).
    """
    prefix = prefix.removesuffix("/")
    try:
        check_key(prefix)
    except ObjectKeyError as error:
        raise ConfigurationError(f"the prefix is not valid: {error}", code="prefix_invalid") from error
    if len(prefix) > MAX_PREFIX_CHARACTERS:
        raise ConfigurationError(
            f"the prefix has {len(prefix)} characters: use at most {MAX_PREFIX_CHARACTERS}",
            code="prefix_invalid",
        )
    if prefix.partition("/")[0] in OWN_FOLDERS:
        raise ConfigurationError(
            f"Pressroom keeps its own objects below {prefix.partition('/')[0]}/: give another prefix",
            code="prefix_invalid",
        )
    return prefix


def batch_folder(name: str, batch_id: UUID) -> str:
    """Return the name of a batch's folder. It contains the id, because several batches may have the same
    name.

    >>> batch_folder("Spring sale.csv", UUID(int=7))
    'spring-sale-csv-00000000-0000-0000-0000-000000000007'
    """
    title = re.sub(r"[^a-z0-9]+", "-", name.lower())[:MAX_TITLE_CHARACTERS].strip("-")
    return f"{title}-{batch_id}".lstrip("-")


def object_name(name: str) -> str:
    """Return the last part of an artifact's key. Different names have different last parts.

    >>> object_name("report.md"), object_name("Report.md"), object_name("README")
    ('report.md', 'report-b6ce788d9786917c.md', 'readme-2b7814d3fca2e99e')
    """
    stem, _, suffix = name.rpartition(".")
    return f"{file_stem(stem)}.{suffix}" if stem and _SUFFIX.fullmatch(suffix) else file_stem(name)


def export_objects(
    database: Engine, store: Store, summary: Summary, _out: Path, *, prefix: str
) -> ObjectsReport:
    """Store each artifact of the results as a separate object.

    The results are those of the stage that was started last. An object's key consists of the prefix, the
    batch, the id of the job's input line and the artifact's name. Objects of an earlier export are
    overwritten. A result whose evidence does not match is left out and listed in `summary.altered`. This is a
    `pressroom.export.Exporter` that writes no files. Raises StoreError.
    """
    folder = f"{prefix}/{batch_folder(summary.report.name, summary.batch_id)}/"
    reader = ResultReader(database, store, summary.leave_out)
    num_results = num_objects = 0
    with ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store") as pool:
        waiting: deque[Future[None]] = deque()
        try:
            for result in reader.read_batch(summary.batch_id):
                num_results += 1
                for artifact, body in zip(result.evidence.artifacts, result.bodies, strict=True):
                    key = f"{folder}{file_stem(result.job.custom_id)}/{object_name(artifact.name)}"
                    waiting.append(pool.submit(store.put, key, body, media_type=artifact.media_type))
                    num_objects += 1
                    if len(waiting) > MAX_WAITING:
                        waiting.popleft().result()
            for stored in waiting:
                stored.result()
        finally:
            pool.shutdown(cancel_futures=True)
    return ObjectsReport(store.location, folder, num_results, num_objects)
