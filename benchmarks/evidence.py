"""Measures the cost of checking the evidence of results: the same downloads with and without the check.

    python -m benchmarks.evidence [--jobs 1000] [--rounds 5]

An embedded S3 server has articles of 4 KB with their statements. They are downloaded and exported in turn
with and without the check. "Unchecked" compares each article with the digest in its row, and does not look
at its statement. The command prints one JSON object on stdout and writes benchmarks/results/evidence.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from unittest import mock
from uuid import UUID

from sqlalchemy import Engine

from benchmarks.machine import machine_facts, write_result
from db.evidence import JobEvidence
from db.migrate import upgrade
from db.outcomes import commit
from db.reports import JobResult, batch_status, stream_results
from db.session import opened_database
from db.stages import NewJob
from jobs.job import JobStatus
from jobs.kind import Artifact
from jobs.provenance import CodeFacts
from kinds.article.export import export_articles
from pressroom import results
from pressroom.console import say
from pressroom.embedded.services import Services
from pressroom.results import ResultReader
from pressroom.summary import Summary
from storage import open_store
from storage.packs import Read
from storage.store import Store
from tests.factories import accept, claim_batch, prepared
from workers.publisher import Publisher
from workers.settings import Settings

WORDS = 700
"""Number of words of an article, about 4 KB."""

PACK_JOBS = 200
"""Number of articles that share a pack."""

METRICS: dict[str, object] = {
    "title": "Title",
    "requested_words": WORDS,
    "num_words": WORDS,
    "is_within_length": True,
    "repetition": 0.01,
    "is_within_repetition": True,
    "requested_language": "en",
    "detected_language": "en",
    "flags": [],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pressroom-evidence-") as folder:
        home = Path(folder) / "home"
        with (
            Services(Settings(home=home), say) as services,
            opened_database(services.urls.db_url) as database,
        ):
            upgrade(database)
            store = open_store(services.urls.s3_url)
            batch_id = _finished_batch(database, store, options.jobs)
            result = _measure(database, store, batch_id, options.rounds, Path(folder) / "out")
    facts = {"num_jobs": options.jobs, "rounds": options.rounds, **result, "machine": machine_facts()}
    write_result("evidence", facts)
    print(json.dumps(facts))


def _finished_batch(database: Engine, store: Store, num_jobs: int) -> UUID:
    batch_id = accept(database, [NewJob(f"line-{n}", {"text": "", "act": "write"}) for n in range(num_jobs)])
    claimed = claim_batch(database, batch_id)

    def body(number: int) -> bytes:
        return f"# Article {number}\n\n{' '.join(f'word{number % 97}' for _ in range(WORDS))}\n".encode()

    publisher = Publisher(store, CodeFacts("1.0", "benchmark"))
    for start in range(0, num_jobs, PACK_JOBS):
        some = [
            prepared(
                store,
                job,
                [Artifact(name="article.md", media_type="text/markdown", body=body(start + number))],
                metrics=METRICS,
            )
            for number, job in enumerate(claimed[start : start + PACK_JOBS])
        ]
        commit(database, publisher.store_pack(some))
    return batch_id


def _measure(
    database: Engine, store: Store, batch_id: UUID, rounds: int, out: Path
) -> dict[str, dict[str, float]]:
    ways: dict[str, Callable[[], object]] = {
        "download": lambda: sum(1 for _ in ResultReader(database, store).read(_jobs(database, batch_id))),
        "export": lambda: _export(database, store, batch_id, out),
    }
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            with mock.patch.object(results, "_check", _unchecked):
                seconds.setdefault(f"{name}, unchecked", []).append(_seconds(way))
            seconds.setdefault(f"{name}, checked", []).append(_seconds(way))
    medians = {name: round(median(each), 3) for name, each in seconds.items()}
    shares = {name: round(medians[f"{name}, checked"] / medians[f"{name}, unchecked"], 2) for name in ways}
    return {"seconds": medians, "checked_to_unchecked": shares}


def _unchecked(found: JobEvidence | None, reads: Sequence[Read], store: Store) -> list[bytes]:
    """Check each article against its row only."""
    if found is None:
        raise ValueError("the benchmark's own job is not there")
    return [
        results._check_artifact(read(), artifact, store)
        for read, artifact in zip(reads[1:], found.artifacts, strict=True)
    ]


def _seconds(way: Callable[[], object]) -> float:
    begun_at = time.perf_counter()
    way()
    return time.perf_counter() - begun_at


def _jobs(database: Engine, batch_id: UUID) -> Iterator[JobResult]:
    return stream_results(database, batch_id, statuses=(JobStatus.SUCCEEDED,))


def _export(database: Engine, store: Store, batch_id: UUID, out: Path) -> None:
    report = batch_status(database, batch_id)
    export_articles(database, store, Summary(report=report, elapsed_seconds=0, startup_seconds=0), out)


if __name__ == "__main__":
    main()
