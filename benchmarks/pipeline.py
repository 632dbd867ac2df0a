"""Compares the whole pipeline with the engine alone: the same prompts and number of slots, in one run.

`python -m benchmarks.pipeline [--jobs 200]` measures articles in `pressroom run` (Postgres, Valkey, S3,
Celery, one worker) from the first claim to the last commit. Before and after that, it gives the same requests
directly to the engine in this process. It prints the ratio and stores it in benchmarks/results/pipeline.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from benchmarks.machine import machine_facts, write_result
from jobs.inference import Completion, Prompt, Sampling
from jobs.intake.payloads import Accepted, read_lines
from jobs.job import job_seed
from jobs.kind import Context
from jobs.registry import load_kind
from workers.engine import EngineOptions, Request
from workers.model_pool import LanguageModel, load_models
from workers.process import JOBS_PER_SLOT
from workers.settings import DEFAULT_MODEL, Settings

SEED = 20_260_101
TOPICS = (
    "night trains", "sourdough bread", "public libraries", "tide pools", "typewriters", "city bees",
    "lighthouses", "board games", "rain gardens", "street markets", "hand tools", "mountain huts",
)  # fmt: skip
TONES = ("plain", "warm", "dry", "curious")


@dataclass(frozen=True, slots=True)
class Step:
    """One request of a job; the next one is made when this one has been answered."""

    prompt_ids: tuple[int, ...]
    sampling: Sampling


def write_briefs(path: Path, number: int) -> None:
    """Write seeded briefs of 20 to 80 words, a hundred tokens each on average."""
    draw = random.Random(SEED)
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["id", "title", "topic", "tone", "length"])
        for index in range(number):
            topic = draw.choice(TOPICS)
            lines.writerow(
                [f"b{index:05}", f"About {topic}, {index}", topic, draw.choice(TONES), draw.randint(20, 80)]
            )


class _Recorder:
    """The part of `jobs.kind.Context` that an article uses; it calls an engine and records all requests."""

    def __init__(self, language_model: LanguageModel, custom_id: str, settings: Mapping[str, object]) -> None:
        self._language_model = language_model
        self.custom_id = custom_id
        self.settings = settings
        self.seed = job_seed(0, custom_id)
        self.inference = self
        self.steps: list[Step] = []

    def generate(self, prompt: Prompt, sampling: Sampling) -> Completion:
        ids = self._language_model.tokenizer.encode_chat(
            tuple((message.role, message.content) for message in prompt.messages)
        )
        step = Step(ids, sampling)
        self.steps.append(step)
        request_id = f"{self.custom_id}/{len(self.steps)}"
        return self._language_model.engine.submit(
            Request(request_id=request_id, prompt_ids=ids, sampling=sampling)
        ).result()


def record(language_model: LanguageModel, briefs: Path, places: int) -> list[list[Step]]:
    """Run the kind with the engine, and return the recorded requests of every job."""
    kind = load_kind("article")
    settings = kind.settings_type().model_dump(mode="json")
    lines = [line for line in read_lines(briefs, kind) if isinstance(line, Accepted)]

    def run(line: Accepted[Any]) -> list[Step]:
        recorder = _Recorder(language_model, line.custom_id, settings)
        kind.run(line.payload, cast("Context", recorder))
        return recorder.steps

    with ThreadPoolExecutor(places) as pool:
        return list(pool.map(run, lines))


def replay(language_model: LanguageModel, jobs: Sequence[Sequence[Step]], places: int) -> tuple[float, int]:
    """Send the requests without any work between them; return the seconds and the number of new tokens."""
    waiting: Iterator[tuple[int, Sequence[Step]]] = iter(enumerate(jobs))
    lock, done = threading.Lock(), threading.Semaphore(0)
    new_tokens = [0]

    def start_next_job() -> None:
        with lock:
            job = next(waiting, None)
        if job is not None:
            submit(*job, 0)

    def submit(index: int, steps: Sequence[Step], number: int) -> None:
        step = steps[number]
        future = language_model.engine.submit(
            Request(request_id=f"{index}/{number}", prompt_ids=step.prompt_ids, sampling=step.sampling)
        )
        future.add_done_callback(lambda answered: answer(answered, index, steps, number))

    def answer(answered: Future[Completion], index: int, steps: Sequence[Step], number: int) -> None:
        with lock:
            new_tokens[0] += answered.result().usage.new_tokens
        if number + 1 < len(steps):
            submit(index, steps, number + 1)
        else:
            start_next_job()
            done.release()

    begun_at = time.perf_counter()
    for _ in range(places):
        start_next_job()
    for _ in jobs:
        done.acquire()
    return time.perf_counter() - begun_at, new_tokens[0]


def run_pressroom(briefs: Path, folder: Path, models: Path) -> dict[str, object]:
    """Run `pressroom run` in a new home and return the summary that it prints."""
    completed = subprocess.run(
        [
            sys.executable,
            "-m",
            "pressroom",
            "run",
            "articles",
            str(briefs),
            "--out",
            str(folder / "out"),
            "--json",
        ],
        env={**os.environ, "PRESSROOM_HOME": str(folder / "home"), "PRESSROOM_MODELS_DIR": str(models)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    summary: dict[str, object] = json.loads(completed.stdout)
    return summary


def open_bare_engine(models: Path) -> LanguageModel:
    """Open the engine as a worker does."""
    options = EngineOptions(num_threads=len(os.sched_getaffinity(0)))
    return load_models(models, [DEFAULT_MODEL], engine="transformers", options=options).generator(
        DEFAULT_MODEL
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    arguments = parser.parse_args()
    models = Settings().models_folder
    with tempfile.TemporaryDirectory(prefix="pressroom-bench-") as name:
        folder = Path(name)
        briefs = folder / "briefs.csv"
        write_briefs(briefs, arguments.jobs)
        language_model = open_bare_engine(models)
        places = int(language_model.engine.info.num_slots * JOBS_PER_SLOT)
        jobs = record(language_model, briefs, places)
        bare = [replay(language_model, jobs, places)]
        language_model.engine.close()
        summary = run_pressroom(briefs, folder, models)
        language_model = open_bare_engine(models)
        bare.append(replay(language_model, jobs, places))
        num_slots = language_model.engine.info.num_slots
        language_model.engine.close()
    report(arguments.jobs, num_slots, jobs, bare, summary)


def report(
    num_jobs: int,
    num_slots: int,
    jobs: Sequence[Sequence[Step]],
    bare: Sequence[tuple[float, int]],
    summary: Mapping[str, object],
) -> None:
    """Print the figures and store them."""
    bare_rates = [tokens / seconds for seconds, tokens in bare]
    bare_rate = sum(bare_rates) / len(bare_rates)
    rate = float(str(summary["tokens_per_second"]))
    result: dict[str, object] = {
        "jobs": num_jobs,
        "requests": sum(len(steps) for steps in jobs),
        "num_slots": num_slots,
        "bare_new_tokens": bare[0][1],
        "bare_seconds": [round(seconds, 2) for seconds, _ in bare],
        "bare_tokens_per_second": [round(one, 1) for one in bare_rates],
        "pressroom": {name: value for name, value in summary.items() if name != "out"},
        "ratio": round(rate / bare_rate, 3),
        "machine": machine_facts(),
    }
    write_result("pipeline", result)
    before, after = bare_rates
    print(f"bare engine     {bare_rate:8.1f} tokens/s (before {before:.1f}, after {after:.1f})")
    print(f"pressroom run   {rate:8.1f} tokens/s, first claim to last commit {summary['working_seconds']} s")
    print(f"ratio           {rate / bare_rate:8.3f}")
    print(f"start-up        {summary['startup_seconds']} s, not counted")


if __name__ == "__main__":
    main()
