"""Compares the embedding lines of an OpenAI batch file with the bare encoder: same model and texts, one run.

    python -m benchmarks.embedding_lines [--quick]

The bare encoder gets token ids in batches sorted by length, in one thread of control. The lines are parsed
and checked as at intake, run in blocks through the jobs of a worker, and written as output lines; the
database and the store have no part in it. Both are measured in turn, so that other load affects them alike.
The command prints one JSON object on stdout and, without --quick, writes
benchmarks/results/embedding_lines.json.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import UUID

import torch

from benchmarks.machine import machine_facts, write_result
from jobs.inference import TextPair
from jobs.job import ClaimedJob
from jobs.shown import json_text
from kinds.prompt.openai.blocks import BlockMaker, read_outcomes, run_block
from kinds.prompt.openai.lines import EMBEDDINGS, BlockLine, ModelMap, read_request
from kinds.prompt.openai.responses import output_line
from workers.engine import EngineOptions, Vector
from workers.engines.encoder_model import TransformersEncoder
from workers.engines.length_batches import LengthBatches
from workers.inference import JobInference
from workers.model_pool import ModelPool, load_models
from workers.models.manifest import model_folder, read_manifest
from workers.settings import DEFAULT_EMBEDDER, read_settings
from workers.tokenizer import RowTokenizer, load_row_tokenizer

NUM_TEXTS = 2048
QUICK_DIVISOR = 8
NUM_PAIRS = 5
"""Number of interleaved pairs; the ratio is the median of theirs."""
NUM_JOBS = 4
"""Number of jobs in flight."""
SEED = 7

MODEL_NAME = "text-embedding-3-small"
NOW = datetime(2026, 3, 1, tzinfo=UTC)

_WORDS = (
    "bread", "flour", "oven", "the", "of", "a", "slow", "price", "market", "report", "customer", "delivery",
    "asks", "wants", "late", "about", "refund", "baker", "and", "with", "morning", "company", "order", "new",
)  # fmt: skip


def made_up_texts(number: int) -> list[str]:
    """Return distinct texts of 8 to 80 words."""
    draw = random.Random(SEED)
    return [f"{' '.join(draw.choices(_WORDS, k=draw.randint(8, 80)))} {count}" for count in range(number)]


def batch_file(texts: Sequence[str], encoding_format: str) -> list[str]:
    """Return one line for each text."""
    return [
        json.dumps(
            {
                "custom_id": f"text-{number}",
                "method": "POST",
                "url": EMBEDDINGS,
                "body": {"model": MODEL_NAME, "input": text, "encoding_format": encoding_format},
            }
        )
        for number, text in enumerate(texts)
    ]


def bare_encoder(
    executor: TransformersEncoder, tokenizer: RowTokenizer, texts: Sequence[str]
) -> list[Vector]:
    """Embed the texts in the engine's batches and with its arithmetic, in this thread."""
    rows = tokenizer.encode([TextPair(text) for text in texts])
    batches: LengthBatches[int] = LengthBatches(
        max_batch_tokens=executor.info.max_batch_tokens, step_tokens=executor.step_tokens
    )
    for place, row in enumerate(rows):
        batches.add(len(row.token_ids), place)
    answers: list[Vector] = [()] * len(texts)
    while batch := batches.take():
        for place, answer in zip(batch, executor.encode([rows[place] for place in batch]), strict=True):
            answers[place] = answer
    return answers


def through_lines(models: ModelPool, lines: Sequence[str]) -> list[str]:
    """Return the output line of each line of a batch file."""
    model_map = ModelMap({MODEL_NAME: DEFAULT_EMBEDDER}, (DEFAULT_EMBEDDER,), lambda _: "embed")
    blocks: list[tuple[BlockLine, ...]] = []
    maker = BlockMaker()
    for line in lines:
        maker.add(read_request(json.loads(line), model_map))
        if maker.is_full:
            blocks.append(maker.take())
    if maker.lines:
        blocks.append(maker.take())

    def run(number: int) -> list[str]:
        inference = JobInference(_job(number), models, deadline_at=time.monotonic() + 3600)
        result = run_block(blocks[number], inference)
        inference.model_use()
        return [
            json_text(
                output_line(f"{number}-{place}", outcome.custom_id, outcome.body(), NOW), is_compact=True
            )
            for place, outcome in enumerate(read_outcomes(result.artifacts[0].body))
        ]

    with ThreadPoolExecutor(NUM_JOBS) as pool:
        return [line for block in pool.map(run, range(len(blocks))) for line in block]


def _job(number: int) -> ClaimedJob:
    return ClaimedJob(
        id=UUID(int=number),
        batch_id=UUID(int=0),
        kind="prompt",
        stage="generate",
        custom_id=f"block-{number}",
        payload={},
        settings={},
        model=DEFAULT_EMBEDDER,
        seed=0,
        queued_at=NOW,
        attempt=1,
        num_failures=0,
        max_attempts=1,
        seconds_to_deadline=None,
    )


def run(divisor: int) -> dict[str, object]:
    """Return all measurements with the facts needed to read them, ready for JSON."""
    folder = model_folder(read_settings().models_folder, DEFAULT_EMBEDDER)
    tokenizer = load_row_tokenizer(folder)
    executor = TransformersEncoder(folder, tokenizer.max_tokens, EngineOptions(), "embed")
    options = EngineOptions(num_threads=torch.get_num_threads())
    models = load_models(folder.parent, [folder.name], engine="transformers", options=options)
    texts = made_up_texts(NUM_TEXTS // divisor)
    files = {form: batch_file(texts, form) for form in ("float", "base64")}
    try:
        bare_encoder(executor, tokenizer, texts[:64])
        through_lines(models, files["float"][:64])
        pairs = [_pair(executor, tokenizer, models, texts, files) for _ in range(NUM_PAIRS)]
    finally:
        models.close()
    names = list(pairs[0])
    return {
        "workload": {"num_texts": len(texts), "num_pairs": NUM_PAIRS, "is_whole": divisor == 1},
        "machine": {**machine_facts(), "num_threads": torch.get_num_threads()},
        "model": read_manifest(folder).model_dump(mode="json", include={"name", "source", "weights_sha256"}),
        "texts_per_second": {name: [round(len(texts) / pair[name], 1) for pair in pairs] for name in names},
        "ratio_to_bare": {
            name: round(statistics.median(pair["bare encoder"] / pair[name] for pair in pairs), 3)
            for name in names
        },
    }


def _pair(
    executor: TransformersEncoder,
    tokenizer: RowTokenizer,
    models: ModelPool,
    texts: Sequence[str],
    files: dict[str, list[str]],
) -> dict[str, float]:
    """Return the seconds that each way takes."""
    seconds: dict[str, float] = {}
    begun_at = time.perf_counter()
    bare_encoder(executor, tokenizer, texts)
    seconds["bare encoder"] = time.perf_counter() - begun_at
    for form, lines in files.items():
        begun_at = time.perf_counter()
        through_lines(models, lines)
        seconds[f"lines, {form}"] = time.perf_counter() - begun_at
    return seconds


def main() -> None:
    """Parse the arguments, run the benchmark, print the results and write them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embedding_lines", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help=f"1/{QUICK_DIVISOR} of the texts, nothing written"
    )
    arguments = parser.parse_args()
    result = run(QUICK_DIVISOR if arguments.quick else 1)
    print(json.dumps(result, indent=2))
    if not arguments.quick:
        write_result("embedding_lines", result)


if __name__ == "__main__":
    main()
