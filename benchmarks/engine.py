"""Compares the engine with one request at a time in transformers: same prompts and lengths, in one run.

    python -m benchmarks.engine [--model FOLDER] [--quick]

The command prints a table on stderr and one JSON object on stdout, and, without --quick, writes
benchmarks/results/engine.json. Ratios compare rows of one run; do not compare runs of different machines.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.machine import machine_facts, write_result
from benchmarks.workload import SEED, WorkItem, article_workload
from jobs.inference import Sampling
from workers.engine import EngineInfo, EngineOptions, Request, Tokenizer
from workers.engines.transformers import open_engine
from workers.models.manifest import model_folder
from workers.settings import DEFAULT_MODEL, read_settings
from workers.tokenizer import load_tokenizer

QUICK_PROMPTS = 8

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Measurement:
    """Measurement of one way of processing the whole workload."""

    name: str
    num_requests: int
    num_new_tokens: int
    seconds: float
    cpus_used: float
    """Processor seconds per second of this process. If it is well below the number of threads, something else
    was running and the row should be discarded."""
    tokens_per_second: float
    times_one_at_a_time: float
    num_equal: int
    """Number of requests whose tokens equal those of generate()."""
    num_near_ties: int
    num_cached_tokens: int


class Stopwatch:
    """Measures wall and processor time of this process from its creation until stop()."""

    def __init__(self) -> None:
        self._began_at, self._cpu_began_at = time.perf_counter(), time.process_time()
        self.seconds = self.cpu_seconds = 0.0

    def stop(self) -> None:
        """Stop and record the times."""
        self.seconds = time.perf_counter() - self._began_at
        self.cpu_seconds = time.process_time() - self._cpu_began_at


def measure_generate(model_folder: Path, items: Sequence[WorkItem]) -> tuple[list[Tokens], Stopwatch]:
    """Call transformers' generate() for one request after another; return all tokens and the time."""
    model = transformers.AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    torch.nn.Module.eval(model)
    model.generation_config.eos_token_id = None  # all ways ignore the end of the text
    model.generation_config.pad_token_id = 0
    _generate(model, WorkItem(items[0].prompt_ids, 4))  # warm
    watch = Stopwatch()
    tokens = [_generate(model, item) for item in items]
    watch.stop()
    return tokens, watch


def _generate(model: Any, item: WorkItem) -> Tokens:
    prompt = torch.tensor([item.prompt_ids])
    with torch.inference_mode():
        output = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=item.max_new_tokens,
            do_sample=False,
        )
    return tuple(output[0, len(item.prompt_ids) :].tolist())


def measure_engine(
    model_folder: Path,
    tokenizer: Tokenizer,
    items: Sequence[WorkItem],
    options: EngineOptions,
    expected: Sequence[Tokens],
    baseline_seconds: float,
) -> tuple[Measurement, EngineInfo]:
    """Submit all requests at once to Pressroom's engine, which is warmed up but has cached no prefix."""
    engine = open_engine(model_folder, tokenizer, options)
    try:
        engine.warm()
        watch = Stopwatch()
        futures = [
            engine.submit(
                Request(
                    request_id=f"item-{index}",
                    prompt_ids=item.prompt_ids,
                    sampling=Sampling(max_new_tokens=item.max_new_tokens, ignore_end_of_text=True),
                )
            )
            for index, item in enumerate(items)
        ]
        done = [future.result() for future in futures]
        watch.stop()
    finally:
        engine.close()
    num_new_tokens = sum(completion.usage.new_tokens for completion in done)
    measurement = Measurement(
        name="engine, shared prefix" if options.max_prefix_tokens else "engine, prefix cache off",
        num_requests=len(items),
        num_new_tokens=num_new_tokens,
        seconds=watch.seconds,
        cpus_used=watch.cpu_seconds / watch.seconds,
        tokens_per_second=num_new_tokens / watch.seconds,
        times_one_at_a_time=baseline_seconds / watch.seconds,
        num_equal=sum(mine.token_ids == theirs for mine, theirs in zip(done, expected, strict=True)),
        num_near_ties=sum(completion.num_near_ties for completion in done),
        num_cached_tokens=sum(completion.usage.cached_tokens for completion in done),
    )
    return measurement, engine.info


def run(model_folder: Path, num_prompts: int | None, num_threads: int | None) -> dict[str, object]:
    """Return all measurements with the facts needed to read them, ready for JSON."""
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer = load_tokenizer(model_folder)
    items = article_workload(tokenizer)[:num_prompts]
    expected, watch = measure_generate(model_folder, items)
    num_new_tokens = sum(map(len, expected))
    baseline = Measurement(
        "transformers generate(), one at a time",
        len(items),
        num_new_tokens,
        watch.seconds,
        watch.cpu_seconds / watch.seconds,
        num_new_tokens / watch.seconds,
        1.0,
        len(items),
        0,
        0,
    )
    measurements = [baseline]
    for max_prefix_tokens in (EngineOptions().max_prefix_tokens, 0):
        options = EngineOptions(max_prefix_tokens=max_prefix_tokens, num_threads=num_threads)
        measurement, info = measure_engine(model_folder, tokenizer, items, options, expected, watch.seconds)
        measurements.append(measurement)
    return {
        "workload": {"num_prompts": len(items), "seed": SEED, "is_whole": num_prompts is None},
        "machine": {**machine_facts(), "num_threads": torch.get_num_threads()},
        "engine": asdict(info),
        "measurements": [asdict(measurement) for measurement in measurements],
    }


def table(result: dict[str, object]) -> str:
    """Return the measurements as a table to read."""
    lines = [
        f"{'':38} {'seconds':>8} {'cpus':>5} {'tok/s':>7} {'x':>6} {'equal':>8} {'ties':>5} {'cached':>7}"
    ]
    measurements = result["measurements"]
    if isinstance(measurements, list):
        lines += [
            "{name:38} {seconds:8.1f} {cpus_used:5.2f} {tokens_per_second:7.1f} {times_one_at_a_time:6.2f} "
            "{num_equal:>3} / {num_requests:<2} {num_near_ties:5} {num_cached_tokens:7}".format(**row)
            for row in measurements
        ]
    return "\n".join(lines)


def main() -> None:
    """Parse the arguments, run the benchmark, print the results and write them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--model", type=Path, help="folder of a model; default: the default model, installed")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PROMPTS} prompts, nothing written")
    parser.add_argument("--threads", type=int, help="CPU threads; default: as torch chooses")
    arguments = parser.parse_args()
    folder = arguments.model or model_folder(read_settings().models_folder, DEFAULT_MODEL)
    result = run(folder, QUICK_PROMPTS if arguments.quick else None, arguments.threads)
    print(table(result), file=sys.stderr)
    print(json.dumps(result, indent=2))
    if not arguments.quick:
        write_result("engine", result)


if __name__ == "__main__":
    main()
