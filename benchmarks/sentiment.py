"""Compares the whole pipeline of documents with the classifier alone: the same texts and model, in one run.

`python -m benchmarks.sentiment [--documents 20000] [--rounds 3]` sends documents through a monitor (read,
deduplicate, link, classify, store, aggregate) with warm workers. Before and after that, it runs the encoder
alone over the same rows, in batches by length. Then it reads the same file twice with 1% more documents:
first with newer ones, as when a file has grown, then with others, scattered over its ninety days, so that
every series is computed anew. Each round begins with an empty home; the medians of the rounds are printed.

`--alone` skips the runs of the encoder, and prints the memory of one long batch (`--documents 100000`).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psutil
from sqlalchemy import func, select

from benchmarks.machine import machine_facts, write_result
from benchmarks.sentiment_files import Files, make_files
from db.reports import batch_status
from db.tables import BatchRow, JobRow, WorkerRow
from jobs.batch import BatchStatus, BatchStatusReport
from jobs.inference import TextPair
from jobs.registry import load_kind
from kinds.sentiment.documents.blocks import MAX_BLOCK_DOCUMENTS
from kinds.sentiment.intake import DOCUMENTS, WATCHLIST
from kinds.sentiment.monitor import KIND
from kinds.sentiment.options import NONE
from pressroom.one_machine import OneMachine
from workers.devices import Device
from workers.engine import EncoderRequest, EngineOptions
from workers.intake import BatchRequest
from workers.model_pool import EncoderModel, load_models
from workers.producer import submit
from workers.settings import DEFAULT_CLASSIFIER, Settings

PROFILE = "classifier"
OPTIONS = {"embedder": NONE, "summarizer": NONE, "reports": "none"}
BLOCK = MAX_BLOCK_DOCUMENTS
"""Number of rows per request to the encoder alone, as in a job."""


POLL_SECONDS = 0.5
"""Interval between two queries for the batch, as in `pressroom run`; its end is read from Postgres."""

SHARED_SECONDS = 10.0
"""Interval between two sums of shared memory, each of which takes as much processor time as ten headlines."""


@dataclass(slots=True)
class Memory:
    """Peaks of resident memory in bytes, sampled every second, and every ten seconds for the services."""

    worker: int = 0
    """Worker and encoder process; libraries that both have mapped are counted twice."""
    producer: int = 0
    """This process, which reads the file and dispatches."""
    services: int = 0
    """Postgres, Valkey and S3; shared memory is counted once."""


@dataclass(frozen=True, slots=True)
class Round:
    """Figures of one file that went through the monitor."""

    seconds: float
    cpu_seconds: float
    """Processor seconds of all processes."""
    num_new: int
    """Documents that the batch analyses."""
    num_known: int
    """Documents that were analysed in an earlier round."""
    report: BatchStatusReport
    memory: Memory


def bare_seconds(encoder: EncoderModel, pairs: Sequence[TextPair]) -> float:
    """Return the seconds to tokenise and classify all pairs, with all requests of BLOCK rows in flight."""
    begun_at = time.perf_counter()
    futures = []
    for number, start in enumerate(range(0, len(pairs), BLOCK)):
        rows = encoder.tokenizer.encode(pairs[start : start + BLOCK])
        futures.append(encoder.engine.submit(EncoderRequest(request_id=f"bare-{number}", rows=rows)))
    for future in futures:
        future.result()
    return time.perf_counter() - begun_at


def open_bare(models: Path) -> EncoderModel:
    """Open the classifier as a worker does."""
    options = EngineOptions(num_threads=len(os.sched_getaffinity(0)))
    warm = load_models(models, [DEFAULT_CLASSIFIER], engine="transformers", options=options)
    return warm.encoder(DEFAULT_CLASSIFIER, "classify")


def wait_until_ready(machine: OneMachine) -> None:
    """Wait until a worker has loaded its model."""
    while True:
        machine.check()
        with machine.database.connect() as connection:
            if connection.scalar(select(WorkerRow.id).where(WorkerRow.ready_at.is_not(None)).limit(1)):
                return
        time.sleep(0.2)


def run_round(machine: OneMachine, path: Path, watch: Path, settings: Settings) -> Round:
    """Submit a file, wait until its batch ends, and return the figures."""
    memory, done = Memory(), threading.Event()
    watcher = threading.Thread(target=_watch_memory, args=(machine.worker_pids[0], memory, done))
    watcher.start()
    cpu_seconds = _cpu_seconds()
    begun_at = datetime.now(UTC)
    submission = submit(
        machine.database,
        {DOCUMENTS: path, WATCHLIST: watch},
        BatchRequest(kind=KIND, model=DEFAULT_CLASSIFIER, settings=OPTIONS),
        settings,
        print,
        on_note=print,
        s3_url=machine.urls.s3_url,
    )
    while (report := batch_status(machine.database, submission.batch_id)).status is BatchStatus.RUNNING:
        machine.check()
        time.sleep(POLL_SECONDS)
    cpu_seconds = _cpu_seconds() - cpu_seconds
    done.set()
    watcher.join()
    with machine.database.connect() as connection:
        finished_at = connection.execute(
            select(BatchRow.finished_at).where(BatchRow.id == submission.batch_id)
        ).scalar_one()
        block_sizes = select(func.jsonb_array_length(JobRow.payload["documents"])).where(
            JobRow.batch_id == submission.batch_id, JobRow.stage == 0
        )
        num_new = sum(connection.scalars(block_sizes))
    if finished_at is None:
        raise RuntimeError(f"batch {submission.batch_id} is {report.status}, not finished")
    # The end is taken from Postgres, whose clock is this machine's, not from when this loop notices it.
    seconds = (finished_at - begun_at).total_seconds()
    num_read = submission.dropped.num_records if submission.dropped else 0
    return Round(seconds, cpu_seconds, num_new, num_read - num_new, report, memory)


def _family() -> list[psutil.Process]:
    return [psutil.Process(), *psutil.Process().children(recursive=True)]


def _cpu_seconds() -> float:
    """Return the processor seconds so far of this process and all processes it has started."""
    total = 0.0
    for process in _family():
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _watch_memory(worker_pid: int, memory: Memory, done: threading.Event) -> None:
    worker = psutil.Process(worker_pid)
    workers = [worker, *worker.children(recursive=True)]  # if one of them ends, the round has no figures
    producer = psutil.Process()
    services_at = time.monotonic()
    while not done.wait(1.0):
        memory.worker = max(memory.worker, sum(each.memory_info().rss for each in workers))
        memory.producer = max(memory.producer, producer.memory_info().rss)
        if time.monotonic() >= services_at:
            services_at += SHARED_SECONDS
            memory.services = max(memory.services, _shared(set(_family()) - {producer, *workers}))


def _shared(processes: Iterable[psutil.Process]) -> int:
    """Return the memory of all these processes in bytes, with shared memory counted once."""
    total = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total


def run_bare(models: Path, pairs: Sequence[TextPair]) -> float:
    """Open the classifier alone and return the seconds that it takes for all pairs."""
    encoder = open_bare(models)
    try:
        return bare_seconds(encoder, pairs)
    finally:
        encoder.engine.close()


Rounds = Mapping[str, Round]
"""Rounds by file: first, grown, scattered."""


def run_all(home: Path, files: Files) -> Rounds:
    """Run the three files through one monitor, in this order."""
    os.environ["PRESSROOM_PROFILES"] = json.dumps({PROFILE: {"models": [DEFAULT_CLASSIFIER]}})
    os.environ["PRESSROOM_MODELS_DIR"] = str(Settings().models_folder)
    settings = Settings(home=home)
    with OneMachine(settings, [Device("cpu")], profiles=(PROFILE,), say=print) as machine:
        wait_until_ready(machine)
        load_kind(KIND)  # as `pressroom run` does while workers start, since the imports take a second
        return {
            path.stem: run_round(machine, path, files.watch, settings)
            for path in (files.first, files.grown, files.scattered)
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true")
    arguments = parser.parse_args()
    models = Settings().models_folder
    with tempfile.TemporaryDirectory(prefix="pressroom-bench-") as name:
        files = make_files(Path(name), arguments.documents)
        if arguments.alone:
            report_alone(files, run_all(Path(name) / "home", files))
            return
        bare, rounds = [run_bare(models, files.pairs)], []
        for number in range(arguments.rounds):
            rounds.append(run_all(Path(name) / f"home-{number}", files))
            bare.append(run_bare(models, files.pairs))
    report(files, bare, rounds)


def report_alone(files: Files, rounds: Rounds) -> None:
    """Print the memory of the long batch and store it."""
    first = rounds["first"]
    result: dict[str, object] = {
        "documents": files.num_documents,
        "seconds": round(first.seconds, 1),
        "documents_per_second": round(files.num_documents / first.seconds, 1),
        **_others([rounds]),
    }
    write_result("sentiment_memory", result)
    print(f"{files.num_documents} documents in one batch: {first.seconds:.0f} s")
    print_others([rounds])


def report(files: Files, bare: Sequence[float], rounds: Sequence[Rounds]) -> None:
    """Print the figures and store them."""
    num_pairs = len(files.pairs)
    firsts = [each["first"] for each in rounds]
    # Only pairs that reached the model count: a document about two companies makes two, an unlinked one none.
    # The bare encoder's time is the mean of its runs before and after.
    ratios = [
        (before + after) / 2 / first.seconds
        for before, after, first in zip(bare, bare[1:], firsts, strict=False)
    ]
    bare_rate, rate = num_pairs / median(bare), num_pairs / median(first.seconds for first in firsts)
    result: dict[str, object] = {
        "documents": files.num_documents,
        "classified_pairs": num_pairs,
        "bare_seconds": [round(seconds, 2) for seconds in bare],
        "bare_pairs_per_second": round(bare_rate, 1),
        "whole_path_seconds": [round(first.seconds, 2) for first in firsts],
        "whole_path_cpu_seconds": [round(first.cpu_seconds, 2) for first in firsts],
        "whole_path_pairs_per_second": round(rate, 1),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ratio": round(median(ratios), 3),
        **_others(rounds),
    }
    write_result("sentiment", result)
    print(f"bare classifier  {bare_rate:8.1f} questions/s ({num_pairs} of {files.num_documents} documents)")
    cpu_seconds = median(first.cpu_seconds for first in firsts)
    print(f"whole path       {rate:8.1f} questions/s, {cpu_seconds:.0f} s of processor time")
    print(f"ratio            {median(ratios):8.3f} ({', '.join(f'{ratio:.3f}' for ratio in ratios)})")
    print_others(rounds)


def print_others(rounds: Sequence[Rounds]) -> None:
    """Print the figures with which both reports end: repeated runs and memory."""
    for name, again in _again(rounds).items():
        print(f"1% {name:<13} {again['seconds']:8.2f} s, {again['share']:.1%} of the first run")
    peaks = ", ".join(f"{name.split('_')[0]} {value / 1e6:.0f} MB" for name, value in _peaks(rounds).items())
    print(f"memory           {peaks}")


def _others(rounds: Sequence[Rounds]) -> dict[str, object]:
    return {
        "again": _again(rounds),
        "failed_jobs": sum(each.report.counts.failed for some in rounds for each in some.values()),
        "memory": _peaks(rounds),
        "machine": machine_facts(),
    }


def _again(rounds: Sequence[Rounds]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "new_documents": rounds[0][name].num_new,
            "known_documents": rounds[0][name].num_known,
            "seconds": round(median(each[name].seconds for each in rounds), 2),
            "share": round(median(each[name].seconds / each["first"].seconds for each in rounds), 4),
        }
        for name in rounds[0]
        if name != "first"
    }


def _peaks(rounds: Sequence[Rounds]) -> dict[str, int]:
    memories = [each.memory for some in rounds for each in some.values()]
    return {
        "worker_peak_bytes": max(each.worker for each in memories),
        "producer_peak_bytes": max(each.producer for each in memories),
        "services_peak_bytes": max(each.services for each in memories),
    }


if __name__ == "__main__":
    main()
