"""The whole path of documents against the bare classifier: the same texts, the same model, in one run.

`python -m benchmarks.sentiment [--documents 20000]`: documents through a monitor (read, deduplicate, link,
classify, store, aggregate), workers already warm, between two rounds of the bare encoder over the same rows
in batches by length. Then the same file again with one document in a hundred new: first the newest ones, as
when a file has grown, then others, scattered over its ninety days, so that every series is computed anew.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import psutil
from sqlalchemy import select

from benchmarks.machine import machine_facts, write_result
from db.reports import batch_status
from db.tables import WorkerRow
from examples.sentiment.feed import make_feed, watchlist_toml
from jobs.batch import BatchStatus, BatchStatusReport
from jobs.documents.document import Document
from jobs.documents.linking import Linker
from jobs.documents.prepare import prepare
from jobs.documents.watchlist import EntityKind, Watchlist
from jobs.documents.watchlist_file import read_watchlist
from jobs.inference import TextPair
from jobs.text.normalise import normalise
from pressroom.commands.sentiment import MonitorOptions, put_monitor_of
from pressroom.one_machine import OneMachine
from storage import open_store
from workers import residency
from workers.devices import Device
from workers.document_producer import DocumentsOrder, Intake, submit_documents
from workers.encoder import EncoderRequest
from workers.engine import EngineOptions
from workers.residency import ResidentEncoder
from workers.settings import DEFAULT_CLASSIFIER, Settings

PROFILE = "classifier"
OWN = {"embedder": None, "summarizer": None, "reports": "none"}
CHANGED = 0.01
BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
SPAN = timedelta(days=90)
BLOCK = 250
"""Rows in one request to the bare encoder, as in a job."""


@dataclass(frozen=True, slots=True)
class Round:
    """One file through the monitor."""

    seconds: float
    intake: Intake
    report: BatchStatusReport
    peak_worker_bytes: int


def make_documents(number: int) -> list[dict[str, str]]:
    """Headlines of invented companies, no two alike, over ninety days."""
    rng = Random(0)
    rows: list[dict[str, str]] = []
    seen: set[str] = set()
    seed = 0
    while len(rows) < number:
        seed += 1
        for row in make_feed(seed)[0]:
            text = " ".join(str(row.get("title") or row.get("text") or "").split())
            if len(text) < 20 or text in seen or "<" in text:
                continue
            seen.add(text)
            at = BEGIN + SPAN * rng.random()
            rows.append({"id": f"d{len(rows):06d}", "text": text, "published_at": at.isoformat()})
            if len(rows) == number:
                break
    return rows


def write_documents(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """As JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def companies(path: Path) -> Watchlist:
    """The demo's companies, without its topics: names alone link, and one model does all the arithmetic."""
    path.write_text(watchlist_toml())
    watchlist = read_watchlist(path).watchlist
    kept = tuple(entity for entity in watchlist.entities if entity.kind is EntityKind.COMPANY)
    own = watchlist.model_copy(update={"entities": kept})
    company = [
        {"id": e.id, "name": e.name, "tickers": list(e.tickers), "aliases": list(e.aliases)} for e in kept
    ]
    json_path = path.with_suffix(".json")
    json_path.write_text(json.dumps({"name": "bench", "company": company}))
    return own


def pairs_of(rows: Sequence[dict[str, str]], watchlist: Watchlist) -> list[TextPair]:
    """What the jobs ask the classifier, each once."""
    linker = Linker(watchlist)
    pairs: dict[TextPair, None] = {}
    for row in rows:
        prepared = prepare(Document.model_validate(row))
        for link in linker.link(prepared):
            if not link.is_ambiguous:
                pairs[TextPair(normalise(link.sentence), normalise(link.target))] = None
    return list(pairs)


def bare_seconds(resident: ResidentEncoder, pairs: Sequence[TextPair]) -> float:
    """Tokenise and classify everything, requests of one block each, all in flight at once."""
    begun_at = time.perf_counter()
    futures = []
    for number, start in enumerate(range(0, len(pairs), BLOCK)):
        rows = resident.tokenizer.encode(pairs[start : start + BLOCK])
        futures.append(resident.engine.submit(EncoderRequest(request_id=f"bare-{number}", rows=rows)))
    for future in futures:
        future.result()
    return time.perf_counter() - begun_at


def open_bare(models: Path) -> ResidentEncoder:
    """The classifier as a worker opens it."""
    options = EngineOptions(num_threads=len(os.sched_getaffinity(0)))
    warm = residency.load(models, [DEFAULT_CLASSIFIER], engine="transformers", options=options)
    return warm.encoder(DEFAULT_CLASSIFIER, "classify")


def wait_until_ready(machine: OneMachine) -> None:
    """Until a worker has its model warm."""
    while True:
        machine.check()
        with machine.database.connect() as connection:
            if connection.scalar(select(WorkerRow.id).where(WorkerRow.ready_at.is_not(None)).limit(1)):
                return
        time.sleep(0.2)


def run_round(machine: OneMachine, path: Path, options: MonitorOptions, settings: Settings) -> Round:
    """Submit a file and wait for the end of its batch."""
    store = open_store(machine.urls.s3_url)
    peak, done = [0], threading.Event()
    watcher = threading.Thread(target=_watch_memory, args=(machine.worker_pids[0], peak, done))
    watcher.start()
    begun_at = time.perf_counter()
    monitor = put_monitor_of(machine.database, store, options)
    submission, intake = submit_documents(
        machine.database, path, DocumentsOrder(monitor=monitor, settings=OWN), settings, print
    )
    while (report := batch_status(machine.database, submission.batch_id)).status is BatchStatus.RUNNING:
        machine.check()
        time.sleep(0.05)
    seconds = time.perf_counter() - begun_at
    done.set()
    watcher.join()
    return Round(seconds, intake, report, peak[0])


def _watch_memory(pid: int, peak: list[int], done: threading.Event) -> None:
    process = psutil.Process(pid)
    while not done.wait(0.25):
        peak[0] = max(peak[0], process.memory_info().rss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=20_000)
    arguments = parser.parse_args()
    models = Settings().models_folder
    with tempfile.TemporaryDirectory(prefix="pressroom-bench-") as name:
        folder = Path(name)
        rows = make_documents(arguments.documents)
        write_documents(folder / "first.jsonl", rows)
        num_changed = int(len(rows) * CHANGED)
        more = make_documents(arguments.documents + 2 * num_changed)[arguments.documents :]
        newest = [
            {**row, "published_at": (BEGIN + SPAN + timedelta(minutes=number)).isoformat()}
            for number, row in enumerate(more[:num_changed])
        ]
        write_documents(folder / "grown.jsonl", [*rows, *newest])
        write_documents(folder / "scattered.jsonl", [*rows, *newest, *more[num_changed:]])
        pairs = pairs_of(rows, companies(folder / "watch.toml"))
        options = MonitorOptions(
            name=None,
            watch=folder / "watch.json",
            model=DEFAULT_CLASSIFIER,
            windows=None,
            time_zone=None,
            rules=None,
            false_alarms_per_week=None,
        )
        resident = open_bare(models)
        bare = [bare_seconds(resident, pairs)]
        resident.engine.close()
        os.environ["PRESSROOM_PROFILES"] = json.dumps({PROFILE: {"models": [DEFAULT_CLASSIFIER]}})
        os.environ["PRESSROOM_MODELS_DIR"] = str(models)
        settings = Settings(home=folder / "home")
        with OneMachine(settings, [Device("cpu")], profiles=(PROFILE,), say=print) as machine:
            wait_until_ready(machine)
            first = run_round(machine, folder / "first.jsonl", options, settings)
            grown = run_round(machine, folder / "grown.jsonl", options, settings)
            scattered = run_round(machine, folder / "scattered.jsonl", options, settings)
        resident = open_bare(models)
        bare.append(bare_seconds(resident, pairs))
        resident.engine.close()
    report(len(rows), len(pairs), bare, first, {"grown": grown, "scattered": scattered})


def report(
    num_documents: int, num_pairs: int, bare: Sequence[float], first: Round, again: Mapping[str, Round]
) -> None:
    """Print the figures and keep them."""
    bare_rate = num_pairs / (sum(bare) / len(bare))
    # Of the questions that reached the model: a document about two companies is two, an unlinked one none.
    rate = num_pairs / first.seconds
    rounds = [first, *again.values()]
    peak_worker = max(each.peak_worker_bytes for each in rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    write_result(
        "sentiment",
        {
            "documents": num_documents,
            "classified_pairs": num_pairs,
            "bare_seconds": [round(seconds, 2) for seconds in bare],
            "bare_pairs_per_second": round(bare_rate, 1),
            "whole_path_seconds": round(first.seconds, 2),
            "whole_path_pairs_per_second": round(rate, 1),
            "whole_path_documents_per_second": round(num_documents / first.seconds, 1),
            "ratio": round(rate / bare_rate, 3),
            "again": {
                name: {
                    "new_documents": each.intake.num_documents,
                    "known_documents": each.intake.num_known,
                    "seconds": round(each.seconds, 2),
                    "share": round(each.seconds / first.seconds, 4),
                }
                for name, each in again.items()
            },
            "failed_jobs": sum(each.report.counts.failed for each in rounds),
            "peak_worker_bytes": peak_worker,
            "peak_producer_bytes": peak,
            "machine": machine_facts(),
        },
    )
    print(f"bare classifier  {bare_rate:8.1f} questions/s ({num_pairs} of {num_documents} documents)")
    print(f"whole path       {rate:8.1f} questions/s, {num_documents / first.seconds:.1f} documents/s")
    print(f"ratio            {rate / bare_rate:8.3f}")
    for name, each in again.items():
        share = each.seconds / first.seconds
        print(f"1% {name:<13} {each.seconds:8.1f} s, {share:.1%} of the first run's {first.seconds:.1f} s")
    print(f"memory           worker {peak_worker / 1e6:.0f} MB, this process {peak / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
