"""The whole path of documents against the bare classifier: the same texts, the same model, in one run.

`python -m benchmarks.sentiment [--documents 20000]`: documents through a monitor (read, deduplicate, link,
classify, store, aggregate), workers already warm, between two rounds of the bare encoder over the same rows
in batches by length. Then the same file again with one document in a hundred new: first the newest ones, as
when a file has grown, then others, scattered over its ninety days, so that every series is computed anew.

`--alone` leaves the bare classifier out and prints the memory of one long batch (`--documents 100000`).
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
from pathlib import Path

import psutil
from sqlalchemy import select

from benchmarks.machine import machine_facts, write_result
from benchmarks.sentiment_files import Files, make_files
from db.reports import batch_status
from db.tables import WorkerRow
from jobs.batch import BatchStatus, BatchStatusReport
from jobs.documents.blocks import MAX_BLOCK_DOCUMENTS
from jobs.inference import TextPair
from jobs.kinds import load_kind
from pressroom.one_machine import OneMachine
from pressroom.sentiment_runs import MonitorOptions, put_monitor_of
from storage import open_store
from workers import residency
from workers.devices import Device
from workers.document_producer import KIND, DocumentsOrder, Intake, submit_documents
from workers.encoder import EncoderRequest
from workers.engine import EngineOptions
from workers.residency import ResidentEncoder
from workers.settings import DEFAULT_CLASSIFIER, Settings

PROFILE = "classifier"
OWN = {"embedder": None, "summarizer": None, "reports": "none"}
BLOCK = MAX_BLOCK_DOCUMENTS
"""Rows in one request to the bare encoder, as in a job."""


POLL_SECONDS = 0.1
"""Between two looks at the batch; `pressroom run` looks less often."""


@dataclass(slots=True)
class Memory:
    """Peaks of resident memory in bytes, each second."""

    worker: int = 0
    producer: int = 0
    """This process: it reads the file and dispatches, too."""
    services: int = 0
    """Postgres, Valkey and S3; what they share counted once."""


@dataclass(frozen=True, slots=True)
class Round:
    """One file through the monitor."""

    seconds: float
    cpu_seconds: float
    """Of all processes."""
    intake: Intake
    report: BatchStatusReport
    memory: Memory


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
    memory, done = Memory(), threading.Event()
    watcher = threading.Thread(target=_watch_memory, args=(machine.worker_pids[0], memory, done))
    watcher.start()
    begun_at, cpu_seconds = time.perf_counter(), _cpu_seconds()
    monitor = put_monitor_of(machine.database, store, options)
    submission, intake = submit_documents(
        machine.database, path, DocumentsOrder(monitor=monitor, settings=OWN), settings, print
    )
    while (report := batch_status(machine.database, submission.batch_id)).status is BatchStatus.RUNNING:
        machine.check()
        time.sleep(POLL_SECONDS)
    seconds, cpu_seconds = time.perf_counter() - begun_at, _cpu_seconds() - cpu_seconds
    done.set()
    watcher.join()
    return Round(seconds, cpu_seconds, intake, report, memory)


def _family() -> list[psutil.Process]:
    return [psutil.Process(), *psutil.Process().children(recursive=True)]


def _cpu_seconds() -> float:
    """So far, of this process and all that it started."""
    total = 0.0
    for process in _family():
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _watch_memory(worker_pid: int, memory: Memory, done: threading.Event) -> None:
    while not done.wait(1.0):
        services = 0
        for process in _family():
            with suppress(psutil.NoSuchProcess):
                if process.pid == worker_pid:
                    memory.worker = max(memory.worker, process.memory_info().rss)
                elif process.pid == os.getpid():
                    memory.producer = max(memory.producer, process.memory_info().rss)
                else:
                    services += process.memory_full_info().pss
        memory.services = max(memory.services, services)


def run_bare(models: Path, pairs: Sequence[TextPair]) -> float:
    """Seconds of the bare classifier, opened for it."""
    resident = open_bare(models)
    try:
        return bare_seconds(resident, pairs)
    finally:
        resident.engine.close()


def run_all(home: Path, files: Files) -> dict[str, Round]:
    """The three files through one monitor, in this order."""
    options = MonitorOptions(
        name=None,
        watch=files.watch,
        model=DEFAULT_CLASSIFIER,
        windows=None,
        time_zone=None,
        rules=None,
        false_alarms_per_week=None,
    )
    os.environ["PRESSROOM_PROFILES"] = json.dumps({PROFILE: {"models": [DEFAULT_CLASSIFIER]}})
    os.environ["PRESSROOM_MODELS_DIR"] = str(Settings().models_folder)
    settings = Settings(home=home)
    with OneMachine(settings, [Device("cpu")], profiles=(PROFILE,), say=print) as machine:
        wait_until_ready(machine)
        load_kind(KIND)  # as `pressroom run` does while workers warm: it costs a second of imports
        return {
            path.stem: run_round(machine, path, options, settings)
            for path in (files.first, files.grown, files.scattered)
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--alone", action="store_true")
    arguments = parser.parse_args()
    models = Settings().models_folder
    with tempfile.TemporaryDirectory(prefix="pressroom-bench-") as name:
        files = make_files(Path(name), arguments.documents)
        bare = [] if arguments.alone else [run_bare(models, files.pairs)]
        rounds = run_all(Path(name) / "home", files)
        bare += [] if arguments.alone else [run_bare(models, files.pairs)]
    if arguments.alone:
        report_alone(files, rounds)
    else:
        report(files, bare, rounds)


def report_alone(files: Files, rounds: Mapping[str, Round]) -> None:
    """Print the memory of the long batch and keep it."""
    first = rounds["first"]
    write_result(
        "sentiment_memory",
        {
            "documents": files.num_documents,
            "seconds": round(first.seconds, 1),
            "documents_per_second": round(files.num_documents / first.seconds, 1),
            "again": _again(rounds),
            "failed_jobs": sum(each.report.counts.failed for each in rounds.values()),
            "memory": _peaks(rounds.values()),
            "machine": machine_facts(),
        },
    )
    print(f"{files.num_documents} documents in one batch: {first.seconds:.0f} s")
    print_again_and_memory(rounds)


def report(files: Files, bare: Sequence[float], rounds: Mapping[str, Round]) -> None:
    """Print the figures and keep them."""
    first = rounds["first"]
    num_pairs = len(files.pairs)
    bare_rate = num_pairs / (sum(bare) / len(bare))
    # Of the questions that reached the model: a document about two companies is two, an unlinked one none.
    rate = num_pairs / first.seconds
    write_result(
        "sentiment",
        {
            "documents": files.num_documents,
            "classified_pairs": num_pairs,
            "bare_seconds": [round(seconds, 2) for seconds in bare],
            "bare_pairs_per_second": round(bare_rate, 1),
            "whole_path_seconds": round(first.seconds, 2),
            "whole_path_cpu_seconds": round(first.cpu_seconds, 2),
            "whole_path_pairs_per_second": round(rate, 1),
            "whole_path_documents_per_second": round(files.num_documents / first.seconds, 1),
            "ratio": round(rate / bare_rate, 3),
            "again": _again(rounds),
            "failed_jobs": sum(each.report.counts.failed for each in rounds.values()),
            "memory": _peaks(rounds.values()),
            "machine": machine_facts(),
        },
    )
    print(f"bare classifier  {bare_rate:8.1f} questions/s ({num_pairs} of {files.num_documents} documents)")
    print(
        f"whole path       {rate:8.1f} questions/s, {files.num_documents / first.seconds:.1f} documents/s, "
        f"{first.cpu_seconds:.0f} s of processor time"
    )
    print(f"ratio            {rate / bare_rate:8.3f}")
    print_again_and_memory(rounds)


def print_again_and_memory(rounds: Mapping[str, Round]) -> None:
    """What both reports end with."""
    first = rounds["first"]
    for name, each in list(rounds.items())[1:]:
        share = each.seconds / first.seconds
        print(f"1% {name:<13} {each.seconds:8.1f} s, {share:.1%} of the first run's {first.seconds:.1f} s")
    peaks = ", ".join(
        f"{name.split('_')[0]} {value / 1e6:.0f} MB" for name, value in _peaks(rounds.values()).items()
    )
    print(f"memory           {peaks}")


def _again(rounds: Mapping[str, Round]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "new_documents": each.intake.num_documents,
            "known_documents": each.intake.num_known,
            "seconds": round(each.seconds, 2),
            "share": round(each.seconds / rounds["first"].seconds, 4),
        }
        for name, each in list(rounds.items())[1:]
    }


def _peaks(rounds: Iterable[Round]) -> dict[str, int]:
    memories = [each.memory for each in rounds]
    return {
        "worker_peak_bytes": max(each.worker for each in memories),
        "producer_peak_bytes": max(each.producer for each in memories),
        "services_peak_bytes": max(each.services for each in memories),
    }


if __name__ == "__main__":
    main()
