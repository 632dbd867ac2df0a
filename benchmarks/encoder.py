"""Compares classification in workers with the transformers pipeline, a text at a time: same model, one run.

    python -m benchmarks.encoder [--data DIR] [--model FOLDER] [--quick]

DIR contains sentfin.csv (headlines with the entities that they are about); without --data, headlines are
invented. The command prints a table on stderr and one JSON object on stdout, and, without --quick, writes
benchmarks/results/encoder.json. Ratios compare rows of one run; do not compare runs of different machines.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import torch
import transformers

from benchmarks.machine import machine_facts, write_result
from jobs.inference import TextPair
from jobs.job import ClaimedJob
from jobs.rejection import Rejected
from jobs.text.plain import normalise
from kinds.classifier.labelled_texts import LabelColumns, read_labelled_texts
from workers.engine import EngineOptions, Vector
from workers.engines.encoder_model import TransformersEncoder
from workers.engines.length_batches import LengthBatches
from workers.inference import JobInference
from workers.model_pool import ModelPool, load_models
from workers.models.classifier import ClassifierSettings, read_classifier_settings
from workers.models.manifest import model_folder, read_manifest
from workers.settings import DEFAULT_CLASSIFIER, read_settings
from workers.tokenizer import RowTokenizer, load_row_tokenizer

NUM_TEXTS = 4000
NUM_ONE_AT_A_TIME = 800
"""Number of texts for the slow way: every fifth text, since it need not classify all of them."""
QUICK_DIVISOR = 10
BLOCK_TEXTS = 250
NUM_JOBS = 4
"""Number of jobs in flight, as in a worker without a language model."""
BARE_BATCH = 64
ROUNDS = 4
"""Number of rounds, each of which gives a quarter of the texts to all ways in turn."""
SEED = 7

_COMPANIES = ("Acme", "Birch Energy", "Cedar Foods", "Delta Rail", "Elm Bank", "Fir Motors", "Grove Pharma")
_VERBS = (
    "beats estimates", "warns on margins", "to buy a stake in a rival", "shares fall", "raises guidance",
    "names a new chief executive", "faces a probe over accounts", "wins a contract", "cuts jobs",
)  # fmt: skip
_TAILS = (
    "", "as demand grows", "after a weak quarter", "amid talk of a takeover by a private equity group",
    "analysts say", "on higher costs and a strong currency", "for the third time this year",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measurement:
    """Measurement of one way of classifying the texts."""

    name: str
    num_texts: int
    seconds: float
    texts_per_second: float
    texts_per_cpu_second: float
    cpus_used: float
    """Processor seconds per second of this process and the encoder's. If it is well below the number of
    threads, something else was running and the row should be discarded."""
    times_one_at_a_time: float
    max_difference: float
    """Largest difference of a probability from that in the first row of the table."""


Way = tuple[str, Sequence[TextPair], Callable[[Sequence[TextPair]], list[Vector]]]
"""Name of a way, the texts that it classifies, and the function that does it."""


def read_pairs(data: Path | None, number: int) -> list[TextPair]:
    """Return distinct headlines, each about one entity, in the form that the classifier expects."""
    given = _made_up() if data is None else _sentfin(data / "sentfin.csv")
    distinct: dict[TextPair, None] = {}
    for pair in given:
        distinct[TextPair(normalise(pair.text), normalise(pair.target))] = None
        if len(distinct) == number:
            break
    return list(distinct)


def _sentfin(path: Path) -> Iterator[TextPair]:
    if not path.is_file():
        sys.stderr.write(f"{path} is missing: get SEntFiN 1.0 (MIT, Sinha et al.), or leave --data away\n")
        sys.exit(2)
    for one in read_labelled_texts(path, LabelColumns(text="Title", targets="Decisions")):
        if not isinstance(one, Rejected):
            yield TextPair(one.text, one.target)


def _made_up() -> Iterator[TextPair]:
    draw = random.Random(SEED)
    while True:
        company = draw.choice(_COMPANIES)
        number = draw.randint(2, 999)
        text = f"{company} {draw.choice(_VERBS)} {draw.choice(_TAILS)} {number}"
        yield TextPair(text, company)


def one_at_a_time(pipe: Any, settings: ClassifierSettings, pairs: Sequence[TextPair]) -> list[Vector]:
    """Call `pipeline(...)` for each document, as the first example of its documentation does."""
    answers = []
    for pair in pairs:
        given = {"text": pair.text, "text_pair": pair.target} if _takes_target(settings, pair) else pair.text
        answers.append(_probabilities(pipe(given, top_k=None, function_to_apply="none"), settings))
    return answers


def _pipeline(folder: Path, settings: ClassifierSettings) -> Any:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
    model.config.id2label = {place: label for label, place in settings.labels.items()}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer.model_max_length = settings.max_tokens
    return transformers.pipeline(
        "text-classification", model=model, tokenizer=tokenizer, device="cpu", truncation=True
    )


def _takes_target(settings: ClassifierSettings, pair: TextPair) -> bool:
    return settings.input == "text_and_target" and bool(pair.target)


def _probabilities(scores: Sequence[dict[str, Any]], settings: ClassifierSettings) -> Vector:
    logits = {str(score["label"]): float(score["score"]) for score in scores}
    ordered = torch.tensor([logits[label] for label in settings.names], dtype=torch.float64)
    return tuple((ordered / settings.temperature).softmax(0).tolist())


def sorted_batches(pipe: Any, settings: ClassifierSettings, pairs: Sequence[TextPair]) -> list[Vector]:
    """Call the same pipeline with batches of 64, sorted by length, as a careful user would."""
    order = sorted(range(len(pairs)), key=lambda place: len(pairs[place].text) + len(pairs[place].target))
    given = [
        {"text": pairs[place].text, "text_pair": pairs[place].target}
        if _takes_target(settings, pairs[place])
        else {"text": pairs[place].text}
        for place in order
    ]
    found = pipe(given, top_k=None, function_to_apply="none", batch_size=BARE_BATCH)
    answers: list[Vector] = [()] * len(pairs)
    for place, scores in zip(order, found, strict=True):
        answers[place] = _probabilities(scores, settings)
    return answers


def engine_core(
    executor: TransformersEncoder, tokenizer: RowTokenizer, pairs: Sequence[TextPair]
) -> list[Vector]:
    """Run the engine's batches and arithmetic in this thread, which gives the upper limit of its speed."""
    rows = tokenizer.encode(pairs)
    batches: LengthBatches[int] = LengthBatches(
        max_batch_tokens=executor.info.max_batch_tokens, step_tokens=executor.step_tokens
    )
    for place, row in enumerate(rows):
        batches.add(len(row.token_ids), place)
    answers: list[Vector] = [()] * len(pairs)
    while batch := batches.take():
        for place, answer in zip(batch, executor.encode([rows[place] for place in batch]), strict=True):
            answers[place] = answer
    return answers


def through_jobs(warm: ModelPool, model: str, pairs: Sequence[TextPair]) -> list[Vector]:
    """Classify blocks of 250 with four jobs at a time, each of which records digests for its provenance."""

    def classify(begin: int) -> list[Vector]:
        inference = JobInference(_job(model, begin), warm, deadline_at=time.monotonic() + 3600)
        answers = inference.classify(pairs[begin : begin + BLOCK_TEXTS])
        inference.model_use()
        return [one.values for one in answers]

    with ThreadPoolExecutor(NUM_JOBS) as pool:
        blocks = pool.map(classify, range(0, len(pairs), BLOCK_TEXTS))
        return [answer for block in blocks for answer in block]


def _job(model: str, number: int) -> ClaimedJob:
    return ClaimedJob(
        id=UUID(int=number),
        batch_id=UUID(int=0),
        kind="sentiment_labels",
        stage="write",
        custom_id=f"block-{number}",
        payload={},
        settings={},
        model=model,
        seed=0,
        queued_at=datetime.now(UTC),
        attempt=1,
        num_failures=0,
        max_attempts=1,
        seconds_to_deadline=None,
    )


def run(folder: Path, data: Path | None, divisor: int) -> dict[str, object]:
    """Return all measurements with the facts needed to read them, ready for JSON."""
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    settings = read_classifier_settings(folder)
    pairs = read_pairs(data, NUM_TEXTS // divisor)
    few = pairs[:: len(pairs) // min(len(pairs), NUM_ONE_AT_A_TIME // divisor)]
    pipe, tokenizer = _pipeline(folder, settings), load_row_tokenizer(folder)
    executor = TransformersEncoder(folder, tokenizer.max_tokens, EngineOptions(), "classify")
    options = EngineOptions(num_threads=torch.get_num_threads())
    warm = load_models(folder.parent, [folder.name], engine="transformers", options=options)
    ways: list[Way] = [
        ("pipeline, one document at a time", few, lambda given: one_at_a_time(pipe, settings, given)),
        ("pipeline, sorted batches of 64", pairs, lambda given: sorted_batches(pipe, settings, given)),
        ("engine core, one thread of control", pairs, lambda given: engine_core(executor, tokenizer, given)),
        ("engine, four jobs at a time", pairs, lambda given: through_jobs(warm, folder.name, given)),
    ]
    try:
        measurements = _measure(ways)
    finally:
        warm.close()
    return {
        "workload": {
            "texts": "made up" if data is None else "sentfin.csv",
            "num_texts": len(pairs),
            "mean_tokens": round(_mean_tokens(folder, pairs), 1),
            "is_whole": divisor == 1,
        },
        "machine": {**machine_facts(), "num_threads": torch.get_num_threads()},
        "model": read_manifest(folder).model_dump(mode="json", include={"name", "source", "weights_sha256"}),
        "engine": asdict(executor.info),
        "measurements": [asdict(measurement) for measurement in measurements],
    }


def _mean_tokens(folder: Path, pairs: Sequence[TextPair]) -> float:
    return sum(len(row.token_ids) for row in load_row_tokenizer(folder).encode(pairs)) / len(pairs)


def _measure(ways: Sequence[Way]) -> list[Measurement]:
    """Measure all ways in turn, several times, so that other load on the machine affects all of them."""
    for _, given, classify in ways:
        classify(given[:BARE_BATCH])  # warm up: loads what is loaded only once
    found: list[dict[TextPair, Vector]] = [{} for _ in ways]
    taken: list[list[float]] = [[0.0, 0.0] for _ in ways]
    for number in range(ROUNDS):
        for place, (_, given, classify) in enumerate(ways):
            part = given[number::ROUNDS]
            wall, cpu = time.perf_counter(), _cpu_seconds()
            answers = classify(part)
            taken[place][0] += time.perf_counter() - wall
            taken[place][1] += _cpu_seconds() - cpu
            found[place] |= zip(part, answers, strict=True)
    rates = [len(given) / seconds for (_, given, _), (seconds, _) in zip(ways, taken, strict=True)]
    return [
        Measurement(
            name=name,
            num_texts=len(given),
            seconds=round(seconds, 3),
            texts_per_second=round(rates[place], 1),
            texts_per_cpu_second=round(len(given) / cpu_seconds, 1),
            cpus_used=round(cpu_seconds / seconds, 2),
            times_one_at_a_time=round(rates[place] / rates[0], 2),
            max_difference=max(
                abs(a - b)
                for pair in found[0]
                for a, b in zip(found[0][pair], found[place][pair], strict=True)
            ),
        )
        for place, ((name, given, _), (seconds, cpu_seconds)) in enumerate(zip(ways, taken, strict=True))
    ]


def _cpu_seconds() -> float:
    """Return the processor seconds of this process and its children so far."""
    processes = (psutil.Process(), *psutil.Process().children(recursive=True))
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def table(result: dict[str, object]) -> str:
    """Return the measurements as a table to read."""
    columns = (
        f"{'texts':>6} {'seconds':>8} {'cpus':>5} {'texts/s':>8} {'a cpu-s':>8} {'x':>6} {'difference':>11}"
    )
    lines = [f"{'':36} {columns}"]
    measurements = result["measurements"]
    if isinstance(measurements, list):
        lines += [
            "{name:36} {num_texts:6} {seconds:8.2f} {cpus_used:5.2f} {texts_per_second:8.1f} "
            "{texts_per_cpu_second:8.1f} {times_one_at_a_time:6.2f} {max_difference:11.1e}".format(**row)
            for row in measurements
        ]
    return "\n".join(lines)


def main() -> None:
    """Parse the arguments, run the benchmark, print the results and write them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoder", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with sentfin.csv; default: made-up headlines")
    parser.add_argument(
        "--model", type=Path, help="folder of a classifier; default: the default one, installed"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"1/{QUICK_DIVISOR} of the texts, nothing written"
    )
    arguments = parser.parse_args()
    folder = arguments.model or model_folder(read_settings().models_folder, DEFAULT_CLASSIFIER)
    result = run(folder, arguments.data, QUICK_DIVISOR if arguments.quick else 1)
    print(table(result), file=sys.stderr)
    print(json.dumps(result, indent=2))
    if not arguments.quick:
        write_result("encoder", result)


if __name__ == "__main__":
    main()
