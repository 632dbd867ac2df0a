"""Measures what examples in the prompt do to the accuracy of a classification.

    python -m benchmarks.few_shot [--data DIR] [--rows 100]

The rows are questions of a bank's customers with the ten most frequent intents of BANKING77 (Casanueva et al.
2020, arXiv:2003.04807). The other questions with these intents are the examples. Each row is run by the kind
`prompt` with 0, 3 and 5 examples, once with free text, of which only the exact name of the intent counts, and
once restricted to the ten names. The answer of the nearest example alone is the yardstick: a language model
that does not beat it is not needed for this task.

Exits with 2 if `banking77-train.csv` is not in DIR. The command prints one JSON object on stdout and, with
all rows, writes benchmarks/results/few_shot.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast
from uuid import UUID

from benchmarks.machine import machine_facts, write_result
from jobs.job import ClaimedJob
from jobs.kind import Context, Resources
from kinds.prompt.examples import Example, ExampleMetrics, example_bytes
from kinds.prompt.kind import PromptKind
from kinds.prompt.payload import PromptPayload, PromptSettings
from storage.memory import MemoryStore
from storage.resources import put_resource
from workers.engine import EngineOptions
from workers.inference import JobInference
from workers.model_pool import ModelPool, load_models
from workers.ports import StoredResources
from workers.settings import DEFAULT_EMBEDDER, DEFAULT_MODEL, read_settings

DATA = Path("../shared/data/customer-service")
FILE = "banking77-train.csv"
NUM_INTENTS = 10
NUM_ROWS = 100
NUMS_EXAMPLES = (0, 3, 5)
NUM_JOBS = 16
"""Number of jobs in flight."""
SEED = 7

SYSTEM = "Answer with the intent of the customer's question. The intents are: {intents}."
TEMPLATE = "{{ text }}"

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Task:
    """The rows to classify, and the rows from which the examples are taken."""

    intents: tuple[str, ...]
    rows: Sequence[Row]
    others: Sequence[Row]

    @classmethod
    def read(cls, path: Path, num_rows: int) -> Task:
        """Read the questions with the most frequent intents, and draw the rows from them."""
        with path.open(newline="", encoding="utf-8") as file:
            questions = list(csv.DictReader(file))
        counts = Counter(question["category"] for question in questions)
        intents = tuple(intent for intent, _ in counts.most_common(NUM_INTENTS))
        own = [question for question in questions if question["category"] in intents]
        random.Random(SEED).shuffle(own)
        return cls(intents, own[:num_rows], own[num_rows:])

    def settings(self, num_examples: int, *, is_restricted: bool) -> PromptSettings:
        """Return the settings of a batch, without the digest of its examples."""
        values: dict[str, object] = {
            "template": TEMPLATE,
            "system": SYSTEM.format(intents=", ".join(self.intents)),
            "into": "category",
            "max_tokens": 24,
            "stop": ["\n"],
            "num_examples": max(num_examples, 1),
            "choice": self.intents if is_restricted else (),
        }
        return PromptSettings.model_validate(values)


@dataclass(frozen=True, slots=True)
class JobContext:
    """Implements the parts of jobs.kind.Context that a row with examples needs."""

    inference: JobInference
    resources: Resources
    settings: Mapping[str, object]
    seed: int = SEED


def measure(task: Task, models: ModelPool) -> list[dict[str, object]]:
    """Return the accuracy for each number of examples, with free and with restricted answers."""
    store = MemoryStore()
    resources = StoredResources(store)
    settings = task.settings(1, is_restricted=False)
    examples = {str(n): Example.of(str(n), row, settings) for n, row in enumerate(task.others)}
    sha256 = put_resource(store, example_bytes(list(examples.values())), media_type="application/json")
    figures: list[dict[str, object]] = []
    for is_restricted in (False, True):
        for number in NUMS_EXAMPLES:
            own = task.settings(number, is_restricted=is_restricted)
            if number:
                own = own.model_copy(update={"examples_sha256": sha256, "embedder": DEFAULT_EMBEDDER})
            answers = list(_answers(task, own, models, resources))
            figures.append(
                {"num_examples": number, "is_restricted": is_restricted} | _score(task, answers, examples)
            )
            print(json.dumps(figures[-1]), file=sys.stderr)
    return figures


def _answers(
    task: Task, settings: PromptSettings, models: ModelPool, resources: Resources
) -> Iterator[tuple[str, ExampleMetrics]]:
    """Yield the answer of each row, and the examples in its prompt."""
    kind, values = PromptKind(), settings.model_dump(mode="json")

    def job(number: int) -> tuple[str, ExampleMetrics]:
        context = JobContext(_inference(number, models), resources, values)
        payload = PromptPayload(row={"text": task.rows[number]["text"]})
        result = kind.run(payload, cast("Context", context))
        return result.artifacts[0].body.decode().strip(), ExampleMetrics.model_validate(result.metrics)

    with ThreadPoolExecutor(NUM_JOBS) as pool:
        yield from pool.map(job, range(len(task.rows)))


def _inference(number: int, models: ModelPool) -> JobInference:
    job = ClaimedJob(
        id=UUID(int=number),
        batch_id=UUID(int=0),
        kind="prompt",
        stage="generate",
        custom_id=str(number),
        payload={},
        settings={},
        model=DEFAULT_MODEL,
        seed=SEED,
        queued_at=datetime.now(UTC),
        attempt=1,
        num_failures=0,
        max_attempts=1,
        seconds_to_deadline=None,
    )
    return JobInference(job, models, deadline_at=time.monotonic() + 3600)


def _score(
    task: Task, answers: Sequence[tuple[str, ExampleMetrics]], examples: Mapping[str, Example]
) -> dict[str, object]:
    gold = [row["category"] for row in task.rows]
    texts = [text for text, _ in answers]
    pairs = [
        (want, metrics.examples[-1])
        for want, (_, metrics) in zip(gold, answers, strict=True)
        if metrics.examples
    ]
    score: dict[str, object] = {
        "accuracy": round(sum(map(str.__eq__, gold, texts)) / len(gold), 3),
        "share_of_intents": round(sum(text in task.intents for text in texts) / len(gold), 3),
        "num_examples_left_out": sum(metrics.num_examples_left_out for _, metrics in answers),
    }
    if pairs:
        num_right = sum(examples[name].answer == want for want, name in pairs)
        score["accuracy_of_nearest_example"] = round(num_right / len(gold), 3)
    return score


def main() -> None:
    """Parse the arguments, run the benchmark, print the results and write them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few_shot", description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder with {FILE}")
    parser.add_argument("--rows", type=int, default=NUM_ROWS, help=f"number of rows; {NUM_ROWS} are written")
    arguments = parser.parse_args()
    path = arguments.data / FILE
    if not path.is_file():
        print(f"{path} does not exist: name its folder with --data", file=sys.stderr)
        sys.exit(2)
    task = Task.read(path, arguments.rows)
    options = EngineOptions(num_threads=len(os.sched_getaffinity(0)))
    names = [DEFAULT_MODEL, DEFAULT_EMBEDDER]
    models = load_models(read_settings().models_folder, names, engine="transformers", options=options)
    try:
        figures = measure(task, models)
    finally:
        models.close()
    result = {
        "workload": {
            "data": "BANKING77, ten most frequent intents of the training set",
            "num_rows": len(task.rows),
            "num_examples_in_file": len(task.others),
            "seed": SEED,
        },
        "machine": machine_facts(),
        "models": names,
        "figures": figures,
    }
    print(json.dumps(result, indent=2))
    if arguments.rows == NUM_ROWS:
        write_result("few_shot", result)


if __name__ == "__main__":
    main()
