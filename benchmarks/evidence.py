"""What it costs that results are checked before they leave: the same downloads with the check and without.

    python -m benchmarks.evidence [--jobs 1000] [--rounds 5]

Articles of 4 KB with their statements lie in an embedded S3 server; both ways of fetching them take turns.
"Without" is what an export did before: each object against the digest of its row. Prints one JSON object on
stdout and writes benchmarks/results/evidence.json.
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
from uuid import UUID

from sqlalchemy import Engine

from benchmarks.machine import machine_facts, write_result
from db.evidence import job_evidence
from db.migrate import upgrade
from db.outcomes import commit
from db.reports import JobResult, batch_status, stream_results
from db.session import opened_database
from db.stages import NewJob
from jobs.job import JobStatus
from jobs.kind import Artifact
from pressroom.articles import export_articles
from pressroom.console import say
from pressroom.embedded.services import Services
from pressroom.evidence import FETCH_THREADS, CheckedSource, fetch_artifact
from pressroom.summary import Summary
from storage import open_store
from storage.store import Store
from tests.factories import accept, claim_batch, published
from workers.settings import Settings

WORDS = 700
"""About 4 KB."""

METRICS: dict[str, object] = {
    "title": "Title",
    "asked_words": WORDS,
    "num_words": WORDS,
    "is_within_length": True,
    "repetition": 0.01,
    "is_within_repetition": True,
    "asked_language": "en",
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
    ways: dict[str, Callable[[], int]] = {
        "unchecked": lambda: sum(1 for _ in _fetch_unchecked(database, store, batch_id)),
        "checked": lambda: sum(1 for _ in CheckedSource(database, store).fetch(_jobs(database, batch_id))),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    exports = []
    for _ in range(rounds):
        for name, fetch in ways.items():
            begun_at = time.perf_counter()
            number = fetch()
            seconds[name].append(time.perf_counter() - begun_at)
        exports.append(_export_seconds(database, store, batch_id, out))
    medians = {name: round(median(each), 3) for name, each in seconds.items()}
    return {
        "seconds": {**medians, "whole export": round(median(exports), 3)},
        "shares": {
            "checked to unchecked": round(medians["checked"] / medians["unchecked"], 2),
            "added to a whole export": round(
                (medians["checked"] - medians["unchecked"])
                / (median(exports) - medians["checked"] + medians["unchecked"]),
                2,
            ),
        },
        "milliseconds_per_job": {
            "added": round((medians["checked"] - medians["unchecked"]) / number * 1000, 2)
        },
    }


def _jobs(database: Engine, batch_id: UUID) -> Iterator[JobResult]:
    return stream_results(database, batch_id, statuses=(JobStatus.SUCCEEDED,))


def _fetch_unchecked(database: Engine, store: Store, batch_id: UUID) -> Iterator[bytes]:
    """Each object against its row, as it was before statements were checked."""
    jobs = list(_jobs(database, batch_id))
    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        for start in range(0, len(jobs), 8 * FETCH_THREADS):
            some = jobs[start : start + 8 * FETCH_THREADS]
            evidence = job_evidence(database, [job.job_id for job in some])
            artifacts = [evidence[job.job_id].artifacts[0] for job in some]
            yield from pool.map(lambda artifact: fetch_artifact(store, artifact), artifacts)


def _export_seconds(database: Engine, store: Store, batch_id: UUID, out: Path) -> float:
    report = batch_status(database, batch_id)
    begun_at = time.perf_counter()
    export_articles(database, store, Summary(report=report, elapsed_seconds=0, startup_seconds=0), out)
    return time.perf_counter() - begun_at


if __name__ == "__main__":
    main()
