"""Measures the cost of checking the evidence of results: the same downloads with and without the check.

    python -m benchmarks.evidence [--jobs 1000] [--rounds 5]

An embedded S3 server has articles of 4 KB with their statements. They are downloaded and exported in turn
with and without the check. "Unchecked" compares each object with the digest in its row, and reads no
statement. The command prints one JSON object on stdout and writes benchmarks/results/evidence.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from kinds.article.export import export_articles
from pressroom import results
from pressroom.console import say
from pressroom.embedded.services import Services
from pressroom.results import FETCH_THREADS, ResultReader
from pressroom.summary import Summary
from storage import open_store
from storage.store import Store
from tests.factories import accept, claim_batch, published
from workers.settings import Settings

WORDS = 700
"""Number of words of an article, about 4 KB."""

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

    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        outcomes = pool.map(
            lambda pair: published(
                store,
                pair[1],
                [Artifact(name="article.md", media_type="text/markdown", body=body(pair[0]))],
                metrics=METRICS,
            ),
            enumerate(claimed),
        )
        commit(database, list(outcomes))
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
            with mock.patch.object(results, "check_evidence", _unchecked):
                seconds.setdefault(f"{name}, unchecked", []).append(_seconds(way))
            seconds.setdefault(f"{name}, checked", []).append(_seconds(way))
    medians = {name: round(median(each), 3) for name, each in seconds.items()}
    shares = {name: round(medians[f"{name}, checked"] / medians[f"{name}, unchecked"], 2) for name in ways}
    return {"seconds": medians, "checked_to_unchecked": shares}


def _unchecked(_store: Store, found: JobEvidence | None) -> JobEvidence:
    """Check each object against its row only, as was done before statements were checked."""
    if found is None:
        raise ValueError("the benchmark's own job is not there")
    return found


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
